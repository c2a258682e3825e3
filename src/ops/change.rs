//! A change from beginning to end, the same for every command that makes one: look, decide, make in memory, judge,
//! write in one transaction, tell what became of it. Commands differ in what they decide.

pub mod parts;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    apply::{self, Prepared},
    declared,
    flags::FlagsError,
    log,
    observe::{self, Observation},
    password::{self, Passwords},
    session::{self, Aftermath},
    takeup::{self, InPlace},
    verify::narrowing::{self, Broken},
};
use crate::{
    model::{
        cluster::Cluster,
        duration::Span,
        layout::{Layout, Place},
        near,
        plan::{
            Action, Contradiction, Plan, Step,
            obstacle::{Blocked, Obstacle},
        },
        shown::with_causes,
        timestamp::Timestamp,
    },
    store::{self, Debt},
};

/// How a change is made, whatever it is.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The command, as the log names it.
    pub command: &'static str,
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time to issue at.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How long to wait before something is changed.
    pub jitter: Duration,
    /// What becomes of steps that may not be taken, or would break a path that works now.
    pub judgement: Judgement,
    /// Whether, where an earlier run was cut short after it had decided, finishing that is all that is done: what is asked
    /// for is a step on from where things stand, and whoever asked meant the one that was cut short.
    pub pauses: bool,
    /// Also do what breaks a path that works now.
    pub force: bool,
    /// How many backups to keep.
    pub backups: usize,
    /// What opens CA keys that are encrypted, and encrypts those that are made.
    pub passwords: &'a Passwords,
}

impl<'a> Request<'a> {
    /// A change that waits for nobody, is judged by no path, and keeps all backups.
    pub fn new(
        dir: &'a Path,
        command: &'static str,
        now: Timestamp,
        passwords: &'a Passwords,
    ) -> Self {
        Self {
            dir,
            command,
            dry_run: false,
            now,
            lock_wait: Duration::from_secs(10),
            jitter: Duration::ZERO,
            judgement: Judgement::Untried,
            pauses: false,
            force: false,
            backups: usize::MAX,
            passwords,
        }
    }
}

/// What becomes of steps that may not be taken, or would break a path that works now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// One that would break a path, in whatever order components take it up, stands against all.
    RefusesMixed,
    /// No path is tried: what is made is new. One that may not be taken stands against all.
    Untried,
    /// They are left out and named.
    Withholds,
}

/// What a command decided to do about what it found.
pub struct Decision {
    /// The cluster: as declared, or everything that may be in place.
    pub cluster: Cluster,
    /// What was found.
    pub observation: Observation,
    /// What is to be done about it.
    pub plan: Plan,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster: as declared, or everything that may be in place.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// What was planned, and what stood against it.
    pub plan: Plan,
    /// The certificates that were issued; none in a dry run.
    pub issued: Vec<apply::Record>,
    /// Certificates whose term was cut to their CA's: label and end.
    pub clamped: Vec<(String, Timestamp)>,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on: what was renewed, and what an earlier run put in place and nobody
    /// has taken up.
    pub served: Vec<InPlace>,
    /// Whose kubeconfigs dial or trust something else from now on.
    pub amended: Vec<usize>,
    /// What the change left behind.
    pub aftermath: Aftermath,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
    /// Whether only nodes were changed: all other hosts were with another part.
    pub only_nodes: bool,
}

impl Report {
    /// The certificate that a step issued.
    pub fn record_of(&self, step: &Step) -> Option<&apply::Record> {
        let instance = step.key().and_then(|_| step.instance())?;
        self.issued.iter().find(|record| record.instance == instance)
    }

    /// Those of the cluster who are to take up what is served from now on; of a part, those whom no other part tells.
    pub fn to_take_up<'a>(&'a self, dir: &'a Path, served: &'a [InPlace]) -> takeup::Request<'a> {
        takeup::Request {
            amended: &self.amended,
            only_nodes: self.only_nodes,
            ..takeup::Request::new(dir, (&self.cluster, self.declared), &self.places, served)
        }
    }

    /// Of what is served from now on, what an earlier run put in place.
    pub fn owed(&self) -> Vec<InPlace> {
        let is_own = |one: &&InPlace| self.issued.iter().any(|own| own.instance == one.instance);
        self.served.iter().filter(|one| !is_own(one)).cloned().collect()
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be made.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A CA is not renewed but replaced.
    #[error("`{0}` is a CA, which `certkit rotate` does not touch")]
    Authority(String),
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
    /// certkit.yaml must name former endpoints, and is written in a way that a line cannot be added to.
    #[error("{}: must say formerEndpoints: [{}]", path.display(), names.join(", "))]
    FormerEndpoints {
        /// certkit.yaml.
        path: PathBuf,
        /// What it must name.
        names: Vec<String>,
    },
    /// A stage cannot be taken now; nothing was written.
    #[error("nothing was changed:\n  {}", .0.join("\n  "))]
    Gates(Vec<String>),
    /// Certificates are not what was asked for.
    #[error("nothing was taken in:\n  {}", .0.join("\n  "))]
    Mismatches(Vec<String>),
    /// A new term for what has none.
    #[error("`{0}` is a key without a certificate: it has no term, and so cannot get a new one")]
    NoTerm(&'static str),
    /// Nothing is declared, and nothing is there.
    #[error("{}: there is nothing of a cluster's PKI in this directory", .0.display())]
    Nothing(PathBuf),
    /// A stage that is neither the next one nor the one before.
    #[error("{id}: it is {stage}, and does not go to {wanted} in one step")]
    Stage {
        /// What is to be replaced.
        id: String,
        /// Where it is.
        stage: &'static str,
        /// Where it was to go.
        wanted: &'static str,
    },
    /// What is declared was changed while another certkit was waited for.
    #[error("{}: declares another cluster than when this run began", .0.display())]
    Redeclared(PathBuf),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A name that stands for nothing.
    #[error("`{name}` is no certificate's name")]
    Unknown {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<&'static str>,
    },
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_decided())
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Authority(_) | Self::NoTerm(_) | Self::Stage { .. } | Self::Unknown { .. }
        )
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Apply(error) => error.hint(),
            Self::Authority(id) => Some(format!(
                "replacing a CA is a change of trust everywhere: `certkit rotate-ca {id}`, stage by stage"
            )),
            Self::Gates(_) => Some(
                "mend what is named, restart what has not read its files since, then run this again".into(),
            ),
            Self::Stage { id, .. } => Some(format!("`certkit rotate-ca {id} --next`, or --undo")),
            Self::Config(error) => error.hint(),
            Self::Contradictions(all) => all.first().map(|first| {
                let file = first.files.first().map(|f| f.display().to_string());
                format!("{}: {}", file.unwrap_or_default(), first.hint)
            }),
            Self::Declared(error) => error.hint(),
            Self::Differs { path, .. } => Some(format!(
                "edit {} and run `certkit init` without arguments for what is new in it, then \
                 `certkit rotate` for what has changed",
                path.display()
            )),
            Self::FormerEndpoints { .. } => Some(
                "something still dials them: add that line, so that the API's certificates keep these \
                 names; nothing was changed"
                    .into(),
            ),
            Self::Mismatches(_) => Some(
                "have what is wrong signed again from the request in DIR/csr, then import all of it"
                    .into(),
            ),
            Self::NoTerm(id) => {
                Some(format!("`certkit rotate-ca {id} --next` replaces it, stage by stage"))
            }
            Self::Nothing(dir) => Some(declared::elsewhere(dir)),
            Self::Redeclared(_) => Some("run it again".into()),
            Self::Store(error) => error.hint(),
            Self::Unknown { name, known } => {
                let meant = match near::nearest(known.iter().copied(), name) {
                    Some(near) => format!("did you mean `certkit rotate {near}`? "),
                    None => String::new(),
                };
                Some(format!(
                    "{meant}use one of {}; any other certificate is renewed by its file, with --ca FILE",
                    known.join(", ")
                ))
            }
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

/// Does what is decided, or says what would be done. Where that is nothing, nothing on disk is touched, not even the
/// lock. `decide` is asked again once nobody else can change anything.
pub fn run(
    request: &Request<'_>,
    decide: impl Fn(Timestamp) -> Result<Decision, Error>,
) -> Result<Report, Error> {
    Run::new(&Looker::new(request)?).part(decide, || Ok(()))
}

/// A change that is being made: in one transaction, or in one for each part of a large cluster. Nobody else changes
/// anything between them.
struct Run<'r, 'a> {
    looker: &'r Looker<'r, 'a>,
    start: Instant,
    /// The directory, from where on something is to be changed.
    store: Option<store::Store>,
    /// Whether it could not be opened, which no other part can be either.
    is_shut: bool,
    /// The backup of the first part that changed something.
    operation: Option<String>,
}

/// Looks and makes in memory, and changes nothing: for one part, while another is written.
struct Looker<'r, 'a> {
    request: &'r Request<'a>,
    /// What an earlier run left.
    left: Option<store::Pending>,
    /// What holds from where on nobody else can change anything.
    hold: OnceLock<Hold>,
}

/// What is known once a directory is open for change.
struct Hold {
    now: Timestamp,
    /// What an earlier run changed, and nobody was told of.
    owed: BTreeSet<PathBuf>,
}

/// What became of looking.
enum Looked {
    /// Nothing is to be done, or only to be said.
    Idle(Box<Report>),
    /// Something is to be done, once nobody else can change anything; the certificates that are there now.
    Due(Vec<Option<String>>),
    /// It is made.
    Made(Box<Made>),
}

/// What is made in memory, where there is something to be changed.
struct Made {
    report: Report,
    prepared: Option<Prepared>,
    /// What an earlier run owes.
    owed: Vec<InPlace>,
}

impl<'r, 'a> Looker<'r, 'a> {
    fn new(request: &'r Request<'a>) -> Result<Self, Error> {
        let left = store::pending(request.dir)?.filter(store::Pending::is_left);
        Ok(Self { request, left, hold: OnceLock::new() })
    }

    fn look(&self, decide: impl Fn(Timestamp) -> Result<Decision, Error>) -> Result<Looked, Error> {
        let request = self.request;
        if let Some(hold) = self.hold.get() {
            let work = Work::look(request, decide, hold.now, false)?;
            return Ok(Looked::Made(Box::new(self.make(hold, work, &[])?)));
        }
        if self.left.is_some() && !request.dry_run {
            return Ok(Looked::Due(Vec::new()));
        }
        let half = self.left.as_ref().is_some_and(|left| left.decided);
        let work = Work::look(request, decide, request.now, half)?;
        if request.dry_run || work.plan.is_empty() {
            return Ok(Looked::Idle(Box::new(work.rehearse(request)?)));
        }
        Ok(Looked::Due(work.fingerprints()))
    }

    /// Makes it, but for what another run that was faster has made since `earlier`.
    fn make(&self, hold: &Hold, mut work: Work, earlier: &[Option<String>]) -> Result<Made, Error> {
        let (request, now) = (self.request, hold.now);
        work.drop_renewed(earlier);
        let owed = owed_by(request.dir, &work.observation, &hold.owed);
        let (report, prepared) = work.make(request, now)?;
        let mut prepared = prepared.filter(|_| !report.plan.is_empty());
        if let Some(prepared) = &mut prepared {
            write_log(request.command, &report.plan, prepared, now);
            prepared.transaction.by(request.command);
        }
        Ok(Made { report, prepared, owed })
    }
}

impl<'r, 'a> Run<'r, 'a> {
    fn new(looker: &'r Looker<'r, 'a>) -> Self {
        let (start, is_shut) = (Instant::now(), false);
        Self { looker, start, store: None, is_shut, operation: None }
    }

    /// Makes the change, or the next part of it. `confirm` is asked as soon as nobody else can change anything.
    fn part(
        &mut self,
        decide: impl Fn(Timestamp) -> Result<Decision, Error>,
        confirm: impl Fn() -> Result<(), Error>,
    ) -> Result<Report, Error> {
        let looked = self.looker.look(&decide)?;
        self.finish(looked, decide, confirm)
    }

    /// Writes what was made in memory. What was looked at before nobody else could change anything is looked at again.
    fn finish(
        &mut self,
        looked: Looked,
        decide: impl Fn(Timestamp) -> Result<Decision, Error>,
        confirm: impl Fn() -> Result<(), Error>,
    ) -> Result<Report, Error> {
        let looker = self.looker;
        let (earlier, left) = match looked {
            Looked::Made(made) => return self.write(*made, Left::default()),
            Looked::Idle(report) if self.store.is_none() => return Ok(*report),
            Looked::Idle(_) => (Vec::new(), Left::default()),
            Looked::Due(earlier) if self.store.is_none() => {
                if looker.left.is_none() {
                    std::thread::sleep(looker.request.jitter);
                }
                (earlier, self.open(confirm)?)
            }
            Looked::Due(earlier) => (earlier, Left::default()),
        };
        // It is open by now.
        let hold = looker.hold.get().expect("set by `open`"); // invariant of `store`
        let work = match left.pauses {
            true => Work::pause(looker.request.dir)?,
            false => Work::look(looker.request, decide, hold.now, false)?,
        };
        let made = looker.make(hold, work, &earlier)?;
        self.write(made, left)
    }

    /// Opens the directory for change.
    fn open(&mut self, confirm: impl Fn() -> Result<(), Error>) -> Result<Left, Error> {
        let (looker, request) = (self.looker, self.looker.request);
        self.is_shut = true;
        let mut store = session::open(request.dir, request.lock_wait)?;
        confirm()?;
        self.is_shut = false;
        // Waiting may have taken an hour.
        let waited = i64::try_from(self.start.elapsed().as_secs()).unwrap_or_default();
        let debt = store.earlier_debt();
        let hold = Hold { now: request.now.plus(Span(waited)), owed: debt.files() };
        let was_decided = looker.left.as_ref().is_some_and(|left| left.decided);
        let left = Left {
            recovered: store.recovered().map(|recovery| recovery.to_string()),
            debt,
            pauses: request.pauses && was_decided,
        };
        looker.hold.get_or_init(|| hold);
        self.store = Some(store);
        Ok(left)
    }

    fn write(&mut self, made: Made, left: Left) -> Result<Report, Error> {
        let Made { mut report, prepared, owed } = made;
        report.recovered = left.recovered;
        let (Some(mut prepared), Some(store)) = (prepared, &mut self.store) else {
            report.aftermath.take_over(left.debt);
            return Ok(Report { served: owed, ..report });
        };
        if let Some(operation) = &self.operation {
            prepared.transaction.part_of(operation);
        }
        let committed = store.commit(prepared.transaction)?;
        self.operation = self.operation.take().or_else(|| committed.id.clone());
        report.aftermath = session::conclude(store, committed, self.looker.request.backups);
        report.aftermath.take_over(left.debt);
        report.served = prepared.issued.iter().map(InPlace::from).collect();
        add_owed(&mut report.served, owed);
        report.amended = amended(&report.plan);
        report.clamped = prepared.clamped;
        report.issued = prepared.issued;
        Ok(report)
    }
}

/// What an earlier run left, told with the part that came upon it.
#[derive(Default)]
struct Left {
    recovered: Option<String>,
    debt: Debt,
    /// Whether finishing it is all that is done.
    pauses: bool,
}

/// A line for each certificate, and one for each other file.
fn write_log(command: &str, plan: &Plan, prepared: &mut Prepared, now: Timestamp) {
    for record in &prepared.issued {
        prepared.transaction.log(log::certificate(command, "issue", record, now));
    }
    for step in plan.changes() {
        let action = match step.action {
            Action::Issue(_) => continue,
            Action::Request(_) => "request",
            Action::Amend(_) => "update",
            _ => "write",
        };
        prepared.transaction.log(log::step(command, action, step, now));
    }
}

/// The instances whose kubeconfigs are brought up to date.
fn amended(plan: &Plan) -> Vec<usize> {
    let of = |step: &Step| match &step.action {
        Action::Amend(kubeconfig) => Some(kubeconfig.instance),
        _ => None,
    };
    plan.steps.iter().filter_map(of).collect()
}

/// The leaves that an interrupted run put in place, or this one for it: nobody has taken them up.
pub fn owed_by(dir: &Path, observation: &Observation, changed: &BTreeSet<PathBuf>) -> Vec<InPlace> {
    let is_changed = |file: &PathBuf| changed.contains(&dir.join(file));
    let instances = observation.observed.instances.iter().enumerate();
    instances
        .filter(|(index, held)| {
            // A CA is used by what trusts it, too.
            let trusted = observation.observed.trusted_files(*index);
            held.place.files().iter().chain(trusted).any(is_changed)
        })
        .filter_map(|(instance, held)| {
            let certificate = held.certificate()?;
            let (fingerprint, serial) =
                (certificate.fingerprint.clone(), certificate.serial.clone());
            Some(InPlace { instance, fingerprint, serial })
        })
        .collect()
}

/// Adds what is owed to what this run itself changed, which comes before.
pub fn add_owed(served: &mut Vec<InPlace>, owed: Vec<InPlace>) {
    let is_new = |one: &InPlace| served.iter().all(|other| other.instance != one.instance);
    let mut owed: Vec<InPlace> = owed.into_iter().filter(|one| is_new(one)).collect();
    served.append(&mut owed);
    served.sort_by_key(|one| one.instance);
}

/// What is to be done once what an earlier run left is done.
pub const THEN: &str = "have it taken up, then run this again";

/// What is told where finishing an earlier run is all that is done.
pub fn finished() -> String {
    format!("an earlier run was cut short and is finished now: {THEN}")
}

/// What was found, and what follows from it.
struct Work {
    cluster: Cluster,
    observation: Observation,
    plan: Plan,
}

impl Work {
    /// Nothing but what an earlier run left to be done.
    fn pause(dir: &Path) -> Result<Self, Error> {
        let (cluster, _) = declared::or_anything(dir)?;
        let observation = observe::observe(&Layout::new(&cluster), dir);
        let plan = Plan { notes: vec![finished()], ..Plan::default() };
        Ok(Self { cluster, observation, plan })
    }

    /// Where half of the files are new, because an earlier run did not end, what contradicts now says nothing.
    fn look(
        request: &Request<'_>,
        decide: impl Fn(Timestamp) -> Result<Decision, Error>,
        now: Timestamp,
        half: bool,
    ) -> Result<Self, Error> {
        let Decision { cluster, observation, mut plan } = decide(now)?;
        if !observation.observed.unknown_owners.is_empty() {
            let (draft, file) = declared::draft(request.dir, None)?;
            declared::know_owners(&observation.observed.unknown_owners, &draft.places, &file)?;
        }
        if !plan.contradictions.is_empty() {
            if !half {
                return Err(Error::Contradictions(plan.contradictions));
            }
            plan = Plan::default();
        }
        refuse(request, &mut plan, &observation, now)?;
        Ok(Self { cluster, observation, plan })
    }

    /// The fingerprint of each instance's certificate.
    fn fingerprints(&self) -> Vec<Option<String>> {
        let instances = self.observation.observed.instances.iter();
        instances.map(|held| Some(held.certificate()?.fingerprint.clone())).collect()
    }

    /// Keeps what another run has renewed since this one looked first.
    fn drop_renewed(&mut self, earlier: &[Option<String>]) {
        if earlier.is_empty() {
            return;
        }
        let now = self.fingerprints();
        for step in &mut self.plan.steps {
            if let Action::Issue(order) = &step.action
                && earlier.get(order.instance) != now.get(order.instance)
            {
                step.drop();
            }
        }
    }

    /// All but writing it. What only the run can know, such as a password, is said.
    fn rehearse(mut self, request: &Request<'_>) -> Result<Report, Error> {
        let left = session::left(request.dir)?;
        if request.judgement != Judgement::Untried {
            let (report, _) = self.make(request, request.now)?;
            return Ok(Report { recovered: left, ..report });
        }
        let passwords = request.passwords;
        let sealed = apply::try_password(&self.plan, &self.observation, request.dir, passwords)?;
        self.plan.notes.extend(password::notes(&sealed, passwords));
        Ok(Report { recovered: left, ..self.report().0 })
    }

    /// Makes in memory what the plan says, and takes out of both what would break a path that works: a dry
    /// run's plan is the one that runs.
    fn make(
        self,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<(Report, Option<Prepared>), Error> {
        let (mut report, observation) = self.report();
        if report.plan.is_empty() {
            return Ok((report, None));
        }
        let layout = Layout::new(&report.cluster);
        let (dir, passwords) = (request.dir, request.passwords);
        let mut prepared = apply::prepare(&report.plan, &layout, observation, dir, now, passwords)?;
        if request.judgement == Judgement::RefusesMixed && !request.force {
            let change = &prepared.transaction;
            let broken = narrowing::mixed_by(&report.cluster, report.declared, dir, change, now);
            if !broken.is_empty() && !report.plan.accepts_broken {
                return Err(Error::Gates(broken));
            }
            let told = broken.into_iter().map(|path| format!("works now and will not: {path}"));
            report.plan.notes.extend(told);
        }
        if request.judgement == Judgement::Withholds && !request.force {
            let judge = Judge { layout: &layout, declared: report.declared, dir, now };
            judge.withhold(&mut report.plan, &mut prepared);
        }
        Ok((report, Some(prepared)))
    }

    fn report(self) -> (Report, Observation) {
        let report = Report {
            cluster: self.cluster,
            declared: self.observation.observed.declared,
            plan: self.plan,
            issued: vec![],
            clamped: vec![],
            places: self.observation.places(),
            served: vec![],
            amended: vec![],
            aftermath: Aftermath::default(),
            recovered: None,
            only_nodes: false,
        };
        (report, self.observation)
    }
}

/// Judges what a change would do to paths that work.
struct Judge<'a> {
    layout: &'a Layout<'a>,
    declared: bool,
    dir: &'a Path,
    now: Timestamp,
}

impl Judge<'_> {
    /// Takes out of a change what would break a path that works now, until nothing would.
    fn withhold(&self, plan: &mut Plan, prepared: &mut Prepared) {
        let Judge { layout, declared, dir, now } = *self;
        // Each round takes a step out, so there are no more rounds than steps.
        for _ in 0..=plan.steps.len() {
            let broken =
                narrowing::broken(layout.cluster, declared, dir, &prepared.transaction, now);
            let mut any = false;
            for Broken { path, blamed: (id, root), waits_for } in broken {
                let Some(index) = layout.at(id, &root) else { continue };
                let remedy = match waits_for {
                    Some(component) => format!(
                        "restart {component} everywhere, so that it reads what its files say now, then \
                         run this again"
                    ),
                    None => "mend what the path names, or say --force".to_owned(),
                };
                // A credential and what else changes in its kubeconfig may be one write: both or neither.
                let steps = plan.steps.iter_mut().enumerate();
                for (number, step) in steps.filter(|(_, step)| step.instance() == Some(index)) {
                    any = true;
                    prepared.withhold(number, step);
                    let due = Some(step.drop());
                    let (label, file) = (step.label.clone(), step.files[0].clone());
                    let obstacle = Obstacle::Narrows { path: path.clone(), remedy: remedy.clone() };
                    plan.blocked.push(Blocked { label, file, due, expired: false, obstacle });
                }
            }
            if !any {
                return;
            }
        }
    }
}

/// Takes back what is not for certkit to change: a file elsewhere, or behind a link to elsewhere, stands in no
/// other's way. What the system will not let be changed is an error before anything is, and a dry run says the same
/// as the run.
fn refuse(
    request: &Request<'_>,
    plan: &mut Plan,
    observation: &Observation,
    now: Timestamp,
) -> Result<(), Error> {
    let dir = request.dir;
    let owner = |step: &Step, file: &PathBuf| {
        observation.owners.get(file).filter(|_| step.writes(file)).copied()
    };
    let files: Vec<_> = plan
        .changes()
        .flat_map(|step| step.files.iter().map(move |file| (step, file)))
        .map(|(step, file)| (apply::destination(dir, file), owner(step, file)))
        .collect();
    let refused =
        session::refusals(dir, files.iter().map(|(file, owner)| (file.as_path(), *owner)))?;
    let (fatal, refused): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, error)| {
        let is_fatal =
            matches!(error, store::Error::Owner { .. } | store::Error::Unchangeable { .. });
        request.judgement != Judgement::Withholds || is_fatal
    });
    if let Some((_, error)) = fatal.into_iter().next() {
        return Err(error.into());
    }
    let refusal = |step: &Step| {
        let mut files = step.files.iter().map(|file| (file, apply::destination(dir, file)));
        files.find_map(|(file, real)| {
            refused.iter().find(|(path, _)| *path == real).map(|(_, error)| (file.clone(), error))
        })
    };
    for step in &mut plan.steps {
        let Some(instance) = step.instance() else { continue };
        let Some((file, error)) = refusal(step) else { continue };
        let end = observation.observed.instances[instance].certificate();
        let due = Some(step.drop());
        plan.blocked.push(Blocked {
            label: step.label.clone(),
            file: file.clone(),
            due,
            expired: end.is_some_and(|certificate| certificate.validity.not_after < now),
            obstacle: Obstacle::Broken {
                file,
                why: with_causes(error),
                hint: error.hint().unwrap_or_else(|| "mend that, then run it again".into()),
            },
        });
    }
    Ok(())
}
