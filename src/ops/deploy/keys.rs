//! Keys that hosts make themselves: before anything is carried, hosts are asked for requests, and what they ask for is
//! issued here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{Courier, Errand, Error, Failure, HostOutcome, Line};
use crate::{
    document,
    model::{
        catalogue::CertId,
        cluster::Host,
        delivery::{HostKey, slice},
        layout::{self, Layout, PUBLIC},
        part::ClusterPart,
        plan::{Action, Plan, Policy, reconcile::reconcile, request_file, request_key_file},
        request::is_strong,
        shown::with_causes,
        timestamp::Timestamp,
    },
    ops::{
        change::{
            self, Decision,
            parts::{self, Making},
        },
        declared,
        delivery::{Delivery, KeyDemand, KeyRequest, PROTOCOL},
        log, observe, session,
    },
    parallel::{self, progress},
    pki::inspect::SigningRequest,
    store::Transaction,
};

/// So many hosts' requests are kept at once.
const SHARE: usize = 1000;

/// What a host asks for.
struct HostRequest {
    /// The request's file in the workspace.
    file: PathBuf,
    /// Where the key of one of the workspace's own would be.
    own_key: PathBuf,
    /// The request, PEM.
    csr: String,
}

/// That a certificate is missing for which a host makes the key.
pub(super) fn unmade(id: &str, requested: bool) -> String {
    match requested {
        true => format!("{id} is asked for with a key of the host's, and is not issued yet"),
        false => format!("{id} waits for the host's request"),
    }
}

impl Courier<'_> {
    fn own(&self, host: &Host) -> &[HostKey] {
        self.own.get(&self.cluster.root_of(host)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The certificates that are not here, for which the host makes the key.
    pub(super) fn unmade(&self, host: &Host) -> Vec<CertId> {
        let root = self.request.dir.join(self.cluster.root_of(host));
        let missing = |own: &&HostKey| !root.join(&own.cert).exists();
        self.own(host).iter().filter(missing).map(|own| own.id).collect()
    }

    /// Whether the host's request is here; one with its key beside it is the workspace's own.
    pub(super) fn has_request(&self, host: &Host, id: CertId) -> bool {
        let instance = layout::instance(self.cluster, id.spec(), Some(host));
        let exists = |file: PathBuf| self.request.dir.join(file).exists();
        exists(request_file(&instance)) && !exists(request_key_file(&instance))
    }

    /// The certificates that a host is to ask for.
    fn wanted(&self, host: &Host) -> Vec<CertId> {
        match self.request.new_keys {
            true => self.own(host).iter().map(|own| own.id).collect(),
            false => {
                let mut unmade = self.unmade(host);
                unmade.retain(|id| !self.has_request(host, *id));
                unmade
            }
        }
    }

    /// Has those hosts ask for certificates that are to, and issues them; gives their names for people. A host that
    /// does not ask is left for later.
    pub(super) fn have_keys_made(
        &mut self,
        hosts: &[&Host],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<String>, Error> {
        if self.request.new_keys && hosts.iter().all(|host| self.own(host).is_empty()) {
            return Err(Error::NoKeys);
        }
        if self.request.check {
            return Ok(Vec::new());
        }
        let asked: Vec<(&Host, Vec<CertId>)> = hosts
            .iter()
            .map(|host| (*host, self.wanted(host)))
            .filter(|(_, wanted)| !wanted.is_empty())
            .collect();
        let task = progress::task("requests", Some(asked.len()));
        let mut failed: BTreeMap<String, HostOutcome> = BTreeMap::new();
        for some in asked.chunks(SHARE) {
            let answers = parallel::map(some, self.request.parallel, 1, |(host, wanted)| {
                let answer = self.ask(host, wanted);
                task.step();
                answer
            });
            let mut requests = Vec::new();
            for ((host, _), answer) in some.iter().zip(answers) {
                match answer {
                    Ok(mut some) => requests.append(&mut some),
                    Err(failure) => {
                        failed.insert(host.name.to_string(), failure.outcome(host));
                    }
                }
            }
            self.keep(requests, warnings)?;
        }
        drop(task);
        self.unasked = failed;
        let is_open =
            |host: &&&Host| self.own(host).iter().any(|own| self.has_request(host, own.id));
        let open: BTreeSet<&str> =
            hosts.iter().filter(is_open).map(|host| host.name.as_ref()).collect();
        match open.is_empty() {
            true => Ok(Vec::new()),
            false => self.issue(&open, warnings),
        }
    }

    /// Asks one host.
    fn ask(&self, host: &Host, wanted: &[CertId]) -> Result<Vec<HostRequest>, Failure> {
        if self.request.stop.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Failure::Answer("interrupted".into()));
        }
        let certificates = wanted.iter().map(|id| id.name().to_owned()).collect();
        let delivery = Delivery {
            protocol: PROTOCOL,
            host: host.name.to_string(),
            cluster: document::write(&slice(self.cluster, host)),
            files: Vec::new(),
            keys: Some(KeyDemand { certificates, fresh: self.request.new_keys }),
        };
        let mut line = Line::new(self, host);
        let answer = line.say(&delivery, &BTreeMap::new(), Errand::Ask)?;
        line.leave();
        if let Some(error) = answer.error {
            return Err(Failure::Refused(error));
        }
        wanted.iter().map(|id| self.checked(host, *id, &answer.requests)).collect()
    }

    /// The request for one certificate, if it proves that whoever asks has the key. What it asks for beside the key
    /// counts for nothing: issued is what is declared.
    fn checked(
        &self,
        host: &Host,
        id: CertId,
        answers: &[KeyRequest],
    ) -> Result<HostRequest, Failure> {
        let fault = |why: &str| Failure::Answer(format!("{}: {why}", id.name()));
        let mut answers = answers.iter().filter(|one| one.certificate == id.name());
        let answer = answers.next().ok_or_else(|| fault("no request came"))?;
        let request = SigningRequest::from_pem(answer.csr.as_bytes())
            .map_err(|error| fault(&with_causes(&error)))?;
        if !is_strong(request.public_key().algorithm()) {
            let kind = request.public_key().algorithm_text();
            return Err(fault(&format!("a key of a kind that is refused: {kind}")));
        }
        let instance = layout::instance(self.cluster, id.spec(), Some(host));
        Ok(HostRequest {
            file: request_file(&instance),
            own_key: request_key_file(&instance),
            csr: answer.csr.clone(),
        })
    }

    /// Keeps requests where those wait that are to be signed.
    fn keep(&self, requests: Vec<HostRequest>, warnings: &mut Vec<String>) -> Result<(), Error> {
        if requests.is_empty() {
            return Ok(());
        }
        let (dir, now) = (self.request.dir, self.request.now);
        let mut store = session::open(dir, LOCK_WAIT)?;
        let debt = store.earlier_debt();
        let mut transaction = Transaction::new(&now.to_compact());
        transaction.by("deploy");
        for HostRequest { file, own_key, csr } in requests {
            transaction.log(log::file("deploy", "request", &file, "asked for by its host", now));
            if dir.join(&own_key).exists() {
                transaction.remove(own_key);
            }
            transaction.write(file, csr, PUBLIC);
        }
        let committed = store.commit(transaction)?;
        let mut aftermath = session::conclude(&mut store, committed, usize::MAX);
        aftermath.take_over(debt);
        warnings.append(&mut aftermath.warnings);
        Ok(())
    }

    /// Issues what these hosts ask for, and nothing else.
    fn issue(
        &self,
        hosts: &BTreeSet<&str>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let request = self.request;
        let change = change::Request::new(request.dir, "deploy", request.now, request.passwords);
        let is_asking = |host: &Host| hosts.contains(host.name.as_ref());
        let making = Making {
            decide: |part: &ClusterPart, now: Timestamp| {
                let layout = Layout::new(&part.cluster);
                let observation = observe::observe(&layout, request.dir);
                let policy = Policy::COMPLETE;
                let plan = reconcile(&layout, &observation.observed, request.dir, &policy, now);
                let is_asked = |index: usize| {
                    let instance = &layout.instances[index];
                    instance.key_on_host && instance.host.is_some_and(is_asking)
                };
                let mut steps = plan.steps;
                steps.retain(|step| match &step.action {
                    Action::Issue(order) => is_asked(order.instance),
                    Action::Refer(kubeconfig) => is_asked(kubeconfig.instance),
                    _ => false,
                });
                let plan = Plan { steps, ..Plan::default() };
                Ok(Decision { cluster: part.cluster.clone(), observation, plan })
            },
            confirm: || match declared::load(request.dir)? == *self.cluster {
                true => Ok(()),
                false => Err(change::Error::Redeclared(request.dir.join(declared::FILE))),
            },
            concerns: |part: &ClusterPart| part.cluster.hosts.iter().any(is_asking),
        };
        let mut issued = Vec::new();
        let made = parts::run(self.cluster, &change, &making, |mut report, _| {
            issued.extend(report.issued.iter().map(|record| record.label.clone()));
            warnings.append(&mut report.aftermath.warnings);
            // Who uses them gets them now.
            report.aftermath.settle();
        });
        let shortfall = made.map_err(|error| Error::Issue(Box::new(error)))?;
        match shortfall.failed.into_iter().next() {
            Some((_, error)) => Err(Error::Issue(Box::new(error))),
            None => Ok(issued),
        }
    }
}

/// How long another certkit may keep the workspace.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
