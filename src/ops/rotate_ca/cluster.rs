//! What objects in the cluster hold of CAs, which no file shows: looked up, and where certkit may brought up to date,
//! through kubectl. Few questions, answers read one object at a time, each with an end. Of Secrets nothing but
//! certificates is looked at, and none is changed.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{self, Read},
    ops::ControlFlow,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    document::{DocumentError, object, patch},
    model::{
        authority::Generations,
        catalogue::{
            ELSEWHERE, Elsewhere, Mended, ObjectKey, Objects, Whereabouts, roles::KUBECTL,
        },
        layout::Layout,
        observed::CertView,
        shown::{quoted, with_causes},
    },
    ops::{observe::Observation, password, trust},
    pki::{inspect::Certificate, pem},
};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the API may take for one request of kubectl's.
const REQUEST: &str = "--request-timeout=30s";

/// What an answer may have.
const SIZE: u64 = 1 << 30;

/// How much of what kubectl complains is told.
const SAID: u64 = 4096;

/// How long it is waited between two looks at what kubectl has said so far.
const NAP: Duration = Duration::from_millis(5);

/// How many copies a message names.
const NAMED: usize = 20;

/// Why the cluster could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// What it printed is not what it should be.
    #[error("kubectl {asked}: what it printed cannot be read")]
    Answer {
        /// What was asked.
        asked: String,
        /// Why not.
        source: DocumentError,
    },
    /// It cannot be started.
    #[error("cannot start kubectl")]
    Start(#[source] io::Error),
    /// It said no.
    #[error("kubectl {asked} ended with {status}: {said}")]
    Status {
        /// What was asked.
        asked: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
}

/// A CA as copies of it are told apart.
#[derive(Clone, Debug)]
pub struct CopiedCa {
    /// Its id.
    pub id: &'static str,
    /// What every copy must hold: the generation that is to issue next, else the one that issues. DER.
    pub wanted: Vec<u8>,
    /// What a copy must not hold alone.
    pub old: Vec<Vec<u8>>,
    /// All that is trusted on disk.
    pub trusted: Vec<Vec<u8>>,
}

impl CopiedCa {
    /// A CA as it is on disk.
    pub fn of(layout: &Layout<'_>, observation: &Observation, index: usize) -> Option<Self> {
        let found = Generations::of(layout, &observation.observed, index);
        let wanted = found.next.or(found.active)?.der.clone();
        let der = |ca: &CertView| ca.der.clone();
        let mut old: Vec<Vec<u8>> =
            found.active.into_iter().chain(found.previous).map(der).collect();
        old.extend(found.trusted.iter().map(der));
        old.retain(|ca| *ca != wanted);
        let trusted = found.trusted.iter().map(der).collect();
        Some(Self { id: layout.instances[index].spec.id.name(), wanted, old, trusted })
    }

    /// The same, and what it was before a change.
    pub fn after(mut self, before: &[Self]) -> Self {
        for other in before.iter().filter(|other| other.id == self.id) {
            self.old.extend(other.old.iter().cloned());
            self.old.push(other.wanted.clone());
        }
        self.old.retain(|ca| *ca != self.wanted);
        self
    }

    /// Whether a copy holds a generation and not the one that it must.
    fn is_stale(&self, held: &[Vec<u8>]) -> bool {
        !held.contains(&self.wanted) && held.iter().any(|ca| self.old.contains(ca))
    }

    /// What a copy is to hold: what is trusted, and what was there besides. Nothing where it does, or is of another CA.
    fn mend(&self, held: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let is_own =
            |ca: &Vec<u8>| *ca == self.wanted || self.old.contains(ca) || self.trusted.contains(ca);
        if !held.iter().any(is_own) {
            return None;
        }
        let others = held.iter().filter(|ca| !is_own(ca));
        let right: Vec<Vec<u8>> = self.trusted.iter().chain(others).cloned().collect();
        let (a, b): (BTreeSet<_>, BTreeSet<_>) = (right.iter().collect(), held.iter().collect());
        (a != b).then_some(right)
    }
}

/// A copy of a CA in the cluster that is not right, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterCopy {
    /// Of which CA.
    pub authority: &'static str,
    /// The object's kind.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where in it.
    pub field: String,
    /// The fingerprints of what it holds, SHA-256 in hexadecimal.
    pub fingerprints: Vec<String>,
    /// Whether it holds an old generation alone.
    pub is_stale: bool,
    /// Who brings it up to date.
    pub mended: Mended,
    /// Whether this run did.
    pub is_mended: bool,
}

impl ClusterCopy {
    /// Where it is, for people. What names things there is the cluster's word, not certkit's.
    pub fn place(&self) -> String {
        let Self { kind, namespace, name, field, .. } = self;
        let object = match namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.clone(),
        };
        format!("{} {} {}", shown(kind), shown(&object), shown(field))
    }

    /// Who is to bring it up to date.
    pub fn remedy(&self) -> &'static str {
        match self.mended {
            Mended::Itself => "what writes it does so once it has read its files again: restart it",
            Mended::Bundle => {
                "`certkit rotate-ca --kubeconfig FILE --apply-cluster` writes what is trusted there"
            }
            Mended::Deleted => "`--apply-cluster` deletes it when the old CA is dropped",
            Mended::People => "whoever keeps it must write it anew",
        }
    }
}

/// Names in a cluster are plain; what is not is quoted.
fn shown(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._[]/:".contains(c);
    match text.len() < 300 && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text).to_string(),
    }
}

/// The copies that are not right, as far as they can be told: what holds an old generation alone, or, of what is to be
/// mended anyway, something else than what is trusted.
pub fn look(kubectl: &Kubectl<'_>, known: &[CopiedCa]) -> Result<Vec<ClusterCopy>, KubectlError> {
    let is_known = |row: &&Elsewhere| known.iter().any(|ca| ca.id == row.authority);
    let rows: Vec<(&'static Elsewhere, Objects)> = ELSEWHERE
        .iter()
        .filter(is_known)
        .filter_map(|row| match row.found {
            Whereabouts::Objects(objects) => Some((row, objects)),
            Whereabouts::Nowhere(_) => None,
        })
        .collect();
    let mut questions: Vec<&'static str> = Vec::new();
    for (_, objects) in &rows {
        if !questions.contains(&objects.resources) {
            questions.push(objects.resources);
        }
    }
    let mut copies: Vec<ClusterCopy> = Vec::new();
    for question in questions {
        let rows = rows.iter().filter(|(_, objects)| objects.resources == question);
        let rows: Vec<_> = rows.copied().collect();
        kubectl.objects(question, &mut |item| {
            for (row, objects) in &rows {
                for ca in known.iter().filter(|ca| ca.id == row.authority) {
                    examine(&item, row, objects, ca, &mut copies);
                }
            }
        })?;
    }
    Ok(copies)
}

fn examine(
    item: &object::Item,
    row: &'static Elsewhere,
    objects: &Objects,
    ca: &CopiedCa,
    copies: &mut Vec<ClusterCopy>,
) {
    let is = |wanted: Option<&str>, found: &Option<String>| {
        wanted.is_none_or(|wanted| found.as_deref() == Some(wanted))
    };
    if !is(objects.name, &item.name)
        || !is(objects.namespace, &item.namespace)
        || !is(objects.secret_type, &item.secret_type)
    {
        return;
    }
    for entry in &item.entries {
        let Ok(octets) = &entry.value else { continue };
        let held = match objects.value {
            ObjectKey::Pem(key) if entry.key == key => certificates(octets),
            ObjectKey::CaBundle if entry.key.ends_with(object::CA_BUNDLE) => certificates(octets),
            ObjectKey::Kubeconfig => der(&trust::in_kubeconfig(octets)),
            _ => continue,
        };
        let is_stale = ca.is_stale(&held);
        let is_wrong = match row.mended {
            Mended::Itself | Mended::People => is_stale,
            Mended::Bundle => is_stale || ca.mend(&held).is_some(),
            Mended::Deleted => held.iter().any(|der| !ca.trusted.contains(der)),
        };
        if !is_wrong {
            continue;
        }
        let copy = ClusterCopy {
            authority: row.authority,
            kind: item.kind.clone().unwrap_or_default(),
            namespace: item.namespace.clone(),
            name: item.name.clone().unwrap_or_default(),
            field: entry.key.clone(),
            fingerprints: held.iter().map(|der| crate::store::sha256(der)).collect(),
            // What only ever grows is never all there is.
            is_stale: is_stale && row.mended != Mended::Deleted,
            mended: row.mended,
            is_mended: false,
        };
        let is_same = |other: &ClusterCopy| {
            (&other.kind, &other.namespace, &other.name, &other.field, other.authority)
                == (&copy.kind, &copy.namespace, &copy.name, &copy.field, copy.authority)
        };
        // Rows of several stages are about one and the same.
        match copies.iter_mut().find(|other| is_same(other)) {
            Some(other) => other.is_stale |= copy.is_stale,
            None => copies.push(copy),
        }
    }
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    der(&trust::in_pem(pem))
}

fn der(all: &[Certificate]) -> Vec<Vec<u8>> {
    all.iter().map(|certificate| certificate.der().to_vec()).collect()
}

/// Brings up to date what certkit may, and says in each copy whether it did. What could not be is returned.
pub fn apply(
    kubectl: &Kubectl<'_>,
    known: &[CopiedCa],
    is_dropped: &dyn Fn(&str) -> bool,
    copies: &mut [ClusterCopy],
) -> Vec<KubectlError> {
    let mut failed = Vec::new();
    let mut done: Vec<(String, Option<String>, String)> = Vec::new();
    for copy in copies {
        let object = (copy.kind.clone(), copy.namespace.clone(), copy.name.clone());
        let may = match copy.mended {
            Mended::Bundle => true,
            Mended::Deleted => is_dropped(copy.authority),
            Mended::Itself | Mended::People => false,
        };
        if !may {
            continue;
        }
        if !done.contains(&object) {
            let result = match copy.mended {
                Mended::Deleted => kubectl.delete(copy),
                _ => kubectl.mend(copy, known),
            };
            match result {
                Ok(()) => done.push(object),
                Err(error) => {
                    failed.push(error);
                    continue;
                }
            }
        }
        copy.is_mended = true;
    }
    failed
}

/// What stands against going on, of what was found.
pub fn refusals(copies: &[ClusterCopy], is_leaving: &dyn Fn(&str) -> bool) -> Vec<String> {
    let stale: Vec<&ClusterCopy> =
        copies.iter().filter(|copy| copy.is_stale && is_leaving(copy.authority)).collect();
    let told = |copy: &&ClusterCopy| {
        format!(
            "{}: {} holds an old generation alone ({}): {}",
            copy.authority,
            copy.place(),
            short(&copy.fingerprints),
            copy.remedy()
        )
    };
    let mut refusals: Vec<String> = stale.iter().take(NAMED).map(told).collect();
    if stale.len() > NAMED {
        refusals.push(format!("and {} more in the cluster", stale.len() - NAMED));
    }
    refusals
}

/// The beginnings of fingerprints, as they are told.
pub fn short(fingerprints: &[String]) -> String {
    let begin = |text: &String| text.chars().take(16).collect::<String>();
    fingerprints.iter().map(begin).collect::<Vec<_>>().join(" ")
}

/// kubectl, with the kubeconfig that it was given.
#[derive(Clone, Copy, Debug)]
pub struct Kubectl<'a> {
    /// The kubeconfig.
    pub kubeconfig: &'a Path,
}

impl Kubectl<'_> {
    /// Reads all objects of these kinds, one after the other.
    fn objects(
        &self,
        resources: &str,
        each: &mut dyn FnMut(object::Item),
    ) -> Result<(), KubectlError> {
        let words = ["get", resources, "--all-namespaces", "--output=json"];
        let asked = words[..2].join(" ");
        let answer = self.start(&words)?;
        let kept = answer.kept.clone();
        let read = object::objects(answer, KUBECTL.id, &mut |item| {
            each(item);
            ControlFlow::Continue(())
        });
        // Why it ended says more than how what it printed did.
        kept.finish(&asked)?;
        read.map(|_| ()).map_err(|source| KubectlError::Answer { asked, source })
    }

    fn mend(&self, copy: &ClusterCopy, known: &[CopiedCa]) -> Result<(), KubectlError> {
        let mut words = vec!["get".to_owned()];
        words.extend(named(copy));
        words.push("--output=json".to_owned());
        let object = self.whole(&words)?;
        let mend = |octets: &[u8]| {
            let mut held = certificates(octets);
            let mut is_changed = false;
            for ca in known {
                if let Some(right) = ca.mend(&held) {
                    held = right;
                    is_changed = true;
                }
            }
            let text = |der: &Vec<u8>| pem::encode("CERTIFICATE", der);
            is_changed.then(|| held.iter().map(text).collect::<String>().into_bytes())
        };
        let patch = match copy.field.ends_with(object::CA_BUNDLE) {
            true => patch::ca_bundles(&object, &mend),
            false => patch::kubeconfigs(&object, &mend),
        };
        // Somebody else was faster.
        let Some(patch) = patch else { return Ok(()) };
        let mut words = vec!["patch".to_owned()];
        words.extend(named(copy));
        words.extend(["--type=json".to_owned(), format!("--patch={patch}")]);
        self.whole(&words).map(|_| ())
    }

    fn delete(&self, copy: &ClusterCopy) -> Result<(), KubectlError> {
        let mut words = vec!["delete".to_owned()];
        words.extend(named(copy));
        words.push("--ignore-not-found".to_owned());
        self.whole(&words).map(|_| ())
    }

    /// Runs it, and gives all that it prints.
    fn whole(&self, words: &[String]) -> Result<Vec<u8>, KubectlError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut answer = self.start(&words)?;
        let kept = answer.kept.clone();
        let mut octets = Vec::new();
        let read = answer.read_to_end(&mut octets);
        let asked = words.iter().take(3).copied().collect::<Vec<_>>().join(" ");
        kept.finish(&asked)?;
        match read {
            Ok(_) => Ok(octets),
            Err(error) => Err(KubectlError::Answer { asked, source: DocumentError::Read(error) }),
        }
    }

    fn start(&self, words: &[&str]) -> Result<Answer, KubectlError> {
        let mut child = Command::new(KUBECTL.id)
            .arg("--kubeconfig")
            .arg(self.kubeconfig)
            .arg(REQUEST)
            .args(words)
            .env_remove(password::VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(KubectlError::Start)?;
        let stdout = child.stdout.take();
        let flags = rustix::fs::OFlags::NONBLOCK;
        if let Some(stdout) = &stdout {
            let set = rustix::fs::fcntl_setfl(stdout, flags);
            set.map_err(|error| KubectlError::Start(error.into()))?;
        }
        let kept = Kept(Rc::new(RefCell::new(child)));
        Ok(Answer { kept, stdout, end: Instant::now() + LIMIT, left: SIZE })
    }
}

/// The words that name an object.
fn named(copy: &ClusterCopy) -> Vec<String> {
    let mut words = vec![copy.kind.to_ascii_lowercase(), copy.name.clone()];
    if let Some(namespace) = &copy.namespace {
        words.push(format!("--namespace={namespace}"));
    }
    // What a cluster calls something is no option.
    words.retain(|word| !word.starts_with('-') || word.starts_with("--namespace="));
    words
}

/// The process, which ends when nobody keeps it any more.
#[derive(Clone)]
struct Kept(Rc<RefCell<Child>>);

impl Kept {
    /// Waits for its end, which must be a good one.
    fn finish(&self, asked: &str) -> Result<(), KubectlError> {
        let mut child = self.0.borrow_mut();
        let end = Instant::now() + Duration::from_secs(5);
        let status = loop {
            match child.try_wait().map_err(KubectlError::Start)? {
                Some(status) => break status,
                None if Instant::now() > end => {
                    // It was read to its end, or to where it took too long.
                    let _ = child.kill();
                    break child.wait().map_err(KubectlError::Start)?;
                }
                None => std::thread::sleep(NAP),
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            // What cannot be read is not told.
            let _ = stderr.take(SAID).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let said = quoted(last).to_string();
        Err(KubectlError::Status { asked: asked.to_owned(), status, said })
    }
}

/// What it prints, up to a time and a size.
struct Answer {
    kept: Kept,
    stdout: Option<ChildStdout>,
    end: Instant,
    left: u64,
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        loop {
            match stdout.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(size) if size as u64 > self.left => {
                    return Err(io::Error::other(format!("it is more than {} MiB", SIZE >> 20)));
                }
                Ok(size) => {
                    self.left -= size as u64;
                    return Ok(size);
                }
                Err(error) => return Err(error),
            }
            if Instant::now() > self.end {
                let why = format!("nothing more came in {} seconds", LIMIT.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            std::thread::sleep(NAP);
        }
    }
}

/// An error with its causes, as a sentence in a list.
pub fn why(error: &KubectlError) -> String {
    format!("the cluster cannot be looked into: {}", with_causes(error))
}
