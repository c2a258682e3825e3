//! What becomes of requests for certificates, and when: as a watch of the API tells anybody, whoever decides and signs.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::machine::Machine;

/// When the watch brought a request first, and when it brought its certificate.
type Times = BTreeMap<String, (Instant, Option<Instant>)>;

/// An event, as far as it matters.
#[derive(Deserialize)]
struct Event {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    certificate: Option<serde::de::IgnoredAny>,
}

/// A watch; it ends when dropped.
pub struct Observer {
    times: Arc<Mutex<Times>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Watches as who has this token.
    pub fn start(machine: &Machine, token: &str) -> Self {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--cacert", "/etc/kubernetes/pki/ca-bundle.crt"]);
        curl.args(["--max-time", "10"]);
        curl.arg("--header").arg(format!("Authorization: Bearer {token}"));
        curl.arg(
            "https://10.0.0.11:6443/apis/certificates.k8s.io/v1/certificatesigningrequests?watch=1",
        );
        let mut curl = machine.enter(&curl);
        let (times, over) = (Arc::<Mutex<Times>>::default(), Arc::<AtomicBool>::default());
        let (to, is_over) = (Arc::clone(&times), Arc::clone(&over));
        // An apiserver ends watches when it has much to do. Each begins with all that there is.
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                watch(&mut curl, &to);
            }
        });
        Self { times, over, thread: Some(thread) }
    }

    /// How long each that is signed took from being there, and when the last of them was; of those whose names begin so.
    pub fn signed(&self, begin: &str) -> (Vec<Duration>, Option<Instant>) {
        let times = self.times.lock().expect("a thread that did not panic");
        let ours = times.iter().filter(|(name, _)| name.starts_with(begin));
        let signed = ours.filter_map(|(_, (seen, signed))| Some((*seen, (*signed)?)));
        let (mut took, mut last) = (Vec::new(), None);
        for (seen, signed) in signed {
            took.push(signed - seen);
            last = last.max(Some(signed));
        }
        took.sort_unstable();
        (took, last)
    }
}

/// Until it ends.
fn watch(curl: &mut Command, to: &Mutex<Times>) {
    let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl starts");
    let told = BufReader::new(curl.stdout.take().expect("a pipe"));
    for line in told.lines().map_while(Result::ok) {
        let now = Instant::now();
        let Ok(Event { object }) = serde_json::from_str(&line) else { continue };
        let mut to = to.lock().expect("a thread that did not panic");
        let times = to.entry(object.metadata.name).or_insert((now, None));
        if object.status.certificate.is_some() {
            times.1.get_or_insert(now);
        }
    }
    let _ = curl.wait();
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
