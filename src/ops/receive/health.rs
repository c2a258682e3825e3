//! Whether etcd and the API are well, as a host sees them: before and after its files are changed.

use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    model::{
        catalogue::{CertId, Condition, ETCD_CLIENTS, Scope, roles},
        cluster::{Cluster, Endpoint, Host},
        layout::Layout,
        observed::Piece,
        shown::with_causes,
    },
    ops::{observe::Observation, read},
    parallel,
    pki::inspect,
    tls::{
        ask::{AskError, HttpAnswer, ask},
        handshake::{Client, ClientSide, Identity},
        probe::{self, Target},
    },
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wellbeing {
    /// Nobody is there.
    Absent,
    /// It is not well, or what is there cannot be asked.
    Ill(String),
    /// It is well.
    Well,
}

/// The state of what a host shares with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Of each member of etcd: its host's name, where it was asked, its state.
    members: Vec<(String, SocketAddr, Wellbeing)>,
    /// Of this host's apiserver.
    api: Option<(SocketAddr, Wellbeing)>,
    /// Of the endpoint that clients know: whether anybody serves there.
    endpoint: Option<(String, bool)>,
}

/// What asks: a host's own tree, and what was found in it.
pub struct Asker<'a> {
    /// The tree, laid out on its host.
    pub layout: &'a Layout<'a>,
    /// The host.
    pub host: &'a Host,
    /// The tree.
    pub dir: &'a Path,
}

impl Asker<'_> {
    /// Asks everybody whom a change of this host concerns.
    pub fn look(&self, observation: &Observation) -> Health {
        let cluster = self.layout.cluster;
        let mut health = Health::default();
        if self.host.etcd && cluster.has(Condition::ManagedEtcd) {
            health.members = self.members(cluster, observation);
        }
        if self.host.control_plane {
            let address =
                self.host.address().map(|ip| SocketAddr::new(ip, cluster.api_port(self.host)));
            health.api = address.map(|address| (address, self.api(address)));
            health.endpoint = Some((cluster.endpoint.to_string(), serves(&cluster.endpoint)));
        }
        health
    }

    fn members(
        &self,
        cluster: &Cluster,
        observation: &Observation,
    ) -> Vec<(String, SocketAddr, Wellbeing)> {
        let identity = self.layout.find(roles::ETCD_HEALTH.id, Path::new(""));
        let identity = identity.and_then(|index| observation.identity(index));
        let identity =
            identity.ok_or_else(|| "there is nothing to ask it with".to_owned()).flatten();
        let trust = self.trust(roles::ETCD_CA.id);
        let hosts = cluster.hosts_in(Scope::Etcd);
        let members: Vec<(String, SocketAddr)> = hosts
            .filter_map(|host| {
                let address = SocketAddr::new(host.address()?, ETCD_CLIENTS.port);
                Some((host.name.to_string(), address))
            })
            .collect();
        let states = parallel::map(&members, 8, 1, |(_, address)| {
            let said = match &identity {
                Ok(identity) => get(*address, Some(identity), &trust, "/health"),
                Err(why) => return Wellbeing::Ill(why.clone()),
            };
            // etcd: `server/etcdserver/api/etcdhttp/health.go`.
            state(said, |answer| answer.status == 200 && answer.body.contains("\"true\""))
        });
        let all = members.into_iter().zip(states);
        all.map(|((name, address), state)| (name, address, state)).collect()
    }

    /// Nobody in particular may ask, unless anonymous requests are off: who says so is up, too.
    fn api(&self, address: SocketAddr) -> Wellbeing {
        let said = get(address, None, &self.trust(roles::CLUSTER_CA.id), "/readyz");
        state(said, |answer| matches!(answer.status, 200 | 401 | 403))
    }

    /// The certificates of a CA that are trusted.
    fn trust(&self, authority: CertId) -> Vec<Vec<u8>> {
        let layout = self.layout;
        let Some(index) = layout.authority(authority) else { return Vec::new() };
        let bundle = layout.bundle_of(index).map(|derived| &layout.derived[derived].path);
        let file = bundle.unwrap_or(layout.instances[index].place.cert());
        let Piece::Present(content) = read::file(&self.dir.join(file)) else { return Vec::new() };
        let all = inspect::from_pem(&content).unwrap_or_default();
        all.iter().map(|certificate| certificate.der().to_vec()).collect()
    }

    /// Asks again until all is as well as it was before, or the time is over: then it says what is not.
    pub fn wait(
        &self,
        before: &Health,
        observation: &Observation,
        limit: Duration,
    ) -> (Health, Option<String>) {
        let start = Instant::now();
        loop {
            let now = self.look(observation);
            let worse = now.worse_than(before, self.host);
            if worse.is_none() || start.elapsed() + PAUSE >= limit {
                return (now, worse);
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Health {
    /// Why a member of etcd may not be taken down now, if it may not: the others would be too few. One that is ill itself
    /// may: that may be what makes it well.
    pub fn refusal(&self, host: &Host) -> Option<String> {
        let is_own = |name: &str| host.name.as_ref() == name;
        let running = self.members.iter().filter(|(.., state)| *state != Wellbeing::Absent).count();
        let (others, own): (Vec<_>, Vec<_>) =
            self.members.iter().partition(|(name, ..)| !is_own(name));
        if others.is_empty()
            || running == 0
            || own.iter().all(|(.., state)| *state != Wellbeing::Well)
        {
            return None;
        }
        let well = others.iter().filter(|(.., state)| *state == Wellbeing::Well).count();
        let quorum = self.members.len() / 2 + 1;
        // With all well, two members are as safe as two can be.
        if well >= quorum || well == others.len() {
            return None;
        }
        let ill = others.iter().filter(|(.., state)| *state != Wellbeing::Well);
        let ill: Vec<String> =
            ill.map(|(name, address, state)| told(name, *address, state)).collect();
        Some(format!(
            "without this member of etcd {well} of {} would be well, and {quorum} must be: {}",
            self.members.len(),
            ill.join("; ")
        ))
    }

    /// What is not as well as it was, of what this host has.
    fn worse_than(&self, before: &Self, host: &Host) -> Option<String> {
        let of_host = |health: &Self| {
            let mut members = health.members.iter();
            members.find(|(name, ..)| host.name.as_ref() == name).cloned()
        };
        if let (Some((.., was)), Some((name, address, is))) = (of_host(before), of_host(self))
            && was == Wellbeing::Well
            && is != Wellbeing::Well
        {
            return Some(told(&format!("etcd of {name}"), address, &is));
        }
        if let (Some((_, was)), Some((address, is))) = (&before.api, &self.api)
            && *was == Wellbeing::Well
            && *is != Wellbeing::Well
        {
            return Some(told("the apiserver", *address, is));
        }
        match (&before.endpoint, &self.endpoint) {
            (Some((_, true)), Some((endpoint, false))) => {
                Some(format!("nobody serves at the endpoint {endpoint} any more"))
            }
            _ => None,
        }
    }

    /// A line for each, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let well = self.members.iter().filter(|(.., state)| *state == Wellbeing::Well).count();
        if self.members.iter().any(|(.., state)| *state != Wellbeing::Absent) {
            lines.push(format!("etcd: {well} of {} members are well", self.members.len()));
            let rest = self.members.iter().filter(|(.., state)| *state != Wellbeing::Well);
            lines.extend(rest.map(|(name, address, state)| told(name, *address, state)));
        }
        match &self.api {
            Some((address, Wellbeing::Well)) => {
                lines.push(format!("apiserver at {address}: ready"))
            }
            Some((address, state @ Wellbeing::Ill(_))) => {
                lines.push(told("the apiserver", *address, state));
            }
            Some((_, Wellbeing::Absent)) | None => {}
        }
        lines
    }
}

fn told(name: &str, address: SocketAddr, state: &Wellbeing) -> String {
    match state {
        Wellbeing::Absent => format!("{name} ({address}): nothing answers"),
        Wellbeing::Ill(why) => format!("{name} ({address}): {why}"),
        Wellbeing::Well => format!("{name} ({address}): well"),
    }
}

fn state(said: Result<HttpAnswer, Silence>, is_well: impl Fn(&HttpAnswer) -> bool) -> Wellbeing {
    match said {
        Ok(answer) if is_well(&answer) => Wellbeing::Well,
        Ok(answer) => Wellbeing::Ill(format!("it answers {}", answer.status)),
        Err(Silence::Ask(error)) if error.is_absent() => Wellbeing::Absent,
        Err(Silence::Ask(error)) => Wellbeing::Ill(with_causes(&error)),
        Err(Silence::Client(why)) => Wellbeing::Ill(why),
    }
}

/// Why a question got no answer.
enum Silence {
    Ask(AskError),
    Client(String),
}

fn get(
    address: SocketAddr,
    identity: Option<&Identity>,
    trust: &[Vec<u8>],
    path: &str,
) -> Result<HttpAnswer, Silence> {
    let name = address.ip().to_string();
    let side = ClientSide { identity, trust, name: &name, rule: None };
    let client = Client::new(&side).map_err(|error| Silence::Client(with_causes(&error)))?;
    ask(&client, address, path, PATIENCE).map_err(Silence::Ask)
}

/// Whether anybody serves TLS at an endpoint.
fn serves(endpoint: &Endpoint) -> bool {
    let target = Target { host: endpoint.host.to_string(), port: endpoint.port, sni: None };
    probe::probe(&target, PATIENCE).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host {
            name: name.parse().unwrap(),
            addresses: vec![],
            port: None,
            control_plane: true,
            etcd: true,
            node: true,
            ssh: None,
        }
    }

    fn health(states: &[Wellbeing]) -> Health {
        let member = |(n, state): (usize, &Wellbeing)| {
            (format!("cp{n}"), SocketAddr::from(([10, 0, 0, 1], 2379)), state.clone())
        };
        Health { members: states.iter().enumerate().map(member).collect(), ..Health::default() }
    }

    #[test]
    fn a_member_is_taken_down_only_while_the_others_are_enough() {
        let (well, ill, absent) =
            (Wellbeing::Well, Wellbeing::Ill("it answers 503".into()), Wellbeing::Absent);
        let refusal = |states: &[Wellbeing]| health(states).refusal(&host("cp0"));
        // Nothing runs yet; one alone; all are well; it is itself the one that is not.
        for fine in [
            &[absent.clone(), absent.clone(), absent.clone()][..],
            std::slice::from_ref(&well),
            &[well.clone(), well.clone()],
            &[well.clone(), well.clone(), well.clone()],
            &[ill.clone(), well.clone(), absent.clone()],
            &[well.clone(), well.clone(), well.clone(), well.clone(), absent.clone()],
        ] {
            assert_eq!(refusal(fine), None, "{fine:?}");
        }
        for wrong in [
            &[well.clone(), ill.clone(), well.clone()][..],
            &[well.clone(), absent.clone(), well.clone()],
            &[well.clone(), ill.clone()],
            &[well.clone(), well.clone(), ill.clone(), ill.clone(), absent.clone()],
        ] {
            assert!(refusal(wrong).is_some(), "{wrong:?}");
        }
        assert_eq!(
            refusal(&[well.clone(), ill, well]).unwrap(),
            "without this member of etcd 1 of 3 would be well, and 2 must be: cp1 (10.0.0.1:2379): it answers 503"
        );
    }

    #[test]
    fn only_what_was_well_has_to_be_so_again() {
        let ill = Wellbeing::Ill("it answers 503".into());
        let worse =
            |was: Wellbeing, is: Wellbeing| health(&[is]).worse_than(&health(&[was]), &host("cp0"));
        assert_eq!(worse(Wellbeing::Absent, Wellbeing::Absent), None);
        assert_eq!(worse(ill.clone(), Wellbeing::Absent), None);
        assert_eq!(worse(Wellbeing::Well, Wellbeing::Well), None);
        assert_eq!(
            worse(Wellbeing::Well, ill).unwrap(),
            "etcd of cp0 (10.0.0.1:2379): it answers 503"
        );
        let endpoint =
            |serves| Health { endpoint: Some(("api:6443".into(), serves)), ..Health::default() };
        assert!(endpoint(false).worse_than(&endpoint(true), &host("cp0")).is_some());
        assert_eq!(endpoint(false).worse_than(&endpoint(false), &host("cp0")), None);
    }
}
