//! The report for a terminal.

use std::{fmt::Write as _, path::Path};

use crate::{
    cli::{
        Global,
        output::{
            self,
            grid::{Column, wrap},
        },
        words::{advice, few},
    },
    model::{
        check::{finding::Finding, pairing::Expect},
        code::Severity,
        shown::tame,
    },
    ops::expiry::shown,
    ops::verify::{Report, Tried},
};

/// How many paths of one finding are named before the rest is counted.
const NAMED: usize = 4;

/// The report.
pub fn text(report: &Report, dir: &Path, global: &Global, wide: bool) -> String {
    let limit = output::limit().filter(|_| !wide);
    let mut text = String::new();
    for finding in &report.findings {
        if finding.severity > Severity::Info || !global.quiet {
            one(&mut text, finding, &advice(finding, dir, report.declared), global.verbose, limit);
        }
    }
    if global.quiet {
        return text;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    paths(&mut text, report, limit);
    if global.verbose {
        details(&mut text, report, wide);
    }
    forecast(&mut text, report, wide);
    text
}

fn one(text: &mut String, finding: &Finding, hint: &str, verbose: bool, limit: Option<usize>) {
    let style = style(finding.severity);
    let files: Vec<String> = finding.files.iter().map(|file| shown(file)).collect();
    let name = format!("{:<8}", finding.severity.name());
    let head = format!("{name} {}  {}: {}", finding.code, finding.subject, finding.what);
    let head = wrap(&head, limit, 9);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{style}{name}{style:#}{}", &head[name.len()..]);
    if !files.is_empty() {
        let _ =
            writeln!(text, "{}", wrap(&format!("         files: {}", files.join(", ")), limit, 16));
    }
    if !finding.paths.is_empty() {
        let paths = few(&finding.paths, if verbose { usize::MAX } else { NAMED }, ", ");
        let _ = writeln!(text, "{}", wrap(&format!("         paths: {paths}"), limit, 16));
    }
    // Not broken into lines: it is to be pasted.
    if finding.severity > Severity::Info {
        let _ = writeln!(text, "         hint:  {}", tame(hint));
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

fn paths(text: &mut String, report: &Report, limit: Option<usize>) {
    let sum = report.summary;
    let mut lines = vec![format!(
        "handshakes: {} of {} that must work do; {} of {} that must be refused are; {} pairings only \
         authorization can refuse",
        sum.work, sum.must_work, sum.refused, sum.must_refuse, sum.authorization
    )];
    if sum.untried > 0 {
        lines.push(format!("            {} could not be tried", sum.untried));
    }
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    lines.push(format!(
        "findings:   {} critical, {} warnings, {} for information{}",
        count(Severity::Critical),
        count(Severity::Warning),
        count(Severity::Info),
        match report.allowed {
            0 => String::new(),
            n => format!("; {n} allowed"),
        }
    ));
    if !report.declared {
        lines.push(
            "cluster:    not declared here; taken for one control-plane host (certkit init --adopt \
             declares it)"
                .into(),
        );
    }
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", wrap(&line, limit, 12));
    }
}

fn details(text: &mut String, report: &Report, wide: bool) {
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
    let columns = [
        Column::new("PATH").least(20),
        Column::new("CLIENT SHOWS").least(14).rank(1),
        Column::new("SERVER SHOWS").least(14).rank(3),
        Column::new("KNOWN AS").least(14).rank(4),
        Column::new("EXPECTED").rank(2),
        Column::new("OUTCOME").least(20).early(),
    ];
    text.push('\n');
    *text += &output::table(&columns, &report.tried.iter().map(row).collect::<Vec<_>>(), wide);
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

fn forecast(text: &mut String, report: &Report, wide: bool) {
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
    let columns = [
        Column::new("WORKS UNTIL"),
        Column::new("PATH").least(16),
        Column::new("THEN ENDS").least(14).rank(1),
        Column::new("FILE").least(14).rank(3).keeps_end(),
        Column::new("TRIED").rank(4),
        Column::new("WHAT THEN FAILS").least(16).rank(2),
    ];
    text.push('\n');
    *text += &output::table(&columns, &rows.collect::<Vec<_>>(), wide);
}
