//! The report for a terminal.

use std::fmt::Write as _;

use crate::{
    cli::{Global, output},
    model::check::{Severity, finding::Finding, pairing::Expect},
    ops::verify::{Report, Tried},
};

/// How many paths of one finding are named before the rest is counted.
const NAMED: usize = 4;

/// The report.
pub fn text(report: &Report, global: &Global) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        if finding.severity > Severity::Info || !global.quiet {
            one(&mut text, finding, global.verbose);
        }
    }
    if global.quiet {
        return text;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    paths(&mut text, report);
    if global.verbose {
        details(&mut text, report);
    }
    forecast(&mut text, report);
    text
}

fn one(text: &mut String, finding: &Finding, verbose: bool) {
    let style = style(finding.severity);
    let files: Vec<String> = finding.files.iter().map(|f| f.display().to_string()).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{style}{:<8}{style:#} {}  {}: {}",
        finding.severity.name(),
        finding.code,
        finding.subject,
        finding.what
    );
    if !files.is_empty() {
        let _ = writeln!(text, "         files: {}", files.join(", "));
    }
    if !finding.paths.is_empty() {
        let named = if verbose { finding.paths.len() } else { NAMED.min(finding.paths.len()) };
        let rest = finding.paths.len() - named;
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let _ = writeln!(text, "         paths: {}{more}", finding.paths[..named].join(", "));
    }
    if finding.severity > Severity::Info {
        let _ = writeln!(text, "         hint:  {}", finding.hint);
    }
}

fn style(severity: Severity) -> anstyle::Style {
    let color = match severity {
        Severity::Info => anstyle::AnsiColor::Cyan,
        Severity::Warning => anstyle::AnsiColor::Yellow,
        Severity::Critical => anstyle::AnsiColor::Red,
    };
    color.on_default().bold()
}

fn paths(text: &mut String, report: &Report) {
    let sum = report.summary;
    let _ = writeln!(
        text,
        "handshakes: {} of {} that must work do; {} of {} that must be refused are; {} pairings only \
         authorization can refuse",
        sum.work, sum.must_work, sum.refused, sum.must_refuse, sum.authorization
    );
    if sum.untried > 0 {
        let _ = writeln!(text, "            {} could not be tried", sum.untried);
    }
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let _ = writeln!(
        text,
        "findings:   {} critical, {} warnings, {} for information{}",
        count(Severity::Critical),
        count(Severity::Warning),
        count(Severity::Info),
        match report.allowed {
            0 => String::new(),
            n => format!("; {n} allowed"),
        }
    );
    if !report.declared {
        let _ = writeln!(
            text,
            "cluster:    not declared here; taken for one control-plane host (certkit init --adopt \
             declares it)"
        );
    }
}

fn details(text: &mut String, report: &Report) {
    let row = |tried: &Tried| {
        vec![
            tried.name.clone(),
            tried.client.clone().unwrap_or_else(|| "-".into()),
            tried.server.clone(),
            tried.pairing.name.clone().unwrap_or_else(|| "-".into()),
            expected(tried.pairing.expect).to_owned(),
            outcome(tried),
        ]
    };
    let headings = ["PATH", "CLIENT SHOWS", "SERVER SHOWS", "KNOWN AS", "EXPECTED", "OUTCOME"];
    text.push('\n');
    *text += &output::table(&headings, report.tried.iter().map(row).collect());
}

/// What must come of a handshake, in a word.
pub fn expected(expect: Expect) -> &'static str {
    match expect {
        Expect::Works => "works",
        Expect::Refused(_) => "refused",
        Expect::OnlyAuthorization => "authorization",
    }
}

/// What came of it, in words.
pub fn outcome(tried: &Tried) -> String {
    use crate::model::check::pairing::Outcome;
    match &tried.outcome {
        Outcome::Authorization => "left to authorization".into(),
        Outcome::Works => "works".into(),
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Untried(why) => format!("not tried: {why}"),
    }
}

fn forecast(text: &mut String, report: &Report) {
    let Some(breaks) = &report.forecast else { return };
    let rows = breaks.iter().map(|b| {
        vec![
            b.at.to_string(),
            b.path.id.to_owned(),
            b.because.clone(),
            b.file.display().to_string(),
            if b.confirmed { "yes" } else { "no" }.to_owned(),
            b.path.breaks.to_owned(),
        ]
    });
    let headings = ["WORKS UNTIL", "PATH", "THEN ENDS", "FILE", "TRIED", "WHAT THEN FAILS"];
    text.push('\n');
    *text += &output::table(&headings, rows.collect());
}
