//! The report as JUnit XML: a test case for each rule, and one for each path.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    model::{
        check::{finding::Finding, pairing::Outcome},
        code::{CODES, Severity},
    },
    ops::verify::{Report, Tried},
};

/// The document.
pub fn document(report: &Report) -> String {
    let (rules, broken) = rules(report);
    let (paths, failed, skipped) = handshakes(report);
    let (rule_count, path_count) = (rules.len(), paths.len());
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "<testsuites name=\"certkit verify\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\">",
        rule_count + path_count,
        broken + failed
    );
    let _ = writeln!(
        text,
        "  <testsuite name=\"rules\" tests=\"{rule_count}\" failures=\"{broken}\">\n{}  </testsuite>",
        rules.concat()
    );
    let _ = writeln!(
        text,
        "  <testsuite name=\"paths\" tests=\"{path_count}\" failures=\"{failed}\" \
         skipped=\"{skipped}\">\n{}  </testsuite>\n</testsuites>",
        paths.concat()
    );
    text
}

fn rules(report: &Report) -> (Vec<String>, usize) {
    let mut broken = 0;
    let cases = CODES.iter().map(|spec| {
        let found: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|f| f.code == spec.code && f.severity > Severity::Info)
            .collect();
        let name = escape(spec.name);
        if found.is_empty() {
            return format!("    <testcase classname=\"certkit.rules\" name=\"{name}\"/>\n");
        }
        broken += 1;
        let lines: Vec<String> = found.iter().map(|f| line(f)).collect();
        format!(
            "    <testcase classname=\"certkit.rules\" name=\"{name}\">\n      \
             <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n",
            found[0].severity.name(),
            escape(spec.title),
            escape(&lines.join("\n"))
        )
    });
    let cases = cases.collect();
    (cases, broken)
}

fn line(finding: &Finding) -> String {
    let files: Vec<String> = finding.files.iter().map(|f| f.display().to_string()).collect();
    format!("{} ({}): {}; {}", finding.subject, files.join(", "), finding.what, finding.hint)
}

/// A path counts once, however many hosts have a part in it.
fn handshakes(report: &Report) -> (Vec<String>, usize, usize) {
    let mut order: Vec<&str> = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<&Tried>> = BTreeMap::new();
    for tried in &report.tried {
        if !by_name.contains_key(tried.name.as_str()) {
            order.push(&tried.name);
        }
        by_name.entry(&tried.name).or_default().push(tried);
    }
    let (mut failed, mut skipped, mut cases) = (0, 0, Vec::new());
    for name in order {
        let all = by_name.remove(name).unwrap_or_default();
        let wrong: Vec<String> = all
            .iter()
            .filter(|t| !t.is_as_expected() && !matches!(t.outcome, Outcome::Untried(_)))
            .map(|t| {
                let client = t.client.as_deref().unwrap_or("no certificate");
                format!("{client} to {}: {}", t.server, super::table::outcome(t))
            })
            .collect();
        let untried = all.iter().find_map(|t| match &t.outcome {
            Outcome::Untried(why) => Some(why),
            _ => None,
        });
        let inside = match (wrong.as_slice(), untried) {
            ([], None) => {
                cases.push(format!(
                    "    <testcase classname=\"certkit.paths\" name=\"{}\"/>\n",
                    escape(name)
                ));
                continue;
            }
            ([], Some(why)) => {
                skipped += 1;
                format!("<skipped message=\"{}\"/>", escape(why))
            }
            (wrong, _) => {
                failed += 1;
                let expected = super::table::expected(all[0].pairing.expect);
                format!(
                    "<failure type=\"critical\" message=\"expected: {expected}\">{}</failure>",
                    escape(&wrong.join("\n"))
                )
            }
        };
        cases.push(format!(
            "    <testcase classname=\"certkit.paths\" name=\"{}\">\n      {inside}\n    </testcase>\n",
            escape(name)
        ));
    }
    (cases, failed, skipped)
}

/// XML 1.0 has no way to write most control characters: they become question marks.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
