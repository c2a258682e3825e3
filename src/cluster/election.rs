//! One replica's part in the election that `model::election` has the rule of. The crates for this that there are compare the
//! times in the Lease with the local clock, so that a replica whose clock is ahead takes it from one that holds it.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

use super::{Error, connection::ask};
use crate::model::{
    election::{LEASE_DEADLINE, LEASE_TERM, LeaseMove, lease_move},
    timestamp::Timestamp,
};

/// Whose the Lease is, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sighting {
    holder: String,
    version: String,
    since: Instant,
}

/// One replica's part in it.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<Sighting>,
    renewed: Option<Instant>,
}

impl Candidate {
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            renewed: None,
        }
    }

    /// The same replica with another client.
    pub fn with_client(self, client: Client, namespace: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), ..self }
    }

    /// Until when this replica may act.
    pub fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + LEASE_DEADLINE)
    }

    /// Looks at the Lease, and renews or takes it where that is due. Somebody else who was faster is no error.
    pub async fn step(&mut self, clock: Timestamp) -> Result<(), Error> {
        // What is renewed counts from before it was asked for.
        let now = Instant::now();
        let found = ask("read the Lease", self.leases.get_opt(&self.name)).await?;
        let Some(lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None, clock)),
            };
            let parameters = PostParams::default();
            let made = self.leases.create(&parameters, &lease);
            return self.settle(ask("make the Lease", made).await, now);
        };
        match self.look(&lease, now) {
            LeaseMove::Wait => {
                self.renewed = None;
                Ok(())
            }
            LeaseMove::Renew | LeaseMove::Take => {
                let spec = self.spec(lease.spec.as_ref(), clock);
                // The version that was read goes along: who was faster wins.
                let lease = Lease { spec: Some(spec), ..lease };
                let parameters = PostParams::default();
                let put = self.leases.replace(&self.name, &parameters, &lease);
                self.settle(ask("renew the Lease", put).await, now)
            }
        }
    }

    /// Gives it back, so that nobody has to wait for its end.
    pub async fn release(&mut self, clock: Timestamp) -> Result<(), Error> {
        if self.leads_until().is_none_or(|until| until <= Instant::now()) {
            return Ok(());
        }
        self.renewed = None;
        let Some(lease) = ask("read the Lease", self.leases.get_opt(&self.name)).await? else {
            return Ok(());
        };
        if holder(&lease) != self.identity {
            return Ok(());
        }
        let mut spec = self.spec(lease.spec.as_ref(), clock);
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let lease = Lease { spec: Some(spec), ..lease };
        let parameters = PostParams::default();
        let put = self.leases.replace(&self.name, &parameters, &lease);
        ask("give the Lease back", put).await.map(drop)
    }

    fn look(&mut self, lease: &Lease, now: Instant) -> LeaseMove {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let holder = holder(lease).to_owned();
        let is_same = self.seen.as_ref().is_some_and(|seen| seen.version == version);
        if !is_same {
            self.seen = Some(Sighting { holder: holder.clone(), version, since: now });
        }
        let since = self.seen.as_ref().map_or(now, |seen| seen.since);
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let term =
            seconds.and_then(|n| u64::try_from(n).ok()).map_or(LEASE_TERM, Duration::from_secs);
        lease_move(&self.identity, &holder, now.duration_since(since), term)
    }

    fn settle(&mut self, made: Result<Lease, Error>, now: Instant) -> Result<(), Error> {
        match made {
            Ok(lease) => {
                self.look(&lease, now);
                self.renewed = Some(now);
                Ok(())
            }
            // Somebody was faster.
            Err(Error::Api { status: Some(409), .. }) => {
                self.renewed = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>, clock: Timestamp) -> LeaseSpec {
        let now = k8s_openapi::jiff::Timestamp::from_second(clock.unix()).ok().map(MicroTime);
        let is_ours = before.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.identity);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = before.and_then(|spec| spec.acquire_time.clone());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_TERM.as_secs()).ok(),
            acquire_time: acquired.filter(|_| is_ours).or_else(|| now.clone()),
            renew_time: now,
            lease_transitions: Some(match (is_ours, before) {
                (false, Some(_)) => transitions.saturating_add(1),
                _ => transitions,
            }),
            ..before.cloned().unwrap_or_default()
        }
    }
}

fn holder(lease: &Lease) -> &str {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    holder.unwrap_or_default()
}
