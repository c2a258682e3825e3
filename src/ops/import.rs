//! `certkit import`: takes certificates back that were signed elsewhere, all or none.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    io,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{
    apply::{self, Import},
    change::{self, Error, parts},
    declared, log, observe,
    observe::Observation,
    read,
    session::{self, Aftermath},
    takeup::{Changed, InPlace},
    verify::candidate,
};
use crate::{
    model::{
        cluster::Cluster,
        duration::Span,
        layout::{Instance, Layout},
        observed::Piece,
        part::{ClusterPart, PartedCluster},
        plan::{
            difference::profile_differences, reconcile::order_for, request_file, request_key_file,
        },
        profile::{Kind, Profile},
        resolve,
        shown::with_causes,
        timestamp::Timestamp,
        usage::ExtendedUsage,
    },
    parallel::progress,
    pki::{
        chain::{self, LeafUse},
        inspect::{self, Certificate, SigningRequest as Csr},
        key::{PrivateKey, PublicKey},
    },
    store::Store,
};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Files with certificates, and folders of such.
    pub files: &'a [PathBuf],
    /// Only say what would be done.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
    /// How long to wait for another certkit.
    pub lock_wait: Duration,
    /// How many backups to keep.
    pub backups: usize,
}

/// What was taken in, or would be, of all or of a part.
#[derive(Debug)]
pub struct Intake {
    /// The certificates.
    pub records: Vec<apply::Record>,
    /// What is in place from now on, and whether that is all; none of what is only said.
    pub changed: Option<(Changed, bool)>,
}

/// What there is to say once all is done.
#[derive(Debug, Default)]
pub struct Report {
    /// How many of those that were given are in place already.
    pub there: usize,
    /// What waits for its signature still.
    pub waiting: Vec<String>,
    /// What the change left behind.
    pub aftermath: Aftermath,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
    /// Why it ended before all was taken in, of many nodes.
    pub left: Option<Error>,
}

/// A request that waits for its signature.
struct Pending {
    instance: usize,
    public_key: PublicKey,
    /// The key; none where its host has it.
    key: Option<PrivateKey>,
    asked: Profile,
}

/// Checks every certificate against its request and publishes all, or names every mismatch. What is taken in is handed over
/// as it is.
///
/// Of many nodes all are checked part by part, then published part by part. What an earlier run has published that was cut
/// short is no mismatch.
pub fn run(request: &Request<'_>, mut taken: impl FnMut(Intake)) -> Result<Report, Error> {
    let dir = request.dir;
    let (cluster, declared) = declared::or_anything(dir)?;
    let parts = PartedCluster::new(&cluster);
    let mut offers = Offers::read(request.files);
    let mut report = Report::default();
    let mut planned = Vec::new();
    let open = check(request, &parts, declared, &mut offers, (&mut report, &mut planned))?;
    if request.dry_run {
        planned.into_iter().for_each(|records| taken(Intake { records, changed: None }));
        return Ok(report);
    }
    // The same again now that nobody else may change anything.
    let mut store = session::open(dir, request.lock_wait)?;
    let is_still = |(again, is): (Cluster, bool)| again == cluster && is == declared;
    if !is_still(declared::or_anything(dir)?) {
        return Err(Error::Redeclared(dir.join(declared::FILE)));
    }
    report.recovered = store.recovered().map(|recovery| recovery.to_string());
    let debt = store.earlier_debt();
    let owed = debt.files();
    let ranges = parts.ranges();
    let is_only = ranges.len() == 1;
    let is_owed = !owed.is_empty();
    let is_concerned = |nodes: &Range<usize>| is_owed || open.contains(nodes);
    let task = (!is_only).then(|| progress::task(parts::WHAT, Some(parts.nodes())));
    offers.open_again();
    let mut publishing = Publishing { request, declared, store, offers, owed, operation: None };
    for nodes in ranges {
        let part = parts.part(nodes.clone(), nodes.start == 0);
        if is_concerned(&nodes) {
            match publishing.publish(&part, &mut report) {
                Ok((records, changed)) => {
                    taken(Intake { records, changed: Some((changed, is_only)) });
                }
                // Nothing was taken in yet.
                Err(error) if publishing.operation.is_none() => return Err(error),
                Err(error) => {
                    report.left = Some(error);
                    break;
                }
            }
        }
        if let Some(task) = &task {
            task.steps(nodes.len());
        }
    }
    report.aftermath.take_over(debt);
    Ok(report)
}

/// Looks for everything that is wrong, in all parts; gives those that have something to take in, and for a dry run what.
fn check(
    request: &Request<'_>,
    parts: &PartedCluster<'_>,
    declared: bool,
    offers: &mut Offers,
    (report, planned): (&mut Report, &mut Vec<Vec<apply::Record>>),
) -> Result<Vec<Range<usize>>, Error> {
    let mut open = Vec::new();
    for nodes in parts.ranges() {
        let part = parts.part(nodes.clone(), nodes.start == 0);
        let ground = Ground::look(request, &part, declared);
        let (imports, waiting) = ground.match_up(offers);
        report.waiting.extend(waiting);
        if !imports.is_empty() {
            open.push(nodes);
            if offers.wrong.is_empty() {
                let (prepared, wrong) = ground.prepare(imports)?;
                offers.wrong.extend(wrong.into_iter().map(|what| (usize::MAX, what)));
                if request.dry_run {
                    planned.push(prepared.issued);
                }
            }
        }
    }
    report.there = offers.there;
    offers.end()?;
    Ok(open)
}

/// What is published, part by part.
struct Publishing<'r> {
    request: &'r Request<'r>,
    declared: bool,
    store: Store,
    offers: Offers,
    /// What an earlier run changed, and nobody was told of.
    owed: BTreeSet<PathBuf>,
    /// The backup of the first part.
    operation: Option<String>,
}

impl Publishing<'_> {
    fn publish(
        &mut self,
        part: &ClusterPart,
        report: &mut Report,
    ) -> Result<(Vec<apply::Record>, Changed), Error> {
        let (request, declared) = (self.request, self.declared);
        let ground = Ground::look(request, part, declared);
        let owed = change::owed_by(request.dir, &ground.observation, &self.owed);
        let (imports, _) = ground.match_up(&mut self.offers);
        self.offers.refuse()?;
        let places = ground.observation.places();
        let (cluster, only_nodes) = (part.cluster.clone(), !part.is_first);
        if imports.is_empty() {
            let changed = Changed { cluster, declared, places, served: owed, only_nodes };
            return Ok((Vec::new(), changed));
        }
        let (mut prepared, wrong) = ground.prepare(imports)?;
        if !wrong.is_empty() {
            return Err(Error::Mismatches(wrong));
        }
        for record in &prepared.issued {
            let line = log::certificate("import", "import", record, request.now);
            prepared.transaction.log(line);
        }
        let mut served: Vec<InPlace> = prepared.issued.iter().map(InPlace::from).collect();
        change::add_owed(&mut served, owed);
        prepared.transaction.by("import");
        if let Some(operation) = &self.operation {
            prepared.transaction.part_of(operation);
        }
        let committed = self.store.commit(prepared.transaction)?;
        self.operation = self.operation.take().or_else(|| committed.id.clone());
        report.aftermath.join(session::conclude(&mut self.store, committed, request.backups));
        Ok((prepared.issued, Changed { cluster, declared, places, served, only_nodes }))
    }
}

/// The certificates that were given. Where each is is known by its key, and its file is read again when its turn comes, so
/// that not all of many are held.
struct Offers {
    files: Vec<PathBuf>,
    /// By the key's fingerprint.
    by_key: HashMap<[u8; 32], OffersOfKey>,
    /// Of what stands for each issuer and serial number, the first certificate that has it, and its file.
    numbers: HashMap<u64, (u64, usize)>,
    hasher: RandomState,
    /// Whether something of the file was taken, or is in place.
    used: Vec<bool>,
    /// The file that was read last.
    read: Option<(usize, Rc<Vec<Certificate>>)>,
    /// How many are in place already.
    there: usize,
    /// What is wrong, by the number of the file.
    wrong: Vec<(usize, String)>,
}

/// The certificates for one key.
#[derive(Default)]
struct OffersOfKey {
    all: Vec<Offer>,
    /// Whether a request of it waits, or did.
    asked: bool,
}

/// Where a certificate is.
struct Offer {
    file: usize,
    at: usize,
    fingerprint: [u8; 32],
    /// Whether nothing has become of it yet.
    is_open: bool,
}

impl Offers {
    fn read(given: &[PathBuf]) -> Self {
        let (mut files, mut wrong) = (Vec::new(), Vec::new());
        for path in given {
            let before = files.len();
            let found = match path.is_dir() {
                true => below(path, &mut files),
                false => {
                    files.push(path.clone());
                    Ok(())
                }
            };
            if let Err(why) = found {
                wrong.push((before, why));
            } else if files.len() == before {
                let kinds = KINDS.join(", .");
                wrong.push((before, format!("{}: holds no file (.{kinds})", path.display())));
            }
        }
        let mut offers = Self {
            used: vec![false; files.len()],
            files,
            by_key: HashMap::new(),
            numbers: HashMap::new(),
            hasher: RandomState::new(),
            read: None,
            there: 0,
            wrong,
        };
        for file in 0..offers.files.len() {
            match offers.certificates(file) {
                Ok(all) => {
                    offers.used[file] = all.is_empty();
                    for (at, certificate) in all.iter().enumerate() {
                        let fingerprint = certificate.fingerprint();
                        // CAs between are not taken in for themselves.
                        if !certificate.is_ca() {
                            offers.number(file, certificate);
                        }
                        let offer = Offer { file, at, fingerprint, is_open: true };
                        let of_key = offers.by_key.entry(certificate.public_key().fingerprint());
                        let of_key = of_key.or_default();
                        // Nearly all have one.
                        of_key.all.reserve_exact(1);
                        of_key.all.push(offer);
                    }
                }
                Err(why) => {
                    offers.used[file] = true;
                    offers.blame(file, &why);
                }
            }
        }
        offers
    }

    /// What a file holds, or why that cannot be known.
    fn certificates(&mut self, file: usize) -> Result<Rc<Vec<Certificate>>, String> {
        if let Some((number, all)) = &self.read
            && *number == file
        {
            return Ok(Rc::clone(all));
        }
        let all = match read::file(&self.files[file]) {
            Piece::Present(content) => {
                inspect::from_pem(&content).map_err(|error| with_causes(&error))?
            }
            Piece::Missing => return Err("there is no such file".into()),
            Piece::Bad(why) => return Err(why),
        };
        let all = Rc::new(all);
        self.read = Some((file, Rc::clone(&all)));
        Ok(all)
    }

    fn blame(&mut self, file: usize, what: &str) {
        self.wrong.push((file, format!("{}: {what}", self.files[file].display())));
    }

    /// Notes who has a number, or that two have it. Nothing else looks at all nodes' certificates at once.
    fn number(&mut self, file: usize, certificate: &Certificate) {
        let (number, this) = self.hashes(certificate);
        let (first, other) = *self.numbers.entry(number).or_insert((this, file));
        if first != this {
            let other = self.files[other].clone();
            self.blame_number(file, certificate, &other);
        }
    }

    /// That what stays where it is has no number of what is offered.
    fn keep(&mut self, place: &Path, certificate: &Certificate) {
        let (number, this) = self.hashes(certificate);
        let offered = self.numbers.get(&number).copied();
        if let Some((_, file)) = offered.filter(|(other, _)| *other != this) {
            self.blame_number(file, certificate, place);
        }
    }

    fn blame_number(&mut self, file: usize, certificate: &Certificate, other: &Path) {
        let (number, other) = (certificate.serial_hex(), other.display());
        self.blame(file, &format!("it has the serial number of {other} too: {number}"));
    }

    /// What stands for a certificate's issuer and number, and for itself. Of a hundred thousand two have the same by
    /// chance once in some billion times.
    fn hashes(&self, certificate: &Certificate) -> (u64, u64) {
        let number = (certificate.issuer().der(), certificate.serial());
        (self.hasher.hash_one(number), self.hasher.hash_one(certificate.der()))
    }

    /// The first certificate for a key, which is offered no longer: all of its file, where it is in that, and the file.
    fn take(&mut self, key: &PublicKey) -> Option<(Rc<Vec<Certificate>>, usize, usize)> {
        let of_key = self.by_key.get_mut(&key.fingerprint())?;
        of_key.asked = true;
        let offer = of_key.all.iter_mut().find(|offer| offer.is_open)?;
        offer.is_open = false;
        let Offer { file, at, fingerprint, .. } = *offer;
        self.used[file] = true;
        match self.certificates(file) {
            Ok(all) if all.get(at).is_some_and(|one| one.fingerprint() == fingerprint) => {
                return Some((all, at, file));
            }
            Ok(_) => self.blame(file, "has changed while it was taken in"),
            Err(why) => self.blame(file, &why),
        }
        None
    }

    /// Takes out a certificate that is in place.
    fn pass_over(&mut self, certificate: &Certificate) {
        let key = certificate.public_key().fingerprint();
        let Some(of_key) = self.by_key.get_mut(&key) else { return };
        let fingerprint = certificate.fingerprint();
        for offer in of_key.all.iter_mut().filter(|offer| offer.is_open) {
            if offer.fingerprint == fingerprint {
                offer.is_open = false;
                self.used[offer.file] = true;
                self.there += 1;
            }
        }
    }

    /// Has all of them offered as at first.
    fn open_again(&mut self) {
        let offers = self.by_key.values_mut().flat_map(|of_key| &mut of_key.all);
        offers.for_each(|offer| offer.is_open = true);
        (self.read, self.there) = (None, 0);
    }

    /// That nothing was wrong so far.
    fn refuse(&mut self) -> Result<(), Error> {
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.sort_by_key(|(file, _)| *file);
        let wrong: Vec<String> = wrong.into_iter().map(|(_, what)| what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Error::Mismatches(wrong)) }
    }

    /// That nothing was wrong, once all requests have had their turn.
    fn end(&mut self) -> Result<(), Error> {
        let asked = self.by_key.values().filter(|of_key| of_key.asked);
        let more = asked.flat_map(|of_key| &of_key.all).filter(|offer| offer.is_open);
        for file in more.map(|offer| offer.file).collect::<Vec<_>>() {
            self.used[file] = true;
            self.blame(file, "a second certificate for the same request");
        }
        for file in (0..self.files.len()).filter(|file| !self.used[*file]).collect::<Vec<_>>() {
            self.blame(file, "no request that waits has the key of a certificate in it");
        }
        self.refuse()
    }
}

/// What files of certificates are called.
const KINDS: [&str; 3] = ["crt", "pem", "cer"];

/// Adds the files of certificates below a folder, in the order of their names. No link to a folder is followed.
fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let why = |error: io::Error| format!("{}: {}", folder.display(), with_causes(&error));
    let entries = std::fs::read_dir(folder).map_err(why)?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(why)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(why)?.is_dir() {
            below(&path, files)?;
        } else if KINDS.iter().any(|kind| path.extension() == Some(kind.as_ref())) {
            files.push(path);
        }
    }
    Ok(())
}

/// A part of the cluster, and what is there of it.
struct Ground<'a> {
    request: &'a Request<'a>,
    part: &'a ClusterPart,
    declared: bool,
    layout: Layout<'a>,
    observation: Observation,
}

impl<'a> Ground<'a> {
    fn look(request: &'a Request<'a>, part: &'a ClusterPart, declared: bool) -> Self {
        let layout = Layout::new(&part.cluster);
        let observation = observe::observe(&layout, request.dir);
        Self { request, part, declared, layout, observation }
    }

    /// Whether an instance is this part's own.
    fn has(&self, instance: &Instance<'_>) -> bool {
        instance.host.map_or(self.part.is_first, |host| self.part.has(host))
    }

    /// What is to be published, and the labels of what still waits.
    fn match_up(&self, offers: &mut Offers) -> (Vec<Import>, Vec<String>) {
        let (request, layout, observation) = (self.request, &self.layout, &self.observation);
        let instances = &layout.instances;
        let (mut imports, mut waiting) = (Vec::new(), Vec::new());
        for Pending { instance, public_key, key, asked } in self.pending(&mut offers.wrong) {
            let label = instances[instance].label();
            let Some((all, at, file)) = offers.take(&public_key) else {
                waiting.push(label);
                continue;
            };
            let certificate = &all[at];
            let others = all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, c)| c);
            let others: Vec<&Certificate> = others.collect();
            let judged = Judged { request, layout, observation, certificate };
            for fault in judged.faults(instance, &asked, &others) {
                offers.blame(file, &format!("{label}: {fault}"));
            }
            let is_ca = instances[instance].spec.is_ca();
            let chain = all[at + 1..].iter().take_while(|c| c.is_ca());
            let chain = chain.filter(|c| !c.is_self_issued() && !is_ca).cloned().collect();
            let certificate = certificate.clone();
            let order =
                order_for(layout, &observation.observed, request.dir, instance, request.now);
            imports.push(Import { order, certificate, chain, key });
        }
        let replaced: HashSet<usize> = imports.iter().map(|import| import.order.instance).collect();
        for (index, all) in &observation.certificates {
            let Some(one) = all.first().filter(|_| self.has(&instances[*index])) else { continue };
            offers.pass_over(one);
            if !replaced.contains(index) {
                offers.keep(observation.observed.instances[*index].place.cert(), one);
            }
        }
        (imports, waiting)
    }

    /// The change that publishes these, and what `certkit verify` would have to say of it.
    fn prepare(self, imports: Vec<Import>) -> Result<(apply::Prepared, Vec<String>), Error> {
        let Self { request, declared, layout, observation, .. } = self;
        let done: Vec<usize> = imports.iter().map(|import| import.order.instance).collect();
        let mut prepared = apply::publish(imports, &layout, observation, request.dir, request.now)?;
        let change = &prepared.transaction;
        let wrong = candidate::faults(&layout, declared, request.dir, change, request.now, &done);
        for instance in done.into_iter().map(|index| &layout.instances[index]) {
            // A host's own goes with the certificate that it asked for.
            if !instance.key_on_host {
                prepared.transaction.remove(request_file(instance));
                prepared.transaction.remove(request_key_file(instance));
            }
        }
        Ok((prepared, wrong))
    }

    /// Reads the requests that wait, each with its key.
    fn pending(&self, wrong: &mut Vec<(usize, String)>) -> Vec<Pending> {
        let dir = self.request.dir;
        let mut blame = |what: String| wrong.push((0, what));
        let mut pending = Vec::new();
        for (index, instance) in self.layout.instances.iter().enumerate() {
            if !self.observation.observed.instances[index].requested || !self.has(instance) {
                continue;
            }
            let (csr_file, key_file) = (request_file(instance), request_key_file(instance));
            let csr = match read::file(&dir.join(&csr_file)) {
                Piece::Present(content) => {
                    Csr::from_pem(&content).map_err(|error| with_causes(&error))
                }
                Piece::Missing => Err("is gone".into()),
                Piece::Bad(why) => Err(why),
            };
            if instance.key_on_host {
                match csr {
                    Ok(csr) => pending.push(Pending {
                        instance: index,
                        public_key: csr.public_key().clone(),
                        key: None,
                        asked: resolve::profile(instance, self.layout.cluster),
                    }),
                    Err(why) => blame(format!("{}: {why}", csr_file.display())),
                }
                continue;
            }
            let key = match read::file(&dir.join(&key_file)) {
                Piece::Present(content) => {
                    PrivateKey::from_pem(&content).map_err(|error| with_causes(&error))
                }
                Piece::Missing => Err("is gone".into()),
                Piece::Bad(why) => Err(why),
            };
            match (csr, key) {
                (Ok(csr), Ok(key)) if csr.public_key() == key.public_key() => {
                    pending.push(Pending {
                        instance: index,
                        public_key: csr.public_key().clone(),
                        key: Some(key),
                        asked: csr.profile().clone(),
                    });
                }
                (Ok(_), Ok(_)) => blame(format!(
                    "{}: is not the request that {} was made for",
                    csr_file.display(),
                    key_file.display()
                )),
                (csr, key) => {
                    if let Err(why) = csr {
                        blame(format!("{}: {why}", csr_file.display()));
                    }
                    if let Err(why) = key {
                        blame(format!("{}: {why}", key_file.display()));
                    }
                }
            }
        }
        pending
    }
}

/// A certificate that came back.
struct Judged<'a> {
    request: &'a Request<'a>,
    layout: &'a Layout<'a>,
    observation: &'a Observation,
    certificate: &'a Certificate,
}

impl Judged<'_> {
    /// Everything in which it is not what was asked for.
    fn faults(&self, index: usize, asked: &Profile, others: &[&Certificate]) -> Vec<String> {
        let now = self.request.now;
        let validity = self.certificate.validity();
        let mut faults = profile_differences(&self.certificate.profile(), asked);
        for fault in &mut faults {
            *fault = fault.replace(", declared ", ", asked for ");
        }
        if validity.not_after <= now {
            faults.push(format!("expired {}", validity.not_after));
        }
        // Clocks differ by a few minutes.
        if validity.not_before > now.plus(Span(300)) {
            faults.push(format!("is not valid before {}", validity.not_before));
        }
        faults.extend(self.chain_fault(index, others));
        faults
    }

    /// Why it does not lead to the CA in place.
    fn chain_fault(&self, index: usize, others: &[&Certificate]) -> Option<String> {
        let above = self.layout.issuer(index)?;
        let file = self.observation.observed.instances[above].place.cert().display();
        let Some(authority) = self.observation.certificates.get(&above) else {
            return Some(format!("{file} is not there to check it against"));
        };
        let now = self.request.now;
        let alive = |c: &&Certificate| c.is_ca() && c.validity().not_after > now;
        let trusted: Vec<&Certificate> = authority.iter().filter(alive).collect();
        let direct = trusted
            .iter()
            .any(|ca| self.certificate.issuer() == ca.subject() && self.certificate.signed_by(ca));
        if direct {
            return None;
        }
        if matches!(self.certificate.kind(), Kind::Ca { .. }) {
            return Some(format!("{file} did not sign it"));
        }
        let purpose = match self.certificate.extended_usages().contains(&ExtendedUsage::ClientAuth)
        {
            true => LeafUse::Client,
            false => LeafUse::Server { name: None },
        };
        let verified = chain::verify(self.certificate, others, &trusted, now, purpose);
        verified.err().map(|error| format!("does not lead to {file}: {}", with_causes(&error)))
    }
}
