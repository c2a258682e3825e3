//! The requests that the API has, with what is peculiar to each, and which of them are due. No clock, no network: both are
//! the controller's.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use kube::ResourceExt as _;

use super::object;
use crate::model::{
    request::{
        CertificateRequest, History, Inventory, RequestFault, RequestPolicy, RequestSigner,
        RequestState, Ruling, judge,
    },
    timestamp::Timestamp,
};

/// One request.
pub struct DocketEntry {
    pub request: CertificateRequest,
    /// The object's version: a decision holds for that one alone.
    pub version: String,
    pub uid: String,
    /// When it was first seen here.
    pub seen: Instant,
    /// The reasons that people were told last.
    pub told: Vec<RequestFault>,
    /// How often the API refused what was decided.
    pub tries: u32,
    /// Whether a decision is on its way, and whether it says yes.
    pub deciding: Option<bool>,
    conditions: Vec<CertificateSigningRequestCondition>,
    due: Option<Instant>,
}

impl DocketEntry {
    /// The conditions with one more.
    pub fn decided(
        &self,
        kind: &str,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Vec<CertificateSigningRequestCondition> {
        object::decided(&self.conditions, kind, reason, message, now)
    }

    fn is_granted(&self) -> bool {
        self.request.state.is_approved() || self.deciding == Some(true)
    }
}

/// All of them.
#[derive(Default)]
pub struct Docket {
    /// Whether requests to certkit's own signers are decided on here.
    signs: bool,
    entries: HashMap<String, DocketEntry>,
    by_key: HashMap<[u8; 32], BTreeSet<String>>,
    /// By whom each would name.
    by_whom: HashMap<(String, RequestSigner), BTreeSet<String>>,
    due: BTreeSet<(Instant, String)>,
    /// What a list that is being read has named, while it is.
    listed: Option<BTreeSet<String>>,
}

impl Docket {
    /// An empty one. Requests to certkit's own signers are due only where somebody signs them.
    pub fn new(signs: bool) -> Self {
        Self { signs, ..Self::default() }
    }

    /// The signer of a request, if it is decided on here.
    pub fn signer(&self, request: &CertificateRequest) -> Option<RequestSigner> {
        RequestSigner::of(&request.signer).filter(|s| self.signs || s.authority().is_none())
    }

    /// Whether something is to be done about a request: decided, or signed where that is done here.
    pub fn is_open(&self, request: &CertificateRequest) -> bool {
        self.signer(request).is_some_and(|signer| match request.state {
            RequestState::Pending => true,
            RequestState::Approved => signer.authority().is_some(),
            RequestState::Issued | RequestState::Denied | RequestState::Failed => false,
        })
    }

    /// A list begins: what it does not name is gone.
    pub fn begin_list(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// The list has ended.
    pub fn end_list(&mut self) {
        let Some(listed) = self.listed.take() else { return };
        let gone: Vec<String> =
            self.entries.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
    }

    /// Takes in what the API has of a request. One that waits for a decision is due.
    pub fn put(&mut self, object: &CertificateSigningRequest, now: Instant) {
        let name = object.name_any();
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let version = object.resource_version().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let old = self.entries.get(&name).filter(|entry| entry.uid == uid);
        if old.is_some_and(|entry| entry.version == version) {
            return;
        }
        let (seen, told, tries, deciding) = match old {
            Some(entry) => (entry.seen, entry.told.clone(), entry.tries, entry.deciding),
            None => (now, Vec::new(), 0, None),
        };
        self.remove(&name);
        let request = object::request(object);
        if let Ok(content) = &request.content {
            self.by_key.entry(content.key_digest).or_default().insert(name.clone());
        }
        if let Some(at) = Self::place(&request) {
            self.by_whom.entry(at).or_default().insert(name.clone());
        }
        let is_due = self.is_open(&request) && deciding.is_none();
        let conditions = object.status.as_ref().and_then(|status| status.conditions.clone());
        let entry = DocketEntry {
            request,
            version,
            uid,
            seen,
            told,
            tries,
            deciding,
            conditions: conditions.unwrap_or_default(),
            due: None,
        };
        self.entries.insert(name.clone(), entry);
        if is_due {
            self.set_due(&name, now);
        }
    }

    /// Forgets a request.
    pub fn remove(&mut self, name: &str) {
        let Some(entry) = self.entries.remove(name) else { return };
        if let Some(due) = entry.due {
            self.due.remove(&(due, name.to_owned()));
        }
        if let Ok(content) = &entry.request.content
            && let Some(names) = self.by_key.get_mut(&content.key_digest)
        {
            names.remove(name);
            if names.is_empty() {
                self.by_key.remove(&content.key_digest);
            }
        }
        if let Some(at) = Self::place(&entry.request)
            && let Some(names) = self.by_whom.get_mut(&at)
        {
            names.remove(name);
            if names.is_empty() {
                self.by_whom.remove(&at);
            }
        }
    }

    /// Has a request looked at at this time.
    pub fn set_due(&mut self, name: &str, at: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Some(old) = entry.due.replace(at) {
            self.due.remove(&(old, name.to_owned()));
        }
        self.due.insert((at, name.to_owned()));
    }

    /// The same, if something is to be done about it still.
    pub fn look_again(&mut self, name: &str, at: Instant) {
        if self.entries.get(name).is_some_and(|entry| self.waits(entry)) {
            self.set_due(name, at);
        }
    }

    /// Has everything that waits looked at: something changed that all of it may hang on.
    pub fn set_all_due(&mut self, at: Instant) {
        for name in self.waiting() {
            self.set_due(&name, at);
        }
    }

    /// The same of what waits and names this node.
    pub fn set_node_due(&mut self, node: &str, at: Instant) {
        for signer in RequestSigner::ALL {
            let names = self.by_whom.get(&(node.to_owned(), signer)).cloned();
            for name in names.unwrap_or_default() {
                let waits = self.entries.get(&name).is_some_and(|entry| self.waits(entry));
                if waits {
                    self.set_due(&name, at);
                }
            }
        }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next one that is due, which then is due no more.
    pub fn take_due(&mut self, now: Instant) -> Option<String> {
        let (at, name) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        self.due.remove(&(at, name.clone()));
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.due = None;
        }
        Some(name)
    }

    /// A request.
    pub fn get(&self, name: &str) -> Option<&DocketEntry> {
        self.entries.get(name)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut DocketEntry> {
        self.entries.get_mut(name)
    }

    /// All of them.
    pub fn entries(&self) -> impl Iterator<Item = &DocketEntry> {
        self.entries.values()
    }

    /// What is to become of a request, as all is known now.
    pub fn rule(
        &self,
        entry: &DocketEntry,
        inventory: &Inventory,
        policy: &RequestPolicy,
    ) -> Ruling {
        judge(&entry.request, inventory, &self.history(entry, policy), policy)
    }

    /// What the others say about it. Times are compared with each other and with no clock of this machine: all of them
    /// are the apiserver's.
    fn history(&self, entry: &DocketEntry, policy: &RequestPolicy) -> History {
        let own = &entry.request;
        let others = |names: Option<&BTreeSet<String>>| -> Vec<&DocketEntry> {
            let names = names.into_iter().flatten().filter(|name| **name != own.name);
            names.filter_map(|name| self.entries.get(name)).collect()
        };
        let since = own.created.minus(policy.window);
        let at = Self::place(own);
        let granted = others(at.and_then(|at| self.by_whom.get(&at)))
            .into_iter()
            .filter(|other| other.is_granted() && other.request.created >= since)
            .count();
        let key = own.content.as_ref().ok().map(|content| content.key_digest);
        let same_key = others(key.and_then(|key| self.by_key.get(&key)))
            .into_iter()
            .find(|other| {
                let other_request = &other.request;
                // A copy that somebody else sends is denied for that, and denies nothing to whose it is.
                let is_older = (other_request.created, &other_request.name)
                    < (own.created, &own.name)
                    && other_request.username == own.username;
                other.is_granted() || is_older
            })
            .map(|other| other.request.name.clone());
        History { granted, same_key }
    }

    fn place(request: &CertificateRequest) -> Option<(String, RequestSigner)> {
        Some((request.whom()?.to_owned(), RequestSigner::of(&request.signer)?))
    }

    fn waits(&self, entry: &DocketEntry) -> bool {
        entry.deciding.is_none() && self.is_open(&entry.request)
    }

    fn waiting(&self) -> Vec<String> {
        let waiting = self.entries.iter().filter(|(_, entry)| self.waits(entry));
        waiting.map(|(name, _)| name.clone()).collect()
    }
}
