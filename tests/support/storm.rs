//! Clients that read from and write to every apiserver of a control plane all the time, each request on a
//! TLS connection of its own, with credentials read anew from the disk.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use super::{
    cluster::Cluster,
    https::{Credentials, Tally, request},
};

/// Between two rounds of a client: the load is on what changes, not on this machine, where other tests run.
const PAUSE: Duration = Duration::from_millis(40);

/// What else is asked of each apiserver, at this address, in every round.
pub type Ask = Arc<dyn Fn(SocketAddr) -> Result<(), String> + Send + Sync>;

/// A request storm; it ends when dropped.
pub struct Storm {
    tally: Arc<Tally>,
    over: Arc<AtomicBool>,
    clients: Vec<Client>,
}

/// Who talks to one apiserver.
struct Client {
    /// Whether it is to ask for now.
    wanted: Arc<AtomicBool>,
    /// Whether it has a request under way.
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    /// Starts it: for each apiserver a client that writes as admin.conf, reads that back as
    /// super-admin.conf, and lists as the controller-manager of that host. Ask [`Cluster::apply_rbac`]
    /// first.
    pub fn start(cluster: &Cluster) -> Self {
        Self::asking(cluster, &[])
    }

    /// The same with more that each client asks.
    pub fn asking(cluster: &Cluster, more: &[Ask]) -> Self {
        let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let clients = cluster
            .hosts
            .iter()
            .map(|host| {
                let to = SocketAddr::from((host.address, 6443));
                let kubeconfig = |tree: &std::path::Path, name: &str| Credentials::Kubeconfig {
                    file: tree.join(name),
                    tree: tree.into(),
                };
                let who = [
                    kubeconfig(&cluster.dir, "admin.conf"),
                    kubeconfig(&cluster.dir, "super-admin.conf"),
                    kubeconfig(&host.tree, "controller-manager.conf"),
                ];
                let (tally, over) = (Arc::clone(&tally), Arc::clone(&over));
                let (wanted, busy) =
                    (Arc::new(AtomicBool::new(true)), Arc::<AtomicBool>::default());
                let (go, at_it) = (Arc::clone(&wanted), Arc::clone(&busy));
                let (name, more) = (host.name.clone(), more.to_vec());
                let thread = std::thread::spawn(move || {
                    let mut number = 0;
                    while !over.load(Ordering::SeqCst) {
                        at_it.store(true, Ordering::SeqCst);
                        if go.load(Ordering::SeqCst) {
                            number += 1;
                            round(&tally, &who, to, &name, number);
                            for ask in &more {
                                tally.count(ask(to).map_err(|error| format!("{name}: {error}")));
                            }
                        }
                        at_it.store(false, Ordering::SeqCst);
                        sleep(PAUSE);
                    }
                });
                Client { wanted, busy, thread: Some(thread) }
            })
            .collect();
        let storm = Self { tally, over, clients };
        storm.wait_for_more();
        storm
    }

    /// Takes an apiserver out, as a load balancer does before it is stopped: no request is under way when
    /// this returns.
    pub fn leave_out(&self, host: usize) {
        let client = &self.clients[host];
        client.wanted.store(false, Ordering::SeqCst);
        while client.busy.load(Ordering::SeqCst) {
            sleep(PAUSE / 2);
        }
    }

    /// Takes it in again.
    pub fn take_in(&self, host: usize) {
        self.clients[host].wanted.store(true, Ordering::SeqCst);
    }

    /// Does something that nobody is to be asked during.
    pub fn paused(&self, what: impl FnOnce()) {
        (0..self.clients.len()).for_each(|host| self.leave_out(host));
        what();
        (0..self.clients.len()).for_each(|host| self.take_in(host));
    }

    /// Waits until a dozen more requests of each client have succeeded.
    #[track_caller]
    pub fn wait_for_more(&self) {
        let wanted = self.tally.done() + 12 * self.clients.len();
        let end = Instant::now() + Duration::from_secs(60);
        while self.tally.done() < wanted {
            assert!(Instant::now() < end, "clients stand still: {:?}", self.tally.failed());
            sleep(Duration::from_millis(20));
        }
    }

    /// How many requests were made once more, as the leader of etcd had ended.
    pub fn made_again(&self) -> usize {
        self.tally.again()
    }

    /// Ends it: how many requests succeeded, and what those said that did not.
    pub fn end(mut self) -> (usize, Vec<String>) {
        self.stop();
        (self.tally.done(), self.tally.failed())
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for client in &mut self.clients {
            if let Some(thread) = client.thread.take() {
                // What it counted says what went wrong.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes, reads back what was written, lists.
fn round(tally: &Tally, who: &[Credentials; 3], to: SocketAddr, name: &str, number: u32) {
    let object = format!("/api/v1/namespaces/default/configmaps/storm-{name}");
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"storm-{name}"}},"data":{{"round":"{number}"}}}}"#
    );
    let write = format!(
        "PATCH {object}?fieldManager=storm&force=true HTTP/1.1\r\nHost: kubernetes\r\n\
         Connection: close\r\nContent-Type: application/apply-patch+yaml\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n\r\n")
    };
    let read = get(&object);
    let list = get("/api/v1/namespaces?limit=1");
    let wanted = [
        (write, format!(r#""round":"{number}""#)),
        (read, format!(r#""round":"{number}""#)),
        (list, "NamespaceList".to_owned()),
    ];
    for (credentials, (text, holds)) in who.iter().zip(wanted) {
        let result = apply(tally, credentials, to, &text, &holds);
        tally.count(result.map_err(|error| format!("{name}: {}: {error}", first_line(&text))));
    }
}

/// What is said where the leader of etcd ended with a write under way, of which nobody knows the end: a leader that hands over
/// drops what it is sent meanwhile, whatever certificates there are. Who applies what it wants does so again. The last is
/// what is left where the apiserver's own limit for an apply passes at that moment: it breaks off without an answer, and logs
/// `Timeout or abort while handling` and `etcdserver: request timed out`.
const LEADER_ENDED: [&str; 4] = [
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "Timeout: request did not complete within the allotted timeout",
    "answered \"\"",
];

/// A request that is made once more where the leader of etcd ended.
pub fn apply(
    tally: &Tally,
    credentials: &Credentials,
    to: SocketAddr,
    text: &str,
    holds: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    match ask(credentials, to, text, holds) {
        Err(error) if LEADER_ENDED.iter().any(|said| error.to_string().contains(said)) => {
            tally.count_again();
            ask(credentials, to, text, holds)
        }
        other => other,
    }
}

fn ask(
    credentials: &Credentials,
    to: SocketAddr,
    text: &str,
    holds: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let config = Arc::new(credentials.read()?);
    let answer = request(&config, to, text)?;
    match answer.contains(holds) {
        true => Ok(()),
        false => Err(format!("the answer lacks {holds}: {answer}").into()),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
