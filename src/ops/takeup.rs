//! After a change: who has to take it up, made to do so and watched doing it.

mod awaiting;
mod hook;
mod listening;
mod restart;
mod running;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::apply::Record;
use crate::{
    model::{
        catalogue::component,
        cluster::{Cluster, Host},
        layout::{Instance, Layout, Place},
        shown::with_causes,
        takeup::{self, Affected, TakeUp},
    },
    pki::inspect::Certificate,
    tls::probe::{self, Target},
};

pub use awaiting::awaiting;
pub use hook::HookError;
use hook::Hooks;
use listening::Watched;
pub use restart::{How, RestartError, manifests};

/// A certificate that is in place now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// The instance's index.
    pub instance: usize,
    /// SHA-256 in hexadecimal.
    pub fingerprint: String,
    /// The serial number in hexadecimal.
    pub serial: String,
}

impl From<&Record> for InPlace {
    fn from(record: &Record) -> Self {
        Self {
            instance: record.instance,
            fingerprint: record.fingerprint.clone(),
            serial: record.serial.clone(),
        }
    }
}

/// What is in place now, in a cluster or a part of it.
#[derive(Debug)]
pub struct Changed {
    /// The cluster.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<InPlace>,
    /// Whether only nodes take it up: all others have.
    pub only_nodes: bool,
}

impl Changed {
    /// What is to be done about it, as [`Request::new`] has it.
    pub fn request<'a>(&'a self, dir: &'a Path) -> Request<'a> {
        let Self { cluster, declared, places, served, only_nodes } = self;
        let request = Request::new(dir, (cluster, *declared), places, served);
        Request { only_nodes: *only_nodes, ..request }
    }
}

/// What is to be done about a change.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// Where each instance is.
    pub places: &'a [Place],
    /// What has changed.
    pub changed: &'a [InPlace],
    /// Whose kubeconfigs dial or trust something else now.
    pub amended: &'a [usize],
    /// The key pairs without certificate that have changed, by their ids.
    pub pairs: &'a [&'static str],
    /// Whether only nodes take it up: all others have.
    pub only_nodes: bool,
    /// A command to run for each changed component.
    pub hook: Option<&'a str>,
    /// What restarts those that need it.
    pub restart: &'a [How],
    /// How long to wait for listeners to serve what is in place now.
    pub wait: Option<Duration>,
    /// Whether to wait also for those that only a restart makes serve it, where none is made: somebody else may make it.
    pub waits_for_others: bool,
}

impl<'a> Request<'a> {
    /// What has changed is told; nothing is restarted, nobody waited for.
    pub fn new(
        dir: &'a Path,
        (cluster, declared): (&'a Cluster, bool),
        places: &'a [Place],
        changed: &'a [InPlace],
    ) -> Self {
        Self {
            dir,
            cluster,
            declared,
            places,
            changed,
            amended: &[],
            pairs: &[],
            only_nodes: false,
            hook: None,
            restart: &[],
            wait: None,
            waits_for_others: true,
        }
    }
}

/// How one component took a change up.
#[derive(Debug)]
pub struct Uptake {
    /// The component.
    pub component: &'static str,
    /// Its host's name, where there is one.
    pub host: Option<String>,
    /// The certificates that it uses and that changed.
    pub certificates: Vec<String>,
    /// Their files, absolute.
    pub files: Vec<PathBuf>,
    /// How it takes them up.
    pub how: TakeUp,
    /// The systemd unit it usually is.
    pub unit: Option<&'static str>,
    /// What became of its restart, where one was asked for and needed.
    pub restart: Option<Result<String, RestartError>>,
    /// What became of the hook.
    pub hook: Option<Result<(), HookError>>,
    /// What its listeners serve, where that was looked at.
    pub listeners: Vec<Seen>,
    /// Whether proof was asked for and no listener of it answered on this machine.
    pub unproven: bool,
}

/// Whether proof was asked for and nothing at all gave any: no listener answered on this machine.
pub fn is_unproven(outcomes: &[Uptake]) -> bool {
    let is_proven = outcomes.iter().any(|outcome| !outcome.listeners.is_empty());
    !is_proven && outcomes.iter().any(|outcome| outcome.unproven)
}

/// What was seen at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where, as `HOST:PORT`.
    pub address: String,
    /// What it serves.
    pub state: State,
}

/// What a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The certificate that is in place.
    New,
    /// Another one, still.
    Old {
        /// Its serial number in hexadecimal.
        serial: String,
    },
    /// It could not be asked.
    Unknown(String),
}

impl Uptake {
    /// Whether something that was asked for did not happen.
    pub fn failed(&self) -> bool {
        matches!(self.restart, Some(Err(_)))
            || matches!(self.hook, Some(Err(_)))
            || self.listeners.iter().any(|seen| seen.state != State::New)
    }

    /// Whether a restart is still to be made by somebody.
    pub fn needs_restart(&self) -> bool {
        self.how == TakeUp::Restart && !matches!(self.restart, Some(Ok(_)))
    }
}

/// Tells every component that uses something changed, restarts what needs it and is to be restarted, runs
/// the hooks, and watches the listeners. One failure stops nothing else.
pub fn run(request: &Request<'_>) -> Vec<Uptake> {
    let layout = Layout::new(request.cluster);
    let instances = &layout.instances;
    let changed: Vec<usize> = request.changed.iter().map(|served| served.instance).collect();
    let mut changes =
        takeup::changes(&layout, request.places, &changed, request.amended, request.pairs);
    if request.only_nodes {
        changes.retain(|change| change.host.is_some_and(Host::is_only_node));
    }
    let mut outcomes: Vec<Uptake> =
        changes.iter().map(|change| outcome(request, instances, change)).collect();
    // Looked for before a restart, in which nothing listens for a while.
    let listening = match request.wait {
        Some(_) => listening::find(request, instances, &changes),
        None => Vec::new(),
    };
    let hooks = request.hook.map(|_| Hooks::new());
    let interrupted =
        || hooks.as_ref().and_then(|hooks| hooks.as_ref().ok()?.interrupted()).is_some();
    for (outcome, change) in outcomes.iter_mut().zip(&changes) {
        // Whoever stops certkit does not want more to be restarted; the report says what is left.
        if outcome.how == TakeUp::Restart && !request.restart.is_empty() && !interrupted() {
            let annotations: Vec<(String, String)> = request
                .changed
                .iter()
                .filter(|served| change.restart.contains(&served.instance))
                .map(|served| {
                    let id = instances[served.instance].spec.id;
                    (format!("certkit.io/fingerprint-{id}"), served.fingerprint.clone())
                })
                .collect();
            let component = change.component;
            let restart = restart::restart(request.dir, component, request.restart, &annotations);
            outcome.restart = Some(restart);
        }
        outcome.hook = request.hook.zip(hooks.as_ref()).map(|(hook, hooks)| match hooks {
            Ok(hooks) => hooks.run(hook, request.dir, outcome),
            Err(error) => Err(HookError::Start {
                component: outcome.component,
                source: io::Error::new(error.kind(), error.to_string()),
            }),
        });
    }
    if let Some(limit) = request.wait.filter(|_| !interrupted()) {
        let is_to_come =
            |(number, ..): &Watched| request.waits_for_others || !outcomes[*number].needs_restart();
        let listening = listening.into_iter().filter(is_to_come).collect();
        wait(listening, &mut outcomes, limit);
        for (outcome, change) in outcomes.iter_mut().zip(&changes) {
            let listens = takeup::listeners(change, instances).next().is_some();
            outcome.unproven = listens && outcome.listeners.is_empty();
        }
    }
    outcomes
}

/// Restarts components that run and have not read what is in place: what an earlier change left to be done. `at` tells
/// this restart from others.
pub fn restart_awaiting(
    dir: &Path,
    components: &[&'static str],
    ways: &[How],
    at: &str,
) -> Vec<Uptake> {
    let specs = components.iter().filter_map(|id| component(id));
    let annotation = [("certkit.io/restarted".to_owned(), at.to_owned())];
    specs
        .map(|spec| Uptake {
            component: spec.id,
            host: None,
            certificates: Vec::new(),
            files: Vec::new(),
            how: TakeUp::Restart,
            unit: spec.unit,
            restart: Some(restart::restart(dir, spec, ways, &annotation)),
            hook: None,
            listeners: Vec::new(),
            unproven: false,
        })
        .collect()
}

/// The same of files that nothing in the catalogue names: whoever reads them has to be restarted, and who that is
/// only the hook knows.
pub fn of_files(
    dir: &Path,
    certificates: Vec<String>,
    files: Vec<PathBuf>,
    hook: Option<&str>,
) -> Vec<Uptake> {
    if files.is_empty() {
        return Vec::new();
    }
    let mut outcome = Uptake {
        component: UNKNOWN,
        host: None,
        certificates,
        files,
        how: TakeUp::Restart,
        unit: None,
        restart: None,
        hook: None,
        listeners: Vec::new(),
        unproven: false,
    };
    outcome.hook = hook.map(|hook| match Hooks::new() {
        Ok(hooks) => hooks.run(hook, dir, &outcome),
        Err(source) => Err(HookError::Start { component: UNKNOWN, source }),
    });
    vec![outcome]
}

/// Who reads a file that the catalogue does not know.
const UNKNOWN: &str = "unknown";

fn outcome(request: &Request<'_>, instances: &[Instance<'_>], change: &Affected<'_>) -> Uptake {
    let mut files: Vec<PathBuf> = Vec::new();
    for index in &change.instances {
        for file in request.places[*index].files() {
            let file = request.dir.join(file);
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Uptake {
        component: change.component.id,
        host: change.host.map(|host| host.name.to_string()),
        certificates: (change.instances.iter().map(|i| instances[*i].spec.id.name()))
            .chain(change.pairs.iter().copied())
            .map(str::to_owned)
            .collect(),
        files,
        how: change.how,
        unit: change.component.unit,
        restart: None,
        hook: None,
        listeners: Vec::new(),
        unproven: false,
    }
}

/// How often a listener is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// How long one question may take.
const PROBE: Duration = Duration::from_secs(3);

/// Asks listeners until they serve what is in place, or the time is over.
fn wait(mut open: Vec<Watched>, outcomes: &mut [Uptake], limit: Duration) {
    let now = Instant::now();
    // Beyond what the clock can say is never.
    let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
    while !open.is_empty() {
        let targets: Vec<Target> = open.iter().map(|(_, target, _)| target.clone()).collect();
        let answers = probe::probe_all(&targets, PROBE, 8);
        let last = Instant::now() + PAUSE >= end;
        let mut still = Vec::new();
        for ((number, target, fingerprint), answer) in open.into_iter().zip(answers) {
            let state = match answer {
                Ok(served) => state(&served.chain, &fingerprint),
                Err(error) => State::Unknown(with_causes(&error)),
            };
            match state == State::New || last {
                true => {
                    let seen = Seen { address: target.to_string(), state };
                    outcomes[number].listeners.push(seen);
                }
                false => still.push((number, target, fingerprint)),
            }
        }
        open = still;
        if !open.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
}

fn state(chain: &[Vec<u8>], fingerprint: &str) -> State {
    match chain.first().map(|der| Certificate::from_der(der.clone())) {
        Some(Ok(leaf)) if leaf.fingerprint_hex() == fingerprint => State::New,
        Some(Ok(leaf)) => State::Old { serial: leaf.serial_hex() },
        Some(Err(error)) => State::Unknown(error.to_string()),
        None => State::Unknown("it sent no certificate".into()),
    }
}
