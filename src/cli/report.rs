//! `certkit report`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;
use serde::Serialize;
use serde_json::Value;

use super::{
    Exit, Failure, Global,
    check_expiration::OutputFormat,
    output::expiry::{document, residual},
    watch, when,
    words::{advice, here},
};
use crate::{
    model::{
        check::expiry::{Level, RowRole, Thresholds, judge},
        code::Severity,
        duration::{Span, Threshold},
        talk,
        timestamp::Timestamp,
    },
    ops::{declared, expiry, kubeconfig, machine, rotate_ca, status, verify},
    parallel, store,
};

/// Write one page about the cluster: what ends when, what is wrong, who talks to whom, how far each CA is
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub struct ReportArgs {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// When the end of a certificate is near: a duration, or a share of its life
    #[arg(long, value_name = "THRESHOLD", default_value = "30d")]
    warn: Threshold,
    /// When it is critical
    #[arg(long, value_name = "THRESHOLD", default_value = "7d")]
    critical: Threshold,
    /// Judge as of this RFC 3339 time instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// A folder whose files replace built-in templates of the same name, like report/report.html
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

const HELP: &str = "\
The page is one HTML file that loads nothing from anywhere: it can be mailed, printed and kept. A small script in
it filters and sorts; without it the page says the same. It holds names, addresses and dates, and no key.

EXIT CODES:
  0   written, whatever the page says; `check-expiration` and `verify` are what judges
  3   certkit could not do it
  64  the command line was wrong

EXAMPLES:
  certkit report -o report.html
  certkit report --at 2027-06-01T00:00:00Z > june.html";

/// Rows that need attention are all told; of the others so many.
const ROWS: usize = 20_000;
/// Bars of the timeline.
const BARS: usize = 60;
/// The timeline's width in its own units, and how high a bar is.
const WIDTH: f64 = 680.0;
const BAR: usize = 20;

/// Runs the command.
pub fn run(args: &ReportArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = super::absolute(&global.dir)?;
    super::check_expiration::in_order(args.warn, args.critical, "report")?;
    if let Some(word) = args.output.as_ref().and_then(|file| file.to_str())
        && OutputFormat::from_str(word, false).is_ok()
    {
        let what = format!("--output {word}: is the page's file, and the page is HTML");
        let hint = format!(
            "for data: `certkit check-expiration -o json`, `certkit verify -o json`; for a file of that name: -o ./{word}"
        );
        return Err(Failure::usage(what).hint(Some(hint)));
    }
    let templates = super::template::templates(args.templates.as_deref())?;
    let thresholds = Thresholds { warn: args.warn, critical: args.critical };
    let now = when(args.at)?;
    let page = watch::working(global, || page(&dir, now, &thresholds))?;
    let text = with_digest(&templates.render(PAGE, &page)?);
    match &args.output {
        Some(file) => store::write_atomically(file, text.as_bytes(), 0o644)?,
        None => super::print(text)?,
    }
    Ok(Exit::Done)
}

/// The template.
const PAGE: &str = "report/report.html";

/// The page with the digest of its own script, the only one that a browser then runs.
fn with_digest(page: &str) -> String {
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>"));
    let digest = script.map(|(script, _)| store::sha256_base64(script.as_bytes()));
    page.replacen("sha256-SCRIPT", &format!("sha256-{}", digest.unwrap_or_default()), 1)
}

/// All that the page says.
#[derive(Serialize)]
struct Page {
    cluster: String,
    dir: String,
    at: String,
    version: &'static str,
    counts: Counts,
    handshakes: Handshakes,
    timeline: Timeline,
    findings: Vec<ShownFinding>,
    critical: usize,
    authorities: Vec<Value>,
    hosts: Vec<ShownHost>,
    rows: Vec<ShownRow>,
    more: usize,
    people: Vec<ShownPerson>,
    people_fault: String,
    paths: Vec<ShownPath>,
}

#[derive(Default, Serialize)]
struct Counts {
    ok: usize,
    warning: usize,
    critical: usize,
    unknown: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Handshakes {
    must_work: usize,
    work: usize,
    must_be_refused: usize,
    refused: usize,
}

#[derive(Serialize)]
struct Timeline {
    height: usize,
    ticks: Vec<Tick>,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Tick {
    x: f64,
    label: &'static str,
}

/// All certificates of one name: until the first of them ends.
#[derive(Serialize)]
struct Bar {
    name: String,
    count: usize,
    level: &'static str,
    end: String,
    width: f64,
    y: usize,
    #[serde(skip)]
    seconds: i64,
}

#[derive(Serialize)]
struct ShownRow {
    name: String,
    host: String,
    end: String,
    seconds: i64,
    left: String,
    level: &'static str,
    status: String,
    reason: String,
    ca: String,
    place: String,
}

#[derive(Serialize)]
struct ShownFinding {
    level: &'static str,
    severity: &'static str,
    code: &'static str,
    subject: String,
    what: String,
    hint: String,
    files: Vec<String>,
}

#[derive(Serialize)]
struct ShownHost {
    host: String,
    state: &'static str,
    settled: bool,
    seen: String,
    behind: usize,
    awaiting: String,
}

/// A person's kubeconfig that may still be used.
#[derive(Serialize)]
struct ShownPerson {
    name: String,
    groups: String,
    since: String,
    until: String,
    fingerprint: String,
}

#[derive(Serialize)]
struct ShownPath {
    from: String,
    to: String,
    port: String,
    client: String,
    server: String,
    protection: String,
    remedy: String,
    level: &'static str,
    proof: String,
}

fn page(dir: &Path, now: Timestamp, thresholds: &Thresholds) -> Result<Page, Failure> {
    let mut rows = rows(dir, now, thresholds)?;
    let mut counts = Counts::default();
    for row in &rows {
        match row.level {
            "ok" => counts.ok += 1,
            "warning" => counts.warning += 1,
            _ if row.status == "unknown" => counts.unknown += 1,
            _ => counts.critical += 1,
        }
    }
    rows.sort_by_key(|row| row.seconds);
    let timeline = timeline(&rows);
    let all = rows.len();
    let mut kept = 0;
    rows.retain(|row| {
        kept += usize::from(row.level == "ok");
        row.level != "ok" || kept <= ROWS
    });
    let nothing = Default::default();
    let verified = verify::verify(&verify::Request {
        dir,
        at: now,
        forecast: false,
        flags: &[],
        allow: &nothing,
        deny: &nothing,
    })?;
    let cluster = declared::find(dir)?;
    let sum = verified.summary;
    let hosts = match cluster.as_ref().is_some_and(|cluster| cluster.workspace) {
        true => hosts(&status::status(dir)?),
        false => Vec::new(),
    };
    // Without a declaration nobody knows what is to be replaced by what.
    let standing = match &cluster {
        Some(_) => rotate_ca::status(dir, &[])?,
        None => Vec::new(),
    };
    let (people, people_fault) = match kubeconfig::handed_out(dir, now) {
        Ok(all) => (all.iter().map(person).collect(), String::new()),
        Err(why) => (Vec::new(), why),
    };
    Ok(Page {
        cluster: verified.cluster.clone().unwrap_or_else(|| dir.display().to_string()),
        dir: dir.display().to_string(),
        at: now.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        counts,
        handshakes: Handshakes {
            must_work: sum.must_work,
            work: sum.work,
            must_be_refused: sum.must_refuse,
            refused: sum.refused,
        },
        timeline,
        findings: findings(&verified, dir),
        critical: verified
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Critical)
            .count(),
        authorities: super::rotate_ca::standing_json(&standing),
        hosts,
        more: all - rows.len(),
        rows,
        people,
        people_fault,
        paths: paths(&talk::talks(cluster.as_ref()), &verified),
    })
}

/// Every certificate of the cluster, judged.
fn rows(dir: &Path, now: Timestamp, thresholds: &Thresholds) -> io::Result<Vec<ShownRow>> {
    let machine = machine::name();
    let request = expiry::Request::of(dir, &machine, now, parallel::processors());
    let mut rows = Vec::new();
    expiry::run(
        &request,
        |row| {
            let verdict = judge(&row, now, thresholds);
            let document: Value =
                serde_json::from_str(&document::json(&row, &verdict)).unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let is_authority = row.role == RowRole::Authority;
            ShownRow {
                name: row.name.clone(),
                host: row.host.clone().unwrap_or_default(),
                end: text(&document["expirationDate"]),
                // What cannot be read comes first.
                seconds: verdict.left.map_or(i64::MIN, |Span(seconds)| seconds),
                left: residual(&row, &verdict),
                level: match verdict.status.level() {
                    Level::Ok => "ok",
                    Level::Warning => "warning",
                    Level::Critical | Level::Unknown => "critical",
                },
                status: text(&document["status"]),
                reason: verdict.reason.clone().unwrap_or_default(),
                ca: match (&row.authority, is_authority) {
                    (Some(authority), _) => authority.clone(),
                    (None, true) => "itself".to_owned(),
                    (None, false) => String::new(),
                },
                place: ["path", "address"].map(|field| text(&document["source"][field])).concat(),
            }
        },
        |batch| {
            rows.extend(batch);
            Ok(())
        },
    )?;
    Ok(rows)
}

/// What ends first of each kind, those first that end first. The scale is of the square root, so that a week and ten years
/// can both be seen.
fn timeline(rows: &[ShownRow]) -> Timeline {
    const DAY: i64 = 86_400;
    const TICKS: [(&str, i64); 7] = [
        ("now", 0),
        ("7d", 7),
        ("30d", 30),
        ("90d", 90),
        ("1y", 365),
        ("3y", 3 * 365),
        ("10y", 3650),
    ];
    let mut bars: BTreeMap<&str, Bar> = BTreeMap::new();
    let mut longest = DAY;
    for row in rows.iter().filter(|row| row.seconds != i64::MIN) {
        longest = longest.max(row.seconds);
        let bar = bars.entry(&row.name).or_insert_with(|| Bar {
            name: row.name.clone(),
            count: 0,
            level: row.level,
            end: row.end.clone(),
            width: 0.0,
            y: 0,
            seconds: row.seconds,
        });
        bar.count += 1;
    }
    let x = |seconds: i64| (seconds.max(0) as f64 / longest as f64).sqrt() * WIDTH;
    let rounded = |x: f64| (x * 10.0).round() / 10.0;
    let mut bars: Vec<Bar> = bars.into_values().collect();
    bars.sort_by_key(|bar| bar.seconds);
    bars.truncate(BARS);
    for (number, bar) in bars.iter_mut().enumerate() {
        bar.y = 24 + number * BAR;
        // What is over is a mark all the same.
        bar.width = rounded(x(bar.seconds).max(2.0));
    }
    let ticks = TICKS.iter().filter(|(_, days)| days * DAY <= longest);
    Timeline {
        height: 24 + bars.len() * BAR,
        ticks: ticks
            .map(|(label, days)| Tick { x: rounded(300.0 + x(days * DAY)), label })
            .collect(),
        bars,
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "ok",
    }
}

fn findings(report: &verify::Report, dir: &Path) -> Vec<ShownFinding> {
    let mut all: Vec<_> = report.findings.iter().collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let shown = |finding: &crate::model::check::finding::Finding| ShownFinding {
        level: level(finding.severity),
        severity: finding.severity.name(),
        code: finding.code.name(),
        subject: finding.subject.clone(),
        what: finding.what.clone(),
        hint: here(&advice(finding, dir, report.declared), dir),
        files: finding.files.iter().map(|file| file.display().to_string()).collect(),
    };
    all.into_iter().map(shown).collect()
}

fn hosts(all: &[status::HostStatus]) -> Vec<ShownHost> {
    // Where files go to hosts in other ways, nothing is known of any.
    if all.iter().all(|one| one.known.is_none()) {
        return Vec::new();
    }
    let shown = |one: &status::HostStatus| ShownHost {
        host: one.host.clone(),
        state: one.state(),
        settled: one.is_settled(),
        seen: one.known.as_ref().map(|known| known.seen.clone()).unwrap_or_default(),
        behind: if one.known.is_some() { one.behind.len() } else { 0 },
        awaiting: one.known.as_ref().map(|known| known.awaiting.join(", ")).unwrap_or_default(),
    };
    all.iter().map(shown).collect()
}

fn person(one: &kubeconfig::HandedOut) -> ShownPerson {
    ShownPerson {
        name: one.name.clone(),
        groups: one.groups.join(", "),
        since: one.time.to_string(),
        until: one.until.map_or("as the API signed it".to_owned(), |end| end.to_string()),
        fingerprint: one.fingerprint.clone().unwrap_or_default(),
    }
}

fn paths(talks: &[talk::Talk], report: &verify::Report) -> Vec<ShownPath> {
    let mut tried: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for one in &report.tried {
        let (all, right) = tried.entry(one.pairing.path.id).or_default();
        *all += 1;
        *right += usize::from(one.is_as_expected());
    }
    let shown = |talk: &talk::Talk| {
        let (level, proof) = match tried.get(talk.id) {
            Some((all, right)) if all == right => {
                ("ok", format!("{all} handshakes as they must be"))
            }
            Some((all, right)) => {
                ("critical", format!("{} of {all} handshakes not as they must be", all - right))
            }
            None if talk.remedy.is_some() => ("warning", "not by certificates".to_owned()),
            None => ("none", "not tried here".to_owned()),
        };
        ShownPath {
            from: talk.from.to_owned(),
            to: talk.to.to_owned(),
            port: talk.port.clone(),
            client: talk.client.what.to_owned(),
            server: talk.server.what.to_owned(),
            protection: talk.protection.to_owned(),
            remedy: talk.remedy.unwrap_or_default().to_owned(),
            level,
            proof,
        }
    };
    talks.iter().map(shown).collect()
}
