//! `certkit receive`: a host's end of `certkit deploy`. What comes is taken in only if it belongs on this host, in one
//! transaction; then whoever uses it takes it up, and what was well before is well again.

mod health;
mod keys;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    change, declared,
    delivery::{
        self, Delivery, DeliveryError, FileDifference, FileState, OwnCertificate, Parcel, Receipt,
        ReceivedUptake,
    },
    log, machine, observe, owner, read,
    session::{self, Aftermath},
    takeup::{self, How, InPlace, Uptake},
};
use crate::{
    model::{
        cluster::Host,
        delivery::{HostFiles, HostKey, at_home, files, host_keys},
        layout::{KUBELET_FILES, Layout, SECRET, kubelet_dir},
        observed::Piece,
        shown::{name, with_causes},
        timestamp::Timestamp,
    },
    pki::inspect,
    store::{self, Transaction, sha256},
};
use health::Asker;
use keys::OwnKey;

/// How a delivery is taken in.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// This host's tree, absolute.
    pub dir: &'a Path,
    /// Only compare.
    pub check: bool,
    /// Only make the keys that this host makes itself, and say what it asks for with them.
    pub csr: bool,
    /// What restarts components that need it.
    pub restart: &'a [How],
    /// A command to run for each changed component.
    pub hook: Option<&'a str>,
    /// How long to wait for what was well to be so again.
    pub wait: Duration,
    /// Also take in what is for another machine, and while etcd is not well.
    pub force: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// Why a delivery was not taken in, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no delivery.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// What it says of the cluster cannot be.
    #[error("what the delivery says of the cluster cannot be")]
    Declared(#[from] declared::Error),
    /// It is for a host that it does not declare.
    #[error("the delivery is for {}, which is no host of its cluster", name(.0))]
    Host(String),
    /// It is for another machine.
    #[error(
        "the delivery is for {host} ({addresses}), and this machine is {machine} and has none of these addresses"
    )]
    Machine {
        /// The host.
        host: String,
        /// Its addresses.
        addresses: String,
        /// This machine's name.
        machine: String,
    },
    /// This tree is another host's.
    #[error("{} is the tree of {}, and the delivery is for {}", dir.display(), name(was), name(is))]
    Other {
        /// The tree.
        dir: PathBuf,
        /// Whose it is.
        was: String,
        /// For whom the delivery is.
        is: String,
        /// The name of that host alone.
        host: String,
    },
    /// It brings what does not belong on this host.
    #[error("{}: nothing of the kind belongs on {host}", name(&path.display().to_string()))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The host.
        host: String,
    },
    /// A certificate is for a key that this host has not.
    #[error("{}: its key is neither in place nor among those that this host made", file.display())]
    Keyless {
        /// The certificate's file.
        file: PathBuf,
        /// This host.
        host: String,
    },
    /// A key comes that only this host is to have.
    #[error("{}: a private key comes with it, and this host makes it itself", .0.display())]
    KeyCame(PathBuf),
    /// It is asked for a key that it does not make.
    #[error("{} is no certificate for which {host} makes the key", name(id))]
    NoKeyOf {
        /// The certificate.
        id: String,
        /// The host.
        host: String,
    },
    /// A key or a request cannot be made.
    #[error("cannot make a request for {id}")]
    Ask {
        /// For which certificate.
        id: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file must come that did not.
    #[error("{}: it has changed since it was compared", .0.display())]
    Unsent(PathBuf),
    /// Taking a member of etcd down would take etcd down.
    #[error("nothing was changed: {0}")]
    Etcd(String),
    /// What was well is not well any more.
    #[error("all is in place, and {0}")]
    Worse(String),
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the change is decided, and part of it may be in place.
    pub fn is_decided(&self) -> bool {
        match self {
            Self::Store(error) => error.is_decided(),
            Self::Worse(_) => true,
            _ => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Delivery(error) => error.hint(),
            Self::Declared(error) => error.hint(),
            Self::Keyless { host, .. } => Some(format!(
                "`certkit deploy --new-keys {host}`, on the operator's machine, has this host make new ones"
            )),
            Self::Ask { .. } => None,
            Self::Host(_)
            | Self::Foreign { .. }
            | Self::KeyCame(_)
            | Self::NoKeyOf { .. }
            | Self::Unsent(_) => {
                Some("nothing was changed; run `certkit deploy` again".into())
            }
            // Without its name, `--force` would be for all hosts.
            Self::Machine { host, .. } => Some(format!(
                "ssh leads to another machine than certkit.yaml says: correct the one or the other; where it is the right \
                 one behind another address, `certkit deploy --force {host}`"
            )),
            Self::Other { host, .. } => Some(format!(
                "ssh leads to another host than certkit.yaml says; where this machine has become another host, `certkit \
                 deploy --force {host}`"
            )),
            Self::Etcd(_) => {
                Some("bring the other members up first, then run it again; or --force".into())
            }
            Self::Worse(_) => Some(
                "look into its log; `certkit rotate --rollback` on that host brings back what was replaced".into(),
            ),
            Self::Store(error) => error.hint(),
        }
    }
}

/// What a host keeps of what it was brought.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Received {
    /// The cluster's name.
    cluster: String,
    /// The host's.
    host: String,
    /// The files.
    files: BTreeSet<PathBuf>,
}

/// Where it does, in its tree and among certkit's notes.
const RECEIVED: &str = ".certkit/received.json";
const NOTE: &str = "received.json";

/// What came of a delivery: the receipt, and why it is not all done, if it is not.
pub struct Taken {
    /// What is to be told.
    pub receipt: Receipt,
    /// What is owed to those who use what was changed, until it is told.
    pub aftermath: Aftermath,
    /// What went wrong.
    pub error: Option<Error>,
}

/// Takes a delivery in, or compares it with what is there.
pub fn run(request: &Request<'_>, input: impl Read) -> Result<Taken, Error> {
    let Parcel { delivery, contents } = delivery::read(input)?;
    let cluster = declared::parse(&delivery.cluster, "delivery")?;
    let is_it = |host: &&Host| host.name.as_ref() == delivery.host;
    let host =
        cluster.hosts.iter().find(is_it).ok_or_else(|| Error::Host(delivery.host.clone()))?;
    let root = cluster.root_of(host);
    let whole = Layout::new(&cluster);
    let belongs = files(&whole).remove(&root).unwrap_or_default();
    if let Some(file) = delivery.files.iter().find(|file| !belongs.contains_key(&file.path)) {
        return Err(Error::Foreign { path: file.path.clone(), host: delivery.host.clone() });
    }
    let own = host_keys(&whole).remove(&root).unwrap_or_default();
    let home = at_home(&cluster, host);
    let host = home.hosts.first().ok_or_else(|| Error::Host(delivery.host.clone()))?;
    let layout = Layout::new(&home);
    let taker =
        Taker { request, delivery: &delivery, belongs: &belongs, own: &own, layout: &layout, host };
    taker.is_here(&cluster.name)?;
    match (request.csr, request.check) {
        (true, _) => taker.ask(),
        (false, true) => Ok(taker.compare()),
        (false, false) => taker.take(contents),
    }
}

/// Takes in what is for one host.
struct Taker<'a> {
    request: &'a Request<'a>,
    delivery: &'a Delivery,
    belongs: &'a HostFiles,
    /// The certificates whose keys this host makes.
    own: &'a [HostKey],
    /// As seen on the host.
    layout: &'a Layout<'a>,
    host: &'a Host,
}

impl Taker<'_> {
    /// Refuses what is for somebody else: one host's keys must not lie on another.
    fn is_here(&self, cluster: &str) -> Result<(), Error> {
        if self.request.force {
            return Ok(());
        }
        let host = self.host;
        if let Some(was) = self.received().filter(|was| !was.host.is_empty())
            && (was.host != self.delivery.host || was.cluster != cluster)
        {
            let of = |host: &str, cluster: &str| format!("{host} of {cluster}");
            return Err(Error::Other {
                dir: self.request.dir.to_path_buf(),
                was: of(&was.host, &was.cluster),
                is: of(&self.delivery.host, cluster),
                host: host.name.to_string(),
            });
        }
        if machine::is(host) {
            return Ok(());
        }
        let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
        Err(Error::Machine {
            host: host.name.to_string(),
            addresses: addresses.join(", "),
            machine: name(&machine::name()),
        })
    }

    fn received(&self) -> Option<Received> {
        let content = read::file(&self.request.dir.join(RECEIVED));
        serde_json::from_slice(content.present()?).ok()
    }

    /// What is not as it is to be.
    fn differences(&self) -> Vec<FileDifference> {
        let dir = self.request.dir;
        let mut all = Vec::new();
        for file in &self.delivery.files {
            let found = read::file(&dir.join(&file.path));
            let own = self.own_at(&file.path);
            // With it is its key, which nobody else knows.
            let found = match own {
                Some(_) => found.map(|all| delivery::certificates_of(&all).unwrap_or(all)),
                None => found,
            };
            let state = match found {
                Piece::Present(content) if sha256(&content) == file.sha256 => {
                    match own.map(|own| self.key_for(own, &content)) {
                        Some(Some(OwnKey { is_pending: true, .. })) => FileState::Differs,
                        _ => continue,
                    }
                }
                Piece::Missing => FileState::Missing,
                Piece::Present(_) | Piece::Bad(_) => FileState::Differs,
            };
            all.push(FileDifference { path: file.path.clone(), state });
        }
        let wanted: BTreeSet<&PathBuf> =
            self.delivery.files.iter().map(|file| &file.path).collect();
        let earlier = self.received().map(|received| received.files).unwrap_or_default();
        // Only what certkit brought goes, and only if it is of the kind that certkit brings.
        let gone = earlier.into_iter().filter(|path| {
            let is_own = self.own.iter().any(|own| own.key == *path || own.cert == *path);
            !wanted.contains(path)
                && !is_own
                && is_plain(path)
                && dir.join(path).symlink_metadata().is_ok()
        });
        all.extend(gone.map(|path| FileDifference { path, state: FileState::Leftover }));
        all
    }

    fn asker(&self) -> Asker<'_> {
        Asker { layout: self.layout, host: self.host, dir: self.request.dir }
    }

    fn compare(&self) -> Taken {
        let mut receipt = Receipt::new(&self.delivery.host);
        receipt.differences = self.differences();
        receipt.keyless = self.keyless();
        receipt.recovered = session::left(self.request.dir).ok().flatten();
        let observation = observe::observe(self.layout, self.request.dir);
        receipt.awaiting = self.awaiting(&observation);
        receipt.own = self.own();
        receipt.health = self.asker().look(&observation).lines();
        Taken { receipt, aftermath: Aftermath::default(), error: None }
    }

    fn awaiting(&self, observation: &observe::Observation) -> Vec<String> {
        let all = takeup::awaiting(self.layout, self.request.dir, observation);
        all.into_iter().map(str::to_owned).collect()
    }

    /// What the kubelet got itself.
    fn own(&self) -> Vec<OwnCertificate> {
        let folder = kubelet_dir(self.request.dir);
        let files =
            folder.iter().flat_map(|dir| KUBELET_FILES.iter().map(|(file, _)| dir.join(file)));
        let view = |file: PathBuf| {
            let content = read::file(&file);
            let all = inspect::from_pem(content.present()?).ok()?;
            let first = all.first()?;
            Some(OwnCertificate {
                fingerprint: first.fingerprint_hex(),
                not_after: first.validity().not_after.to_string(),
                certificate: first.to_pem(),
                file,
            })
        };
        files.filter_map(view).collect()
    }

    fn take(&self, contents: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>) -> Result<Taken, Error> {
        let (dir, request) = (self.request.dir, self.request);
        let mut receipt = Receipt::new(&self.delivery.host);
        let before = self.asker().look(&observe::observe(self.layout, dir));
        let refusal = before.refusal(self.host).filter(|_| !request.force);
        if let Some(why) = refusal.filter(|_| !self.differences().is_empty()) {
            return Err(Error::Etcd(why));
        }
        let mut store = session::open(dir, request.lock_wait)?;
        receipt.recovered = store.recovered().map(|recovery| recovery.to_string());
        let debt = store.earlier_debt();
        // Once nobody else can change anything.
        receipt.differences = self.differences();
        let transaction = self.transaction(&receipt.differences, contents)?;
        let mut aftermath = Aftermath::default();
        if !transaction.is_empty() {
            let committed = store.commit(transaction)?;
            let gone = receipt.differences.iter().filter(|one| one.state == FileState::Leftover);
            store.remove_empty_folders(gone.map(|one| one.path.as_path()));
            aftermath = session::conclude(&mut store, committed, request.backups);
            receipt.changed = true;
        }
        aftermath.take_over(debt);
        self.remember(&mut aftermath);
        drop(store);
        let observation = observe::observe(self.layout, dir);
        let outcomes = self.take_up(&observation, &aftermath);
        receipt.uptake = outcomes.iter().map(uptake).collect();
        receipt.unfinished = self.until_anew(&observation, &outcomes);
        let (after, worse) = match receipt.changed || !outcomes.is_empty() {
            true => self.asker().wait(&before, &observation, request.wait),
            false => (before, None),
        };
        receipt.health = after.lines();
        receipt.awaiting = self.awaiting(&observation);
        receipt.own = self.own();
        receipt.warnings = std::mem::take(&mut aftermath.warnings);
        Ok(Taken { receipt, aftermath, error: worse.map(Error::Worse) })
    }

    /// All that is to be changed, at once.
    fn transaction(
        &self,
        differences: &[FileDifference],
        mut contents: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
    ) -> Result<Transaction, Error> {
        let now = self.request.now;
        let mut transaction = Transaction::new(&now.to_compact());
        transaction.by("receive");
        for FileDifference { path, state } in differences {
            if *state == FileState::Leftover {
                transaction.remove(path);
            } else {
                let content =
                    contents.remove(path).ok_or_else(|| Error::Unsent(path.to_path_buf()))?;
                let mode = self.belongs.get(path).copied().unwrap_or(SECRET);
                match self.own_at(path) {
                    Some(own) => self.write_with_key(own, content, mode, &mut transaction)?,
                    None => {
                        transaction.write_keeping_mode(path, content, mode);
                    }
                }
            }
            let action = match state {
                FileState::Leftover => "remove",
                FileState::Differs | FileState::Missing => "write",
            };
            transaction.log(log::file("receive", action, path, "deployed", now));
        }
        let place = |index: usize| self.layout.instances[index].place.clone();
        let owners = owner::Owners::look(self.layout, self.request.dir, place);
        let nowhere = BTreeMap::new();
        declared::know_owners(&owners.unknown, &nowhere, "delivery")?;
        transaction.own(&owners.wanted);
        let files: Vec<(PathBuf, Option<store::NewOwner>)> = transaction
            .paths()
            .map(|path| (path.to_path_buf(), owners.wanted.get(path).copied()))
            .collect();
        let files = files.iter().map(|(path, owner)| (path.as_path(), *owner));
        let refused = session::refusals(self.request.dir, files)?;
        match refused.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(transaction),
        }
    }

    /// Keeps what was brought and for whom. Without it the files are the right ones all the same.
    fn remember(&self, aftermath: &mut Aftermath) {
        let received = Received {
            cluster: self.layout.cluster.name.clone(),
            host: self.delivery.host.clone(),
            files: self.delivery.files.iter().map(|file| file.path.clone()).collect(),
        };
        if self.received().is_some_and(|was| was == received) {
            return;
        }
        let written = serde_json::to_vec_pretty(&received)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                store::write_note(self.request.dir, NOTE, &text)
                    .map_err(|error| with_causes(&error))
            });
        if let Err(why) = written {
            aftermath.warnings.push(format!("it was not noted for whom this was: {why}"));
        }
    }

    fn take_up(&self, observation: &observe::Observation, aftermath: &Aftermath) -> Vec<Uptake> {
        let (dir, request) = (self.request.dir, self.request);
        let places = observation.places();
        let files = aftermath.debt.files();
        let mut changed = change::owed_by(dir, observation, &files);
        let is_changed = |file: &PathBuf| files.contains(&dir.join(file));
        let mut amended: Vec<usize> = Vec::new();
        for (index, place) in places.iter().enumerate() {
            if place.kubeconfig().is_some_and(is_changed) {
                amended.push(index);
            }
        }
        let pairs = self.layout.key_pairs.iter().filter(|spec| {
            [spec.private, spec.public].iter().any(|file| is_changed(&PathBuf::from(file)))
        });
        let pairs: Vec<&'static str> = pairs.map(|spec| spec.id).collect();
        let own = |one: &InPlace| {
            let instance = &self.layout.instances[one.instance];
            instance.host.is_none_or(|host| host.name == self.host.name)
        };
        changed.retain(own);
        let mut outcomes = takeup::run(&takeup::Request {
            amended: &amended,
            pairs: &pairs,
            hook: request.hook,
            restart: request.restart,
            wait: Some(request.wait),
            waits_for_others: false,
            ..takeup::Request::new(dir, (self.layout.cluster, true), &places, &changed)
        });
        // What the cluster shares is used on other hosts, too; those have their own deliveries.
        outcomes.retain(|one| one.host.as_deref().is_none_or(|host| host == self.delivery.host));
        if !request.restart.is_empty() {
            // What an earlier delivery left to be restarted.
            let mut left = takeup::awaiting(self.layout, dir, observation);
            left.retain(|id| {
                outcomes.iter().all(|one| one.component != *id || one.restart.is_none())
            });
            let at = request.now.to_string();
            outcomes.extend(takeup::restart_awaiting(dir, &left, request.restart, &at));
        }
        outcomes
    }

    /// Waits until what was restarted runs anew; says what does not. A static pod is made anew by the kubelet, when it
    /// gets to it.
    fn until_anew(&self, observation: &observe::Observation, outcomes: &[Uptake]) -> Vec<String> {
        let restarted = |id: &str| {
            let mut all = outcomes.iter();
            all.any(|one| one.component == id && matches!(one.restart, Some(Ok(_))))
        };
        let start = Instant::now();
        loop {
            let awaiting = takeup::awaiting(self.layout, self.request.dir, observation);
            let open: Vec<&str> = awaiting.into_iter().filter(|id| restarted(id)).collect();
            if open.is_empty() || start.elapsed() >= self.request.wait {
                let told = |id: &&str| format!("{id} was restarted, and runs on as it was");
                return open.iter().map(told).collect();
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether it is a path below a directory, and not certkit's own.
fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    path.components().all(|part| matches!(part, Component::Normal(_)))
        && !path.starts_with(".certkit")
}

fn uptake(outcome: &Uptake) -> ReceivedUptake {
    let mut failed = Vec::new();
    if let Some(Err(error)) = &outcome.restart {
        failed.push(with_causes(error));
    }
    if let Some(Err(error)) = &outcome.hook {
        failed.push(with_causes(error));
    }
    let mut serves = Vec::new();
    for seen in &outcome.listeners {
        match &seen.state {
            takeup::State::New => serves.push(seen.address.clone()),
            takeup::State::Old { serial } => failed.push(format!(
                "{} of {} still serves the certificate with serial {serial}",
                seen.address, outcome.component
            )),
            takeup::State::Unknown(why) => {
                failed.push(format!("{} of {}: {why}", seen.address, outcome.component));
            }
        }
    }
    ReceivedUptake {
        component: outcome.component.to_owned(),
        needs_restart: outcome.needs_restart(),
        restarted: outcome.restart.as_ref().and_then(|done| done.as_ref().ok().cloned()),
        serves,
        failed,
    }
}
