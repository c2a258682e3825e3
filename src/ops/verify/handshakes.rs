//! Handshakes: every pairing, tried in memory with the files at hand.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use super::stand_in::{self, StandIn};
use crate::{
    model::{
        catalogue::{CertId, Credential, ETCD_PEER_NAME},
        check::{
            evidence::Evidence,
            forecast::Break,
            pairing::{self, End, Expect, Outcome, Pairing, Role, demands_peer_name, is_peer},
        },
        duration::Span,
        layout::Layout,
        observed::CertView,
        shown::with_causes,
        timestamp::Timestamp,
    },
    ops::observe::Observation,
    parallel,
    tls::handshake::{
        self, Client, ClientAddress, ClientSide, Identity, PeerRule, Server, ServerSide,
    },
};

/// How many pairings are worth a thread. Those of one listener stand together and share what is prepared.
const SHARE: usize = 64;

/// What takes part in handshakes: what is there, and what each instance shows, or why it cannot.
pub struct Scene<'a> {
    /// What is there.
    pub evidence: Evidence<'a>,
    identities: Arc<BTreeMap<usize, Result<Identity, String>>>,
}

impl<'a> Scene<'a> {
    /// What was observed at that time. Where nothing is declared, the address of the service `kubernetes` was
    /// read off the apiserver's certificate.
    pub fn new(
        layout: &'a Layout<'a>,
        observation: &'a Observation,
        service_address: Option<IpAddr>,
        at: Timestamp,
    ) -> Self {
        let leaves = (0..layout.instances.len()).filter(|i| !layout.instances[*i].spec.is_ca());
        let identities = leaves.filter_map(|index| Some((index, observation.identity(index)?)));
        let identities: BTreeMap<_, _> = identities.collect();
        let evidence = Evidence {
            cluster: layout.cluster,
            at,
            layout,
            observed: &observation.observed,
            files: Vec::new(),
            owner: 0,
            service_address,
        };
        Self { evidence, identities: Arc::new(identities) }
    }

    /// Those who trust what is trusted here, and show what they show there: not all files are read at once.
    pub fn showing(&self, other: &Self) -> Self {
        let Evidence { cluster, at, layout, observed, owner, service_address, .. } = self.evidence;
        let files = Vec::new();
        let evidence = Evidence { cluster, at, layout, observed, files, owner, service_address };
        Self { evidence, identities: Arc::clone(&other.identities) }
    }
}

/// Tries every pairing, on all processors.
pub fn run(scene: &Scene<'_>, pairings: &[Pairing], at: Timestamp) -> Vec<Outcome> {
    between(scene, scene, pairings, at)
}

/// Tries every pairing between servers as they are in one observation and clients as they are in another.
pub fn between(
    serving: &Scene<'_>,
    dialling: &Scene<'_>,
    pairings: &[Pairing],
    at: Timestamp,
) -> Vec<Outcome> {
    let stand_in = StandIn::new();
    let begin = || Stage::between(serving, dialling, &stand_in);
    let task = parallel::progress::task("handshakes", Some(pairings.len()));
    parallel::map_with(pairings, parallel::processors(), SHARE, begin, |stage, pairing| {
        let outcome = stage.attempt(pairing, at);
        task.step();
        outcome
    })
}

/// Tries each forecast at its last second and at the one after.
pub fn confirm(scene: &Scene<'_>, pairings: &[Pairing], breaks: &mut [Break]) {
    let stand_in = StandIn::new();
    let mut stage = Stage::between(scene, scene, &stand_in);
    for found in breaks {
        let pairing = &pairings[found.pairing];
        let before = stage.attempt(pairing, found.at);
        let after = stage.attempt(pairing, found.at.plus(Span(1)));
        found.confirmed = before == Outcome::Works && matches!(after, Outcome::Refused(_));
    }
}

/// What a server is prepared for: its certificate, the end that is tested, the CA it trusts, and where
/// only it matters the client.
type ServerKey = (usize, Role, Option<CertId>, Option<usize>);
/// What a client is prepared for: its certificate, its host, the end that is tested, the path.
type ClientKey = (Option<usize>, PathBuf, Role, &'static str);

/// Clients and servers, prepared once.
struct Stage<'g, 'a> {
    /// What servers have.
    serving: &'g Scene<'a>,
    /// What clients have.
    dialling: &'g Scene<'a>,
    stand_in: &'g Result<StandIn, String>,
    servers: HashMap<ServerKey, Result<Server, String>>,
    clients: HashMap<ClientKey, Result<Client, String>>,
}

impl<'g, 'a> Stage<'g, 'a> {
    fn between(
        serving: &'g Scene<'a>,
        dialling: &'g Scene<'a>,
        stand_in: &'g Result<StandIn, String>,
    ) -> Self {
        Self { serving, dialling, stand_in, servers: HashMap::new(), clients: HashMap::new() }
    }

    fn attempt(&mut self, pairing: &Pairing, at: Timestamp) -> Outcome {
        if pairing.expect == Expect::OnlyAuthorization {
            return Outcome::Authorization;
        }
        let prepared = self.server(pairing).and_then(|server| Ok((server, self.client(pairing)?)));
        match prepared {
            Err(why) => Outcome::Untried(why),
            Ok((server, client)) => match handshake::shake(&server, &client, at) {
                Ok(()) => Outcome::Works,
                Err(refusal) => Outcome::Refused(refusal.to_string()),
            },
        }
    }

    fn server(&mut self, pairing: &Pairing) -> Result<Server, String> {
        let client = match pairing.client {
            End::Instance(client) => Some(client),
            End::NoCertificate(_) => None,
        };
        // Only etcd's peers look at where a client comes from.
        let role = pairing.role;
        let peers = pairing::listener(pairing.path).is_some_and(|l| l.peers);
        let trusts = pairing::listener(pairing.path).map(|l| l.trusts);
        let key =
            (pairing.server, role, trusts, client.filter(|_| peers && role != Role::AsServer));
        if let Some(known) = self.servers.get(&key) {
            return known.clone();
        }
        let server = self.prepare_server(pairing, key.3);
        self.servers.insert(key, server.clone());
        server
    }

    fn prepare_server(&self, pairing: &Pairing, client: Option<usize>) -> Result<Server, String> {
        let evidence = &self.serving.evidence;
        let identity = match pairing.role {
            Role::AsClient | Role::StandIn => {
                &self.stand_in.as_ref().map_err(String::clone)?.identity
            }
            Role::Path | Role::AsServer => identity(self.serving, pairing.server)?,
        };
        let mut side = ServerSide {
            identity,
            client_trust: None,
            client_required: false,
            rule: None,
            client_address: None,
        };
        let (trust, rule, address);
        if pairing.role != Role::AsServer
            && let Some(listener) = pairing::listener(pairing.path)
        {
            let root = &evidence.layout.instances[pairing.server].root;
            let (_, trusted) = evidence.trusted(listener.trusts, root).ok_or_else(|| {
                format!("what the server trusts ({}) is not here", listener.trusts)
            })?;
            trust = ders(&trusted);
            side.client_trust = Some(&trust);
            side.client_required = listener.required;
            rule = peer_rule(demands_peer_name(evidence, pairing.server));
            side.rule = rule.as_ref();
            address = client
                .and_then(|c| evidence.layout.instances[c].host?.address())
                .map(|ip| ClientAddress { ip, names: Vec::new() });
            side.client_address = address.as_ref();
        }
        Server::new(&side).map_err(|error| with_causes(&error))
    }

    fn client(&mut self, pairing: &Pairing) -> Result<Client, String> {
        let name = match pairing.role {
            Role::AsClient | Role::StandIn => stand_in::NAME,
            Role::Path | Role::AsServer => {
                pairing.name.as_deref().ok_or("nobody knows by which name it is reached")?
            }
        };
        let evidence = &self.dialling.evidence;
        let (client, root) = match &pairing.client {
            End::Instance(client) => {
                (Some(*client), evidence.layout.instances[*client].root.clone())
            }
            End::NoCertificate(root) => (None, root.clone()),
        };
        let key = (client, root, pairing.role, pairing.path.id);
        let known = match self.clients.get(&key) {
            Some(known) => known.clone(),
            None => {
                let made = self.prepare_client(pairing, client, &key.1, name);
                self.clients.insert(key, made.clone());
                made
            }
        };
        known?.named(name).map_err(|error| with_causes(&error))
    }

    fn prepare_client(
        &self,
        pairing: &Pairing,
        client: Option<usize>,
        root: &std::path::Path,
        name: &str,
    ) -> Result<Client, String> {
        let evidence = &self.dialling.evidence;
        let trust = match pairing.role {
            Role::AsClient | Role::StandIn => {
                self.stand_in.as_ref().map_err(String::clone)?.trust.clone()
            }
            Role::Path | Role::AsServer => {
                let trusted = evidence.client_trust(pairing.path, client, root);
                ders(&trusted.ok_or("what the client trusts is not here")?.1)
            }
        };
        let peers = matches!(pairing.path.server, Credential::Cert(id) if is_peer(id.spec()));
        let demanded = match (pairing.role, client) {
            (Role::AsClient | Role::StandIn, _) | (_, None) => false,
            (_, Some(client)) => peers && demands_peer_name(evidence, client),
        };
        let rule = peer_rule(demanded);
        let identity = match (client, pairing.role) {
            (Some(client), Role::Path | Role::StandIn | Role::AsClient) => {
                Some(identity(self.dialling, client)?)
            }
            _ => None,
        };
        let side = ClientSide { identity, trust: &trust, name, rule: rule.as_ref() };
        Client::new(&side).map_err(|error| with_causes(&error))
    }
}

/// What an instance shows.
fn identity<'g>(scene: &'g Scene<'_>, index: usize) -> Result<&'g Identity, String> {
    let label = || scene.evidence.label(index);
    match scene.identities.get(&index) {
        Some(Ok(identity)) => Ok(identity),
        Some(Err(why)) => Err(format!("{}: {why}", label())),
        None => Err(format!("{} cannot be read", label())),
    }
}

fn peer_rule(demanded: bool) -> Option<PeerRule> {
    demanded.then(|| PeerRule::Hostname(vec![ETCD_PEER_NAME.to_owned()]))
}

fn ders(certificates: &Arc<Vec<CertView>>) -> Vec<Vec<u8>> {
    certificates.iter().map(|c| c.der.clone()).collect()
}
