//! A workspace of 5,000 nodes, 10,000 certificates: making it, beside what ring allows on the same cores and beside an
//! issuer in Go; finding nothing to do; looking at it; carrying it away. With CERTKIT_BENCH_ALL also 20,000 and 50,000.

mod support;

use std::{
    convert::Infallible,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use certkit::{
    model::{
        layout::Layout,
        part::{self, ClusterPart},
        plan::{Policy, reconcile::reconcile},
        timestamp::Timestamp,
    },
    ops::{apply, declared, observe, password::Passwords},
    parallel,
};

/// The nodes that all else is about. Each has a client and a serving certificate, and a kubeconfig.
const NODES: usize = 5_000;

/// How many nodes workspaces have whose cost for each node is compared.
const GROWING: [usize; 3] = [100, 1_000, 5_000];

const ROUNDS: usize = 3;

/// Workspaces with so many nodes are made once.
const LONG: usize = 20_000;

fn main() {
    let folder = tempfile::Builder::new().prefix("certkit-bench-").tempdir().expect("a folder");
    let folder = folder.path();
    let file = support::declaration(folder, NODES + 1);
    issuing(folder, &file);
    working(folder, &file);
    growing(folder);
    support::end("fleet", "5,000 nodes");
}

/// Ten thousand certificates in memory, beside raw ring; and the whole of it on disk, beside Go's issuer.
fn issuing(folder: &Path, file: &Path) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let [mut raw, mut memory, mut bare, mut whole, mut go] = std::array::from_fn(|_| vec![]);
    let go_issuer = build_go(folder);
    // In turn, so that what else the machine does meets all.
    for round in 0..ROUNDS {
        raw.push(ring_on_all_cores(2 * NODES, cores));
        memory.push(in_memory(file, &folder.join("nothing")));
        let dir = folder.join(format!("whole-{round}"));
        // Nothing is removed before the end: ext4 looks long for an inode where many were freed a moment ago. And
        // nobody has to write what another left unwritten.
        settle();
        whole.push(took(init(file, &dir)));
        settle();
        let files = files_of_a_node(&dir);
        bare.push(bare_files(&folder.join(format!("bare-{round}")), &files, cores));
        settle();
        if let Some(program) = &go_issuer {
            let out = folder.join(format!("go-{round}"));
            let begin = Instant::now();
            let status = Command::new(program).arg(&out).arg(NODES.to_string()).status();
            assert!(status.expect("the Go issuer starts").success());
            go.push(begin.elapsed());
            settle();
        }
    }
    let [raw, memory, bare, whole] = [raw, memory, bare, whole].map(middle);
    support::line("raw ring: 10,000 keys and signatures on all cores", raw);
    support::line("certkit: plan, keys, certificates, kubeconfigs, in memory", memory);
    support::line("the same files alone, nothing computed, one syncfs", bare);
    support::line("certkit init: the same and all files, synced", whole);
    support::ratio("raw ring / certkit in memory", div(raw, memory), 0.7, false);
    if go.is_empty() {
        support::note("Go is not installed: no comparison with its crypto/x509");
        return;
    }
    let go = middle(go);
    support::line("Go's crypto/x509: the same certificates and files, unsynced", go);
    support::ratio("Go / certkit init", div(go, whole), 1.5, false);
    support::note(&format!("Go / the same files alone: {:.2} x", div(go, bare)));
}

/// The files of a node's folder and their sizes, as `init` has made them.
fn files_of_a_node(dir: &Path) -> Vec<(PathBuf, usize)> {
    let host = dir.join("hosts/w1");
    let (mut folders, mut files) = (vec![host.clone()], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
            match metadata.is_dir() {
                true => folders.push(path),
                false => {
                    let inside = path.strip_prefix(&host).expect("below it").to_path_buf();
                    files.push((inside, usize::try_from(metadata.len()).expect("a small file")));
                }
            }
        }
    }
    files
}

/// The folders of all nodes with these files, by nothing but the calls that make them, from as many threads as there are
/// cores; and one `syncfs`. It is what of the whole is the file system's.
fn bare_files(folder: &Path, files: &[(PathBuf, usize)], cores: usize) -> Duration {
    let begin = Instant::now();
    let content = [b'x'; 1 << 16];
    fs::create_dir(folder).expect("a folder");
    let make = |thread: usize| {
        for number in (thread..NODES).step_by(cores) {
            let dir = folder.join(format!("w{number}"));
            fs::create_dir_all(dir.join("pki")).expect("a folder");
            for (name, size) in files {
                let mut file = File::create_new(dir.join(name)).expect("a file");
                file.write_all(&content[..*size]).expect("written");
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..cores {
            scope.spawn(move || make(thread));
        }
    });
    let root = File::open(folder).expect("the folder");
    rustix::fs::syncfs(root).expect("synced");
    begin.elapsed()
}

/// Has the system write what waits for it.
fn settle() {
    rustix::fs::sync();
}

/// What is done with a workspace that is there.
fn working(folder: &Path, file: &Path) {
    let dir = folder.join("there");
    let first = init(file, &dir).watched();
    support::line("certkit init", first.time);
    let run = |words: &[&str]| certkit(words, &dir).watched();
    let again = run(&["init"]);
    let idle = run(&["rotate"]);
    // What has only just changed is not yet known to be settled.
    std::thread::sleep(Duration::from_secs(3));
    run(&["init"]);
    let settled = run(&["init"]);
    run(&["rotate"]);
    let quiet = run(&["rotate"]);
    let check = run(&["check-expiration"]);
    let read = {
        let mut cat = Command::new("find");
        cat.arg(dir.join("hosts")).args(["-type", "f", "-exec", "cat", "{}", "+"]);
        took(cat)
    };
    let verify = run(&["verify"]);
    let archives = folder.join("archives");
    let to = archives.to_str().expect("UTF-8").to_owned();
    let export = run(&["export", "--all", &to]);
    let changed = run(&["export", "--all", &to, "--changed"]);
    let rotate = run(&["rotate", "--all"]);
    let stages = ["introduced", "switched", "stable"];
    let [introduced, switched, stable] =
        stages.map(|stage| run(&["rotate-ca", "ca", "--to", stage]));
    let declared = fs::read_to_string(dir.join("certkit.yaml")).expect("what is declared");
    let some = declared.lines().filter(|line| !line.trim_start().starts_with("- {name: w"));
    let some: Vec<&str> = some.collect();
    fs::write(dir.join("certkit.yaml"), some.join("\n").replace("nodes:", "nodes: []"))
        .expect("another declaration");
    let prune = run(&["prune"]);
    support::line("certkit init again: nothing to do, all read", again.time);
    support::line("certkit init again: nothing has changed since", settled.time);
    support::line("certkit rotate: nothing due, all read", idle.time);
    support::line("certkit rotate: nothing has changed since", quiet.time);
    support::line("certkit check-expiration", check.time);
    support::line("reading the same files (find, cat)", read);
    support::line("certkit verify", verify.time);
    support::line("certkit export --all", export.time);
    support::line("certkit export --all --changed: nothing changed", changed.time);
    support::line("certkit rotate --all", rotate.time);
    support::line("certkit rotate-ca ca --to introduced", introduced.time);
    support::line("certkit rotate-ca ca --to switched", switched.time);
    support::line("certkit rotate-ca ca --to stable", stable.time);
    support::line("certkit prune: all nodes", prune.time);
    support::ratio("init / init again, settled", div(first.time, settled.time), 20.0, false);
    support::ratio("check-expiration / reading the files", div(check.time, read), 2.0, true);
    let all = [
        ("init", first),
        ("init again", again),
        ("rotate, nothing due", idle),
        ("check-expiration", check),
        ("verify", verify),
        ("export --all", export),
        ("rotate --all", rotate),
        ("rotate-ca --to introduced", introduced),
        ("rotate-ca --to switched", switched),
        ("rotate-ca --to stable", stable),
        ("prune", prune),
    ];
    for (what, run) in all {
        let mebibytes = run.memory as f64 / 1024.0;
        support::ratio(&format!("{what}: most memory / 200 MiB"), mebibytes / 200.0, 1.0, true);
        support::ratio(&format!("{what}: open files / 256"), run.files as f64 / 256.0, 1.0, true);
    }
}

/// What a node costs among few and among many.
fn growing(folder: &Path) {
    let mut sizes = GROWING.to_vec();
    if std::env::var_os("CERTKIT_BENCH_ALL").is_some() {
        sizes.extend([20_000, 50_000]);
    }
    let mut times = vec![Vec::new(); sizes.len()];
    let mut most = vec![0; sizes.len()];
    for round in 0..ROUNDS {
        for (at, nodes) in
            sizes.iter().enumerate().filter(|(_, nodes)| round == 0 || **nodes < LONG)
        {
            let file = support::declaration(folder, nodes + 1);
            let run = init(&file, &folder.join(format!("growing-{round}-{nodes}"))).watched();
            times[at].push(run.time);
            most[at] = run.memory.max(most[at]);
        }
    }
    let each: Vec<f64> = sizes
        .iter()
        .zip(times)
        .map(|(nodes, times)| middle(times).as_secs_f64() / *nodes as f64)
        .collect();
    for ((nodes, each), most) in sizes.iter().zip(&each).zip(most) {
        support::note(&format!(
            "init, a node among {nodes}: {:.3} ms; most memory: {} MiB",
            each * 1e3,
            most / 1024
        ));
    }
    let last = each.len() - 1;
    let what = format!("a node among {} / a node among {}", sizes[last], sizes[1]);
    support::ratio(&what, each[last] / each[1], 1.15, true);
}

/// A process, and what it is to be told.
trait Watched {
    fn watched(self) -> Run;
}

/// What a process took.
struct Run {
    time: Duration,
    /// The most memory it had, in KiB.
    memory: u64,
    /// The most files it had open at a look.
    files: usize,
}

impl Watched for Command {
    fn watched(mut self) -> Run {
        let begin = Instant::now();
        let mut child = self.stdout(Stdio::null()).spawn().expect("it starts");
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let (mut memory, mut files) = (0, 0);
        loop {
            if let Some(status) = child.try_wait().expect("it runs") {
                assert!(status.success(), "{self:?}: {status}");
                return Run { time: begin.elapsed(), memory, files };
            }
            let text = fs::read_to_string(proc.join("status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            memory = memory.max(now.unwrap_or(0));
            files = files.max(fs::read_dir(proc.join("fd")).map_or(0, Iterator::count));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn certkit(words: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certkit"));
    command.args(words).args(["--quiet", "--dir"]).arg(dir);
    command
}

fn init(file: &Path, dir: &Path) -> Command {
    certkit(&["init", "--config", file.to_str().expect("UTF-8")], dir)
}

fn took(mut command: Command) -> Duration {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
    begin.elapsed()
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn div(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// Everything that `init` does but writing.
fn in_memory(file: &Path, dir: &Path) -> Duration {
    let begin = Instant::now();
    let (draft, source) = declared::draft(dir, Some(file)).expect("a declaration");
    let cluster = declared::complete(dir, draft, &source).expect("a cluster");
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
    let mut issued = 0;
    // As `init` does it: part by part, and the next ones while one is taken.
    let make = |part: ClusterPart| {
        let layout = Layout::new(&part.cluster);
        let observation = observe::observe(&layout, dir).with_configs(&layout, dir);
        let observation = observation.expect("settings");
        let plan = reconcile(&layout, &observation.observed, dir, &Policy::COMPLETE, now);
        apply::prepare(&plan, &layout, observation, dir, now, &Passwords::Nowhere).expect("made")
    };
    let counted: Result<(), Infallible> = parallel::in_turn(part::all(&cluster), make, |made| {
        issued += made.issued.len();
        Ok(())
    });
    counted.expect("counting cannot fail");
    let took = begin.elapsed();
    assert!(issued > 2 * NODES);
    took
}

/// So many P-256 keys and signatures, shared among the cores.
fn ring_on_all_cores(count: usize, cores: usize) -> Duration {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| support::keys_and_signatures(count.div_ceil(cores), 1));
        }
    });
    begin.elapsed()
}

/// The issuer in Go, if there is a Go.
fn build_go(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/issuer.go");
    let program = folder.join("issuer");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(source);
    let built = build.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").status();
    built.is_ok_and(|status| status.success()).then_some(program)
}
