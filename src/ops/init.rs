//! `certkit init`: makes the PKI of a declared cluster complete.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    apply, declared,
    flags::FlagsError,
    log, observe,
    observe::Observation,
    password::{self, Passwords},
    prune, rotate,
    session::{self, Aftermath},
    takeup::Served,
};
use crate::{
    document,
    model::{
        cluster::Cluster,
        layout::{Layout, Place},
        plan::{Action, Contradiction, Plan, Policy, Reason, reconcile::reconcile},
        shown::quoted,
        timestamp::Timestamp,
    },
    store::{self, Transaction},
};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The cluster to make; must be the one that DIR declares, if it declares one.
    pub cluster: Cluster,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time to issue at.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// What opens CA keys that are encrypted, and encrypts those that are made.
    pub passwords: &'a Passwords,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: Cluster,
    /// The plan.
    pub plan: Plan,
    /// The certificates that were issued; none in a dry run.
    pub issued: Vec<apply::Record>,
    /// Certificates whose term was cut to their CA's: label and end.
    pub clamped: Vec<(String, Timestamp)>,
    /// What the change left behind.
    pub aftermath: Aftermath,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What an earlier run put in place and nobody has taken up.
    pub owed: Vec<Served>,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be made.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A configuration file cannot say what is declared.
    #[error(transparent)]
    Config(#[from] FlagsError),
    /// The files contradict each other; nothing was written.
    #[error("{}", list(.0))]
    Contradictions(Vec<Contradiction>),
    /// certkit.yaml cannot be read.
    #[error(transparent)]
    Declared(#[from] declared::Error),
    /// certkit.yaml declares another cluster than the one asked for.
    #[error("{}: declares another cluster than the one asked for: {difference}", path.display())]
    Differs {
        /// certkit.yaml.
        path: PathBuf,
        /// The first line that differs, on both sides.
        difference: String,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apply(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Contradictions(all) => all.first().map(|c| format!("{}: {}", file(c), c.hint)),
            Self::Declared(error) => error.hint(),
            Self::Differs { path, .. } => Some(format!(
                "edit {} and run `certkit init` without arguments for what is new in it, then \
                 `certkit rotate` for what has changed",
                path.display()
            )),
            Self::Store(error) => error.hint(),
        }
    }
}

fn list(contradictions: &[Contradiction]) -> String {
    let lines: Vec<String> = contradictions.iter().map(Contradiction::to_string).collect();
    match lines.len() {
        0 | 1 => lines.concat(),
        count => format!("{count} files contradict each other:\n  {}", lines.join("\n  ")),
    }
}

fn file(contradiction: &Contradiction) -> String {
    contradiction.files.first().map(|f| f.display().to_string()).unwrap_or_default()
}

/// Makes what is missing, in one transaction, or says what would be made.
pub fn run(request: Request<'_>) -> Result<Report, Error> {
    let Request { dir, cluster, dry_run, now, lock_wait, passwords } = request;
    if let Some(there) = declared::find(dir)?
        && there != cluster
    {
        return Err(Error::Differs {
            path: dir.join(declared::FILE),
            difference: difference(&document::write(&there), &document::write(&cluster)),
        });
    }
    let layout = Layout::new(&cluster);
    if dry_run {
        let recovered = session::left(dir)?;
        let decided = store::pending(dir)?.is_some_and(|pending| pending.decided);
        let plan = match plan(&layout, dir, now) {
            Ok((mut plan, observation)) => {
                let sealed = apply::try_password(&plan, &observation, dir, passwords)?;
                plan.notes.extend(password::notes(&sealed, passwords));
                plan
            }
            // Half of the files are new: what comes once all are is for that run to say.
            Err(Error::Contradictions(_)) if decided => Plan::default(),
            Err(error) => return Err(error),
        };
        let files = plan.changes().flat_map(|step| step.files.iter());
        let files: Vec<_> = files.map(|file| apply::destination(dir, file)).collect();
        let refused = session::refusals(dir, files.iter().map(PathBuf::as_path))?;
        if let Some((_, error)) = refused.into_iter().next() {
            return Err(error.into());
        }
        return Ok(Report {
            cluster,
            plan,
            issued: vec![],
            clamped: vec![],
            aftermath: Aftermath::default(),
            places: vec![],
            owed: vec![],
            recovered,
        });
    }
    let mut store = session::open(dir, lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let (plan, observation) = plan(&layout, dir, now)?;
    let owed = rotate::owed_by(dir, &observation, store.recovered().as_ref());
    let places = observation.places();
    let mut prepared = apply::prepare(&plan, &layout, observation, dir, now, passwords)?;
    write_log(&plan, &prepared.issued, now, &mut prepared.transaction);
    let committed = store.commit(prepared.transaction)?;
    Ok(Report {
        cluster,
        plan,
        issued: prepared.issued,
        clamped: prepared.clamped,
        aftermath: session::conclude(&mut store, committed, usize::MAX),
        places,
        owed,
        recovered,
    })
}

/// What is there, and what is to be done.
fn plan(layout: &Layout<'_>, dir: &Path, now: Timestamp) -> Result<(Plan, Observation), Error> {
    let observation = observe::observe(layout, dir).with_configs(layout, dir)?;
    let is_new = !observation.observed.declared;
    let declaration = is_new.then(|| (document::write(layout.cluster), Reason::Missing));
    let policy = Policy { declaration, ..Policy::COMPLETE };
    let mut plan = reconcile(layout, &observation.observed, dir, &policy, now);
    if !plan.contradictions.is_empty() {
        return Err(Error::Contradictions(plan.contradictions));
    }
    if !is_new {
        plan.notes.extend(prune::notes(layout.cluster, dir));
    }
    Ok((plan, observation))
}

/// One line of log.jsonl for each certificate, and one for each other file.
fn write_log(plan: &Plan, issued: &[apply::Record], now: Timestamp, transaction: &mut Transaction) {
    for record in issued {
        transaction.log(log::certificate("init", "issue", record, now));
    }
    for step in plan.changes().filter(|s| !matches!(s.action, Action::Issue(_))) {
        transaction.log(log::step("init", "write", step, now));
    }
}

fn difference(there: &str, asked: &str) -> String {
    let mut there = there.lines();
    let mut asked = asked.lines();
    loop {
        match (there.next(), asked.next()) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return "in nothing that is written there".into(),
            (a, b) => {
                let shown =
                    |line: Option<&str>| quoted(line.unwrap_or("nothing").trim()).to_string();
                return format!("it has {}, asked for was {}", shown(a), shown(b));
            }
        }
    }
}
