//! `certkit import`: takes certificates back that were signed elsewhere, all or none.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    apply::{self, Import},
    change::{self, Error},
    declared, log, observe,
    observe::Observation,
    read,
    session::{self, Aftermath},
    takeup::InPlace,
    verify::candidate,
};
use crate::{
    model::{
        cluster::Cluster,
        duration::Span,
        layout::{Layout, Place},
        observed::Piece,
        plan::{
            difference::profile_differences, reconcile::order_for, request_file, request_key_file,
        },
        profile::{Kind, Profile},
        resolve,
        shown::with_causes,
        timestamp::Timestamp,
        usage::ExtendedUsage,
    },
    pki::{
        chain::{self, LeafUse},
        inspect::{self, Certificate, SigningRequest as Csr},
        key::{PrivateKey, PublicKey},
    },
};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The PKI's directory, absolute.
    pub dir: &'a Path,
    /// Files with certificates.
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

/// What was taken in, or would be.
#[derive(Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: Cluster,
    /// Whether certkit.yaml declares it.
    pub declared: bool,
    /// The certificates.
    pub taken: Vec<apply::Record>,
    /// What waits for its signature still.
    pub waiting: Vec<String>,
    /// Where each instance is.
    pub places: Vec<Place>,
    /// What listeners should serve from now on.
    pub served: Vec<InPlace>,
    /// What the change left behind.
    pub aftermath: Aftermath,
    /// What an earlier run had left and was put in order first.
    pub recovered: Option<String>,
}

/// A request that waits for its signature.
struct Pending {
    instance: usize,
    public_key: PublicKey,
    /// The key; none where its host has it.
    key: Option<PrivateKey>,
    asked: Profile,
}

/// The requests that wait, by key.
struct Requests {
    by_key: HashMap<PublicKey, VecDeque<Pending>>,
}

impl Requests {
    fn new(all: Vec<Pending>) -> Self {
        let mut by_key: HashMap<PublicKey, VecDeque<Pending>> = HashMap::new();
        for one in all {
            by_key.entry(one.public_key.clone()).or_default().push_back(one);
        }
        Self { by_key }
    }

    /// The first one of this key, which then waits no longer.
    fn take(&mut self, key: &PublicKey) -> Option<Pending> {
        self.by_key.get_mut(key)?.pop_front()
    }

    /// Whether there was one of this key.
    fn had(&self, key: &PublicKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// The instances of those that wait still, in their order.
    fn left(&self) -> impl Iterator<Item = usize> {
        let left: BTreeSet<usize> =
            self.by_key.values().flatten().map(|one| one.instance).collect();
        left.into_iter()
    }
}

/// Checks every certificate against its request and publishes all, or names every mismatch.
pub fn run(request: &Request<'_>) -> Result<Report, Error> {
    let dir = request.dir;
    let (cluster, declared) = declared::or_anything(dir)?;
    let layout = Layout::new(&cluster);
    // The same again once nobody else may change anything.
    let observation = observe::observe(&layout, dir);
    check(request, &layout, &observation)?;
    if request.dry_run {
        let (imports, waiting) = check(request, &layout, &observation)?;
        let places = observation.places();
        let prepared = apply::publish(imports, &layout, observation, dir, request.now)?;
        verified(&prepared, &layout, declared, request)?;
        let (taken, served) = (prepared.issued, Vec::new());
        let (aftermath, recovered) = (Aftermath::default(), None);
        return Ok(Report {
            cluster,
            declared,
            taken,
            waiting,
            places,
            served,
            aftermath,
            recovered,
        });
    }
    let mut store = session::open(dir, request.lock_wait)?;
    let recovered = store.recovered().map(|recovery| recovery.to_string());
    let (cluster, declared) = declared::or_anything(dir)?;
    let layout = Layout::new(&cluster);
    let observation = observe::observe(&layout, dir);
    let debt = store.earlier_debt();
    let owed = change::owed_by(dir, &observation, &debt.files());
    let (imports, waiting) = check(request, &layout, &observation)?;
    let places = observation.places();
    let done: Vec<usize> = imports.iter().map(|import| import.order.instance).collect();
    let mut prepared = apply::publish(imports, &layout, observation, dir, request.now)?;
    verified(&prepared, &layout, declared, request)?;
    let instances = &layout.instances;
    for index in done {
        // A host's own goes with the certificate that it asked for.
        if !instances[index].key_on_host {
            prepared.transaction.remove(request_file(&instances[index]));
            prepared.transaction.remove(request_key_file(&instances[index]));
        }
    }
    for record in &prepared.issued {
        let line = log::certificate("import", "import", record, request.now);
        prepared.transaction.log(line);
    }
    let mut served: Vec<InPlace> = prepared.issued.iter().map(InPlace::from).collect();
    change::add_owed(&mut served, owed);
    prepared.transaction.by("import");
    let committed = store.commit(prepared.transaction)?;
    let mut aftermath = session::conclude(&mut store, committed, request.backups);
    aftermath.take_over(debt);
    let taken = prepared.issued;
    Ok(Report { cluster, declared, taken, waiting, places, served, aftermath, recovered })
}

/// That `certkit verify` will have nothing to say of what is taken in.
fn verified(
    prepared: &apply::Prepared,
    layout: &Layout<'_>,
    declared: bool,
    request: &Request<'_>,
) -> Result<(), Error> {
    let taken: Vec<usize> = prepared.issued.iter().map(|record| record.instance).collect();
    let change = &prepared.transaction;
    let wrong = candidate::faults(layout, declared, request.dir, change, request.now, &taken);
    if wrong.is_empty() { Ok(()) } else { Err(Error::Mismatches(wrong)) }
}

/// What is to be published, and the labels of what still waits; or everything that is wrong.
fn check(
    request: &Request<'_>,
    layout: &Layout<'_>,
    observation: &Observation,
) -> Result<(Vec<Import>, Vec<String>), Error> {
    let instances = &layout.instances;
    let mut wrong = Vec::new();
    let mut pending = Requests::new(pending(request.dir, layout, observation, &mut wrong));
    let mut imports: BTreeMap<usize, Import> = BTreeMap::new();
    for file in request.files {
        let name = file.display();
        let all = match read::file(file) {
            Piece::Present(content) => match inspect::from_pem(&content) {
                Ok(all) => all,
                Err(error) => {
                    wrong.push(format!("{name}: {}", with_causes(&error)));
                    continue;
                }
            },
            Piece::Missing => {
                wrong.push(format!("{name}: there is no such file"));
                continue;
            }
            Piece::Bad(why) => {
                wrong.push(format!("{name}: {why}"));
                continue;
            }
        };
        let mut used = false;
        for (at, certificate) in all.iter().enumerate() {
            let Some(Pending { instance, key, asked, .. }) = pending.take(certificate.public_key())
            else {
                if pending.had(certificate.public_key()) {
                    wrong.push(format!("{name}: a second certificate for the same request"));
                }
                continue;
            };
            used = true;
            let others = all.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, c)| c);
            let others: Vec<&Certificate> = others.collect();
            let judged = Judged { request, layout, observation, certificate };
            let faults = judged.faults(instance, &asked, &others);
            let label = instances[instance].label();
            wrong.extend(faults.iter().map(|fault| format!("{name}: {label}: {fault}")));
            let is_ca = instances[instance].spec.is_ca();
            let chain = all[at + 1..].iter().take_while(|c| c.is_ca());
            let chain = chain.filter(|c| !c.is_self_issued() && !is_ca).cloned().collect();
            let certificate = certificate.clone();
            let order =
                order_for(layout, &observation.observed, request.dir, instance, request.now);
            imports.insert(instance, Import { order, certificate, chain, key });
        }
        if !used && !all.is_empty() {
            wrong.push(format!("{name}: no request that waits has the key of a certificate in it"));
        }
    }
    match wrong.is_empty() {
        true => {
            let waiting = pending.left().map(|instance| instances[instance].label()).collect();
            Ok((imports.into_values().collect(), waiting))
        }
        false => Err(Error::Mismatches(wrong)),
    }
}

/// Reads the requests that wait, each with its key.
fn pending(
    dir: &Path,
    layout: &Layout<'_>,
    observation: &Observation,
    wrong: &mut Vec<String>,
) -> Vec<Pending> {
    let mut pending = Vec::new();
    for (index, instance) in layout.instances.iter().enumerate() {
        if !observation.observed.instances[index].requested {
            continue;
        }
        let (csr_file, key_file) = (request_file(instance), request_key_file(instance));
        let csr = match read::file(&dir.join(&csr_file)) {
            Piece::Present(content) => Csr::from_pem(&content).map_err(|error| with_causes(&error)),
            Piece::Missing => Err("is gone".into()),
            Piece::Bad(why) => Err(why),
        };
        if instance.key_on_host {
            match csr {
                Ok(csr) => pending.push(Pending {
                    instance: index,
                    public_key: csr.public_key().clone(),
                    key: None,
                    asked: resolve::profile(instance, layout.cluster),
                }),
                Err(why) => wrong.push(format!("{}: {why}", csr_file.display())),
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
            (Ok(_), Ok(_)) => wrong.push(format!(
                "{}: is not the request that {} was made for",
                csr_file.display(),
                key_file.display()
            )),
            (csr, key) => {
                wrong.extend(csr.err().map(|why| format!("{}: {why}", csr_file.display())));
                wrong.extend(key.err().map(|why| format!("{}: {why}", key_file.display())));
            }
        }
    }
    pending
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
