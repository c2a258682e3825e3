//! `certkit deploy`: carries hosts' files to them over the operator's own ssh, has them taken in there by `certkit
//! receive`, and goes on from host to host only as long as nothing is worse for it.

mod keys;
mod ssh;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use zeroize::Zeroizing;

use self::keys::unmade;
use super::{
    change, declared,
    delivery::{self, Complaint, DeliveredFile, Delivery, PROTOCOL, Receipt},
    deployed::{self, Deployed},
    observe,
    password::Passwords,
    session,
};
use crate::{
    document,
    model::{
        cluster::{Cluster, Host},
        delivery::{HostFiles, HostKey, files, host_keys, slice},
        layout::{DEFAULT_HOST_DIR, Layout},
        near,
        shown::{name, with_causes},
        timestamp::Timestamp,
    },
    parallel::{self, progress},
    store,
};

pub use ssh::{SshError, Transport};

/// What is to be carried where, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The workspace, absolute.
    pub dir: &'a Path,
    /// The hosts; all where none is named.
    pub hosts: &'a [String],
    /// Of these only those that have not, as far as is known, what is here.
    pub changed: bool,
    /// Only compare.
    pub check: bool,
    /// Have hosts make new keys, of those that they make themselves.
    pub new_keys: bool,
    /// What opens the keys of the CAs that sign what hosts ask for.
    pub passwords: &'a Passwords,
    /// How hosts are reached.
    pub transport: &'a Transport,
    /// Whether this very program is brought along where none is installed.
    pub carry: bool,
    /// Ways of restarting, as `certkit receive` takes them.
    pub restart: &'a [&'a str],
    /// How long each host may take to be well again.
    pub wait: Duration,
    /// Also take in what is for another machine, and while etcd is not well.
    pub force: bool,
    /// How many nodes at once.
    pub parallel: usize,
    /// After how many nodes that failed no further one is begun.
    pub max_failures: usize,
    /// The time.
    pub now: Timestamp,
    /// Becomes true when no further host is to be begun.
    pub stop: &'a AtomicBool,
}

/// What became of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It has what is here now.
    Deployed,
    /// It would get something, or has something to restart.
    Differs,
    /// It failed: what was asked for did not happen, or not to its end.
    Failed,
    /// It was not tried, because of what came before.
    NotTried,
    /// It has what is here already.
    Unchanged,
    /// Nobody was reached.
    Unreachable,
}

impl HostState {
    /// As documents say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Differs => "differs",
            Self::Failed => "failed",
            Self::NotTried => "not-tried",
            Self::Unchanged => "unchanged",
            Self::Unreachable => "unreachable",
        }
    }
}

/// One host's outcome.
#[derive(Clone, Debug)]
pub struct HostOutcome {
    /// The host.
    pub host: String,
    /// What became of it.
    pub state: HostState,
    /// What it said last, if it said anything.
    pub receipt: Option<Receipt>,
    /// What went wrong.
    pub fault: Option<Complaint>,
}

/// What became of all.
#[derive(Debug)]
pub struct Report {
    /// The hosts, in the order in which they were begun: etcd, the control plane, nodes.
    pub hosts: Vec<HostOutcome>,
    /// What was found beside.
    pub warnings: Vec<String>,
    /// The certificates that were issued for keys that hosts made.
    pub issued: Vec<String>,
}

/// Why nothing was carried anywhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is at it.
    #[error("another certkit is deploying from {}", .0.display())]
    Busy(PathBuf),
    /// certkit.yaml cannot be had.
    #[error(transparent)]
    Declared(#[from] declared::Error),
    /// No host makes its keys itself.
    #[error("none of these hosts makes its keys itself")]
    NoKeys,
    /// What hosts asked for could not be issued.
    #[error("what hosts asked for, with keys of their own, cannot be issued")]
    Issue(#[source] Box<change::Error>),
    /// What hosts asked for could not be kept.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A host that is none.
    #[error("`{name}` is no host of this cluster")]
    Host {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The lock.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Part of the workspace is new and part old.
    #[error("{}: {why}", dir.display())]
    Unfinished {
        /// The workspace.
        dir: PathBuf,
        /// What is going on.
        why: String,
    },
    /// The host's tree is DIR itself.
    #[error("{} is {host}'s own tree", dir.display())]
    Local {
        /// The directory.
        dir: PathBuf,
        /// The host.
        host: String,
    },
}

impl Error {
    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::NoKeys)
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy(_) => Some("wait until it is done; it goes on by itself".into()),
            Self::Declared(error) => error.hint(),
            Self::Host { name, known } => Some(near::meant("hosts", known, name)),
            Self::NoKeys => Some("`keys: host` in certkit.yaml has them do so".into()),
            Self::Issue(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Lock { .. } => None,
            Self::Unfinished { .. } => Some("certkit rotate --within 0s".into()),
            Self::Local { .. } => Some(
                "what is deployed is a workspace, which `certkit init --workspace` makes; here `certkit rotate` changes \
                 the host itself"
                    .into(),
            ),
        }
    }
}

/// Carries what each host is to have there. `done` hears of each host as it is done.
pub fn run(request: &Request<'_>, done: &(dyn Fn(&HostOutcome) + Sync)) -> Result<Report, Error> {
    let dir = request.dir;
    let cluster = declared::load(dir)?;
    let _lock = match request.check {
        true => None,
        false => Some(lock(dir)?),
    };
    if let Some(why) = session::unfinished(dir) {
        return Err(Error::Unfinished { dir: dir.into(), why });
    }
    let layout = Layout::new(&cluster);
    let belongs = files(&layout);
    let own = host_keys(&layout);
    let mut courier = Courier {
        request,
        cluster: &cluster,
        belongs: &belongs,
        own: &own,
        unasked: BTreeMap::new(),
    };
    let hosts = courier.chosen()?;
    let mut warnings = courier.strays(&hosts);
    let issued = courier.have_keys_made(&hosts, &mut warnings)?;
    let task = progress::task("hosts", Some(hosts.len()));
    let tell = |outcome: &HostOutcome| {
        task.step();
        done(outcome);
    };
    let (few, nodes): (Vec<&Host>, Vec<&Host>) =
        hosts.into_iter().partition(|host| !host.is_only_node());
    let mut all = match request.check {
        // Nothing is changed, so nobody has to wait for anybody.
        true => parallel::map(&few, request.parallel, 1, |host| courier.visit(host, &tell)),
        false => courier.one_by_one(few, &tell),
    };
    let stands = all.iter().any(|one| matches!(one.state, HostState::Failed | HostState::NotTried));
    all.extend(courier.side_by_side(&nodes, stands && !request.check, &tell));
    Ok(Report { hosts: all, warnings, issued })
}

/// Two deployments at once could take two members of etcd down.
fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(".certkit/deploy.lock");
    let failed = |source| Error::Lock { path: path.clone(), source };
    let folder = dir.join(".certkit");
    if !folder.is_dir() {
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&folder)
            .map_err(failed)?;
    }
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(nofollow);
    let file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy(dir.into())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Goes to hosts.
struct Courier<'a> {
    request: &'a Request<'a>,
    cluster: &'a Cluster,
    belongs: &'a HashMap<PathBuf, HostFiles>,
    /// The keys that hosts make, by the folder of the host.
    own: &'a HashMap<PathBuf, Vec<HostKey>>,
    /// The hosts that were to ask for certificates and did not.
    unasked: BTreeMap<String, HostOutcome>,
}

impl<'a> Courier<'a> {
    /// The hosts that are asked for: members of etcd first, then the rest of the control plane, then nodes.
    fn chosen(&self) -> Result<Vec<&'a Host>, Error> {
        let (request, cluster) = (self.request, self.cluster);
        let all = &cluster.hosts;
        for name in request.hosts {
            let host = all.iter().find(|host| host.name.as_ref() == name);
            let host = host.ok_or_else(|| Error::Host {
                name: name.clone(),
                known: all.iter().map(|host| host.name.to_string()).collect(),
            })?;
            if cluster.is_local(host) {
                return Err(Error::Local { dir: request.dir.into(), host: name.clone() });
            }
        }
        let named: BTreeSet<&str> = request.hosts.iter().map(String::as_str).collect();
        let is_asked = |host: &&Host| {
            (named.is_empty() || named.contains(host.name.as_ref())) && !cluster.is_local(host)
        };
        let mut hosts: Vec<&Host> = all.iter().filter(is_asked).collect();
        if let (true, Some(host)) = (hosts.is_empty(), cluster.local()) {
            return Err(Error::Local { dir: request.dir.into(), host: host.name.to_string() });
        }
        if request.changed {
            hosts.retain(|host| self.is_behind(host));
        }
        hosts.sort_by_key(|host| (!host.etcd, !host.control_plane));
        Ok(hosts)
    }

    fn is_behind(&self, host: &Host) -> bool {
        let known = deployed::of(self.request.dir, host.name.as_ref());
        let is_settled = known.filter(|known| known.error.is_none() && !known.seen.is_empty());
        let lacks = |known: &Deployed| deployed::lacks(known, &self.digests(host)).is_some();
        is_settled.is_none_or(|known| lacks(&known)) || !self.unmade(host).is_empty()
    }

    fn files(&self, host: &Host) -> impl Iterator<Item = &PathBuf> {
        self.belongs.get(&self.cluster.root_of(host)).into_iter().flat_map(HostFiles::keys)
    }

    fn digests(&self, host: &Host) -> BTreeMap<PathBuf, String> {
        deployed::digests(self.request.dir, &self.cluster.root_of(host), self.files(host))
    }

    /// The files of a host as they are at one moment: a change that is made meanwhile must not leave a certificate there
    /// without its key.
    fn tree(&self, host: &Host) -> Result<BTreeMap<PathBuf, Zeroizing<Vec<u8>>>, Failure> {
        let root = self.cluster.root_of(host);
        let entries = match self.request.dir.join(&root).is_dir() {
            true => store::snapshot(self.request.dir, &root, |_| false)?,
            false => Vec::new(),
        };
        let belongs = self.belongs.get(&root);
        let is_its = |path: &PathBuf| belongs.is_some_and(|files| files.contains_key(path));
        let files = entries.into_iter().filter(|entry| is_its(&entry.path));
        let mut files: BTreeMap<PathBuf, Zeroizing<Vec<u8>>> =
            files.filter_map(|entry| Some((entry.path, entry.content?))).collect();
        for own in self.own.get(&root).into_iter().flatten() {
            let Some(content) = files.get_mut(&own.cert) else { continue };
            if observe::has_key(content) {
                return Err(Failure::Strays(root.join(&own.cert)));
            }
            // The form in which the host compares them with what it has.
            if let Some(certificates) = delivery::certificates_of(content) {
                *content = certificates;
            }
        }
        Ok(files)
    }

    /// What lies in hosts' trees and is nothing of certkit's: it stays here.
    fn strays(&self, hosts: &[&Host]) -> Vec<String> {
        let mut strays = Vec::new();
        for host in hosts {
            let root = self.cluster.root_of(host);
            let Some(belongs) = self.belongs.get(&root) else { continue };
            let tops: BTreeSet<_> =
                belongs.keys().filter_map(|file| file.components().next()).collect();
            let entries = std::fs::read_dir(self.request.dir.join(&root)).into_iter().flatten();
            for entry in entries.flatten() {
                let name = PathBuf::from(entry.file_name());
                if !name.components().next().is_some_and(|top| tops.contains(&top)) {
                    strays.push(root.join(name));
                }
            }
        }
        match strays.first() {
            None => Vec::new(),
            Some(first) => {
                let more = match strays.len() {
                    1 => String::new(),
                    count => format!(" and {} more", count - 1),
                };
                vec![format!("{}{more}: not certkit's, and not carried anywhere", first.display())]
            }
        }
    }

    /// Whatever others share is changed in one place at a time, and no further once it is worse for it.
    fn one_by_one(
        &self,
        hosts: Vec<&Host>,
        tell: &(dyn Fn(&HostOutcome) + Sync),
    ) -> Vec<HostOutcome> {
        let mut all: Vec<HostOutcome> = Vec::new();
        for host in hosts {
            let failed = all.iter().find(|one| one.state == HostState::Failed);
            let outcome = match failed {
                Some(failed) => not_tried(host, &format!("{} failed", failed.host)),
                None => self.visit(host, &|_| ()),
            };
            tell(&outcome);
            all.push(outcome);
        }
        all
    }

    fn side_by_side(
        &self,
        hosts: &[&Host],
        stands: bool,
        tell: &(dyn Fn(&HostOutcome) + Sync),
    ) -> Vec<HostOutcome> {
        let failures = AtomicUsize::new(0);
        parallel::map(hosts, self.request.parallel, 1, |host| {
            let outcome = if stands {
                not_tried(host, "the control plane is not done")
            } else if failures.load(Ordering::SeqCst) > self.request.max_failures {
                not_tried(host, "too many nodes failed")
            } else {
                self.visit(host, &|_| ())
            };
            if outcome.state == HostState::Failed {
                failures.fetch_add(1, Ordering::SeqCst);
            }
            tell(&outcome);
            outcome
        })
    }

    /// Goes to one host, and keeps what it said.
    fn visit(&self, host: &Host, tell: &(dyn Fn(&HostOutcome) + Sync)) -> HostOutcome {
        if self.request.stop.load(Ordering::SeqCst) {
            return not_tried(host, "interrupted");
        }
        let dir = self.request.dir;
        let mut known = deployed::of(dir, host.name.as_ref()).unwrap_or_default();
        known.host = host.name.to_string();
        known.tried = self.request.now.to_string();
        let mut outcome = match self.serve(host, &mut known) {
            Ok(outcome) => outcome,
            Err(failure) => failure.outcome(host),
        };
        known.error = outcome.fault.clone();
        if let Err(error) = deployed::keep(dir, &known) {
            let fault = Complaint { message: with_causes(&error), hint: error.hint() };
            outcome.fault.get_or_insert(fault);
        }
        tell(&outcome);
        outcome
    }

    fn serve(&self, host: &Host, known: &mut Deployed) -> Result<HostOutcome, Failure> {
        let request = self.request;
        if let Some(outcome) = self.unasked.get(host.name.as_ref()) {
            return Ok(outcome.clone());
        }
        let mut contents = self.tree(host)?;
        let digest = |(path, content): (&PathBuf, &Zeroizing<Vec<u8>>)| {
            (path.clone(), store::sha256(content))
        };
        let digests: BTreeMap<PathBuf, String> = contents.iter().map(digest).collect();
        if let Some(id) = self.unmade(host).first() {
            return Err(Failure::Unmade { id: id.name(), requested: self.has_request(host, *id) });
        }
        if digests.is_empty() {
            return Err(Failure::Nothing(self.cluster.root_of(host)));
        }
        let mut delivery = Delivery {
            protocol: PROTOCOL,
            host: host.name.to_string(),
            cluster: document::write(&slice(self.cluster, host)),
            files: digests
                .iter()
                .map(|(path, sha256)| DeliveredFile {
                    path: path.clone(),
                    sha256: sha256.clone(),
                    sent: false,
                })
                .collect(),
            keys: None,
        };
        let mut line = Line::new(self, host);
        let nothing = BTreeMap::new();
        let looked = line.say(&delivery, &nothing, Errand::Compare)?;
        note(known, &looked, &digests, request.now);
        let is_right = looked.differences.is_empty();
        let is_settled = looked.awaiting.is_empty() || request.restart.is_empty();
        let keyless = looked.keyless.first().map(|path| Complaint {
            message: format!(
                "{} is there without its key, which only this host can have",
                path.display()
            ),
            hint: Some(format!("certkit deploy --new-keys {}", host.name)),
        });
        let fault = looked.error.clone().or(keyless);
        if fault.is_some() || request.check || is_right && is_settled && looked.recovered.is_none()
        {
            let state = match (&fault, is_right && looked.awaiting.is_empty()) {
                (Some(_), _) => HostState::Failed,
                (None, true) => HostState::Unchanged,
                // Nothing is to be brought; that something waits for its restart is told with it.
                (None, false) if is_right && !request.check => HostState::Unchanged,
                (None, false) => HostState::Differs,
            };
            line.leave();
            let host = host.name.to_string();
            return Ok(HostOutcome { host, state, receipt: Some(looked), fault });
        }
        // Only what the host has not: what it has already need not travel.
        let wanted: BTreeSet<&PathBuf> = looked.differences.iter().map(|one| &one.path).collect();
        for file in &mut delivery.files {
            file.sent = wanted.contains(&file.path);
        }
        contents.retain(|path, _| wanted.contains(path));
        let receipt = line.say(&delivery, &contents, Errand::Bring)?;
        line.leave();
        note(known, &receipt, &digests, request.now);
        let failed: Vec<&str> = receipt.failures().collect();
        let fault = receipt.error.clone().or_else(|| {
            (!failed.is_empty()).then(|| Complaint { message: failed.join("; "), hint: None })
        });
        let state = match &fault {
            Some(_) => HostState::Failed,
            None => HostState::Deployed,
        };
        Ok(HostOutcome { host: host.name.to_string(), state, receipt: Some(receipt), fault })
    }

    /// What runs on the host.
    fn script(&self, program: &str, errand: Errand) -> String {
        let request = self.request;
        let tree = self.cluster.host_dir.as_deref().unwrap_or(DEFAULT_HOST_DIR);
        let tree = shlex::try_quote(tree)
            .map_or_else(|_| DEFAULT_HOST_DIR.into(), |text| text.into_owned());
        let mut words = format!("{program} --dir {tree} receive -o json");
        match errand {
            Errand::Ask => words.push_str(" --csr"),
            Errand::Compare => words.push_str(" --check"),
            Errand::Bring => {
                if !request.restart.is_empty() {
                    words.push_str(&format!(" --restart {}", request.restart.join(",")));
                }
                words.push_str(&format!(" --wait {}s", request.wait.as_secs()));
            }
        }
        if request.force {
            words.push_str(" --force");
        }
        format!("s=; [ \"$(id -u)\" = 0 ] || s='sudo -n'; exec $s {words}")
    }
}

fn not_tried(host: &Host, why: &str) -> HostOutcome {
    let fault = Complaint { message: format!("not tried: {why}"), hint: None };
    HostOutcome {
        host: host.name.to_string(),
        state: HostState::NotTried,
        receipt: None,
        fault: Some(fault),
    }
}

/// What a receipt says of what the host has.
fn note(
    known: &mut Deployed,
    receipt: &Receipt,
    digests: &BTreeMap<PathBuf, String>,
    now: Timestamp,
) {
    if receipt.error.is_some() && !receipt.changed {
        return;
    }
    known.seen = now.to_string();
    known.files.clone_from(digests);
    if !receipt.changed {
        for one in &receipt.differences {
            // What it has instead is not what is here, which is all that matters.
            known.files.insert(one.path.clone(), String::new());
        }
    }
    if receipt.changed {
        known.serves.clear();
    }
    known.awaiting.clone_from(&receipt.awaiting);
    known.own.clone_from(&receipt.own);
    for one in &receipt.uptake {
        for address in &one.serves {
            let served = format!("{} {address}", one.component);
            if !known.serves.contains(&served) {
                known.serves.push(served);
            }
        }
    }
}

/// What one comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To have it ask for certificates.
    Ask,
    /// To bring what it has not.
    Bring,
    /// To see what it has.
    Compare,
}

/// What is run on a host.
enum Program {
    /// What is in its PATH.
    Installed,
    /// What was brought, in a folder of its own.
    Brought(String),
}

/// A conversation with one host.
struct Line<'a> {
    courier: &'a Courier<'a>,
    host: &'a Host,
    program: Program,
    was_reached: bool,
}

impl<'a> Line<'a> {
    fn new(courier: &'a Courier<'a>, host: &'a Host) -> Self {
        Self { courier, host, program: Program::Installed, was_reached: false }
    }

    fn destination(&self) -> &str {
        self.host.ssh.as_ref().map_or(self.host.name.as_ref(), AsRef::as_ref)
    }

    /// Hands a delivery over and hears the receipt.
    fn say(
        &mut self,
        delivery: &Delivery,
        contents: &BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
        errand: Errand,
    ) -> Result<Receipt, Failure> {
        loop {
            let program = match &self.program {
                Program::Installed => "certkit".to_owned(),
                Program::Brought(folder) => format!("{folder}/certkit"),
            };
            let script = self.courier.script(&program, errand);
            let transport = self.courier.request.transport;
            let answer = transport
                .run(self.destination(), &script, |out| delivery::write(out, delivery, contents))?;
            let receipt = Receipt::find(&answer.output);
            let is_other = receipt.as_ref().is_some_and(|receipt| receipt.protocol != PROTOCOL);
            let is_installed = matches!(self.program, Program::Installed);
            if (answer.is_absent() || is_other || receipt.is_none() && !answer.is_unreachable())
                && self.courier.request.carry
                && is_installed
            {
                self.bring()?;
                continue;
            }
            // Who could not even read for whom it is says why.
            let is_its = |receipt: &Receipt| {
                !is_other && (receipt.host == delivery.host || receipt.error.is_some())
            };
            return match receipt {
                Some(receipt) if is_its(&receipt) => {
                    self.was_reached = true;
                    Ok(receipt)
                }
                Some(receipt) if is_other => Err(Failure::Version(receipt.version)),
                Some(receipt) => Err(Failure::Other(receipt.host)),
                None => Err(answer.failure(self.was_reached).into()),
            };
        }
    }

    /// Brings this very program to the host.
    fn bring(&mut self) -> Result<(), Failure> {
        let script =
            "d=$(mktemp -d) && cat >\"$d/certkit\" && chmod 700 \"$d/certkit\" && echo \"$d\"";
        let transport = self.courier.request.transport;
        let answer = transport.run(self.destination(), script, |out| {
            io::copy(&mut File::open("/proc/self/exe")?, out).map(drop)
        })?;
        let text = String::from_utf8_lossy(&answer.output);
        let is_folder = |line: &&str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
            line.starts_with('/') && line.bytes().all(plain)
        };
        let folder = text.lines().rev().map(str::trim).find(is_folder);
        match folder.filter(|_| answer.is_success()) {
            Some(folder) => {
                self.program = Program::Brought(folder.to_owned());
                Ok(())
            }
            None => Err(answer.failure(self.was_reached).into()),
        }
    }

    /// Takes away again what was brought.
    fn leave(&self) {
        if let Program::Brought(folder) = &self.program {
            let script = format!("rm -rf {folder}");
            // What stays of it is a program in a folder for temporary files.
            let _ = self.courier.request.transport.run(self.destination(), &script, |_| Ok(()));
        }
    }
}

/// Why a host got nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// There is nothing for it.
    #[error("there are no files for it in {}", .0.display())]
    Nothing(PathBuf),
    /// It keeps a key here that only the host is to have.
    #[error("{} holds a private key, which only the host is to have", .0.display())]
    Strays(PathBuf),
    /// What it asks for is not issued.
    #[error("{}", unmade(id, *requested))]
    Unmade {
        /// The certificate.
        id: &'static str,
        /// Whether it has asked.
        requested: bool,
    },
    /// Another host answered.
    #[error("{} answered in its place", name(.0))]
    Other(String),
    /// It refused.
    #[error("{}", .0.message)]
    Refused(Complaint),
    /// What is installed there does not understand what is here.
    #[error("certkit {} is installed there, and {} here: they do not speak the same", name(.0), env!("CARGO_PKG_VERSION"))]
    Version(String),
    /// Its answer is not what was asked for.
    #[error("what it asks for is not what it was to ask for: {0}")]
    Answer(String),
    /// Its files cannot be read, or are being changed.
    #[error(transparent)]
    Read(#[from] store::Error),
    /// The way there.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

impl Failure {
    fn outcome(&self, host: &Host) -> HostOutcome {
        let (state, hint) = match self {
            Self::Ssh(error) if error.is_unreachable() => (HostState::Unreachable, error.hint()),
            Self::Ssh(error) => (HostState::Failed, error.hint()),
            Self::Read(error) => (HostState::Failed, error.hint()),
            Self::Nothing(_) => (HostState::Failed, Some("`certkit init` makes them".into())),
            Self::Strays(_) => {
                let hint = format!(
                    "`certkit init` takes it out; where the host has it not, `certkit deploy --new-keys {}` has it make \
                     another",
                    host.name
                );
                (HostState::Failed, Some(hint))
            }
            Self::Unmade { requested: true, .. } => {
                let hint =
                    "have the requests below csr/hosts signed, then `certkit import FILE...`";
                (HostState::Failed, Some(hint.into()))
            }
            Self::Unmade { .. } => (HostState::Failed, Some("certkit deploy".into())),
            Self::Answer(_) => (HostState::Failed, None),
            Self::Other(_) => {
                let hint = "ssh leads to another host than certkit.yaml says: correct the one or the other";
                (HostState::Failed, Some(hint.into()))
            }
            Self::Version(_) => {
                let hint = "install the same version on both ends, or `certkit deploy --carry`, which brings its own";
                (HostState::Failed, Some(hint.into()))
            }
            Self::Refused(complaint) => (HostState::Failed, complaint.hint.clone()),
        };
        let fault = Complaint { message: with_causes(self), hint };
        HostOutcome { host: host.name.to_string(), state, receipt: None, fault: Some(fault) }
    }
}
