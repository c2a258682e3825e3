//! The explorer: a model of a cluster of one host and of three, in which every component has old or new files loaded and
//! is restarted in every order. All its states are visited; in each of them every path that worked at first must work.
//! Whether two ends accept each other is no part of the model: certkit's handshakes say it, for files that `rotate-ca`
//! made.
//!
//! A component is where it has what it trusts from, and what it shows: of each there are few, as the stages are few. A
//! component that only dials meets nobody but servers, so that it is enough to see it in each of its places against every
//! state of all the servers.

mod support;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    process::Command,
};

use certkit::{
    model::{check::pairing::Outcome, layout::Layout, timestamp::Timestamp},
    ops::{
        declared,
        observe::{self, Files, Observation},
        verify::rehearsal::{Loaded, PathEnd, Rehearsal},
    },
};
use support::{certkit, run, temp_dir, tree::copy};

/// What is trusted: the old CAs, both, or the new ones; by the tree that has it.
const TRUSTS: [usize; 3] = [0, 1, 3];
/// What is shown: certificates of the old CAs, or of the new ones.
const SHOWS: [usize; 2] = [0, 2];

/// Where a component is: an index into [`TRUSTS`], and one into [`SHOWS`].
type At = (u8, u8);

const OLD: u8 = 0;
const BOTH: u8 = 1;
const NEW: u8 = 2;

/// What each component is to go to in one step.
struct Instruction {
    name: &'static str,
    /// Whether it is only given once all have come to where the step before wants them.
    waits: bool,
    to: Box<Wanted>,
}

/// Where a component is to go; nowhere where nothing is said of it.
type Wanted = dyn Fn(&str) -> Option<At>;

fn everybody(name: &'static str, at: At) -> Instruction {
    Instruction { name, waits: true, to: Box::new(move |_| Some(at)) }
}

fn some(name: &'static str, who: &'static [&'static str], at: At) -> Instruction {
    let to = move |one: &str| who.iter().any(|who| one.starts_with(who)).then_some(at);
    Instruction { name, waits: true, to: Box::new(to) }
}

impl Instruction {
    fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }
}

/// The stages as `rotate-ca` takes them.
fn stages() -> [Instruction; 3] {
    [
        everybody("introduced", (BOTH, 0)),
        everybody("switched", (BOTH, 1)),
        everybody("stable", (NEW, 1)),
    ]
}

/// A way into a state in which a path is broken.
#[derive(Debug)]
struct Outage {
    path: String,
    way: Vec<String>,
}

impl Outage {
    /// The instruction after which it came.
    fn step(&self) -> &str {
        self.way.iter().rev().find_map(|one| one.strip_prefix("instruction: ")).unwrap_or("none")
    }
}

struct Model {
    /// Components that answer, and may dial, too.
    servers: Vec<PathEnd>,
    /// Components that only dial.
    clients: Vec<PathEnd>,
    /// The paths: id, client (of the servers, then of the clients), server.
    paths: Vec<(&'static str, usize, usize)>,
    /// Of each path whether it works, by where the server is and where the client is.
    works: Vec<HashMap<(At, At), bool>>,
}

/// One component under one name: the service `kubernetes` is the apiserver's.
fn plain(end: &PathEnd) -> PathEnd {
    let who = end.who.split(" (service").next().unwrap_or(end.who);
    PathEnd { who, root: end.root.clone() }
}

impl Model {
    /// Of a cluster with so many hosts, from a tree at each stage of these CAs.
    fn new(hosts: u8, authorities: &[&str]) -> Self {
        let names: Vec<String> = (1..=hosts).map(|n| format!("cp{n}=10.0.0.1{n}")).collect();
        // A copy of a tree must not name the original.
        let mut more: Vec<&str> = vec!["--host-dir", "/etc/kubernetes"];
        names.iter().for_each(|name| more.extend(["--host", name.as_str()]));
        let first = temp_dir();
        run(certkit().arg("init").arg("--dir").arg(first.path()).args(more));
        let mut trees = vec![first];
        for _ in 0..3 {
            let next = temp_dir();
            copy(trees.last().unwrap().path(), next.path());
            let mut command: Command = certkit();
            command.arg("rotate-ca").arg("--dir").arg(next.path());
            run(command.args(authorities).arg("--next"));
            trees.push(next);
        }
        let at: Vec<&Path> = trees.iter().map(tempfile::TempDir::path).collect();
        Self::of_trees(&at)
    }

    fn of_trees(trees: &[&Path]) -> Self {
        let cluster = declared::load(trees[0]).unwrap();
        let layout = Layout::new(&cluster);
        let states: Vec<Observation> = trees
            .iter()
            .map(|dir| observe::look(&layout, true, &mut Files::followed(dir)))
            .collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Timestamp::from_unix(now.as_secs() as i64 + 60);
        let rehearsal = Rehearsal::new(&layout, &states, now).unwrap();
        let rehearsed = rehearsal.paths();
        let mut servers: Vec<PathEnd> = rehearsed.iter().map(|p| plain(&p.server)).collect();
        servers.sort();
        servers.dedup();
        let mut clients: Vec<PathEnd> = rehearsed.iter().map(|p| plain(&p.client)).collect();
        clients.sort();
        clients.dedup();
        clients.retain(|client| !servers.contains(client));
        let index = |end: &PathEnd| {
            let end = plain(end);
            let client = || clients.iter().position(|one| *one == end).map(|n| servers.len() + n);
            servers.iter().position(|one| *one == end).or_else(client).unwrap()
        };
        let paths = rehearsed
            .iter()
            .map(|p| (p.id, index(&p.client), index(&p.server)))
            .collect::<Vec<_>>();
        let mut works = vec![HashMap::new(); paths.len()];
        let all = || (0..3_u8).flat_map(|trusts| (0..2_u8).map(move |shows| (trusts, shows)));
        let loaded = |(trusts, shows): At| Loaded {
            trusts: TRUSTS[usize::from(trusts)],
            shows: SHOWS[usize::from(shows)],
        };
        for server in all() {
            for client in all() {
                let outcomes = rehearsal.outcomes(loaded(server), loaded(client));
                for (works, outcome) in works.iter_mut().zip(outcomes) {
                    works.insert((server, client), outcome == Outcome::Works);
                }
            }
        }
        Self { servers, clients, paths, works }
    }

    fn name(&self, component: usize) -> String {
        let end = self.servers.get(component);
        let end = end.unwrap_or_else(|| &self.clients[component - self.servers.len()]);
        format!("{} {}", end.who, end.root.display()).trim().to_owned()
    }

    fn who(&self, component: usize) -> &str {
        match self.servers.get(component) {
            Some(end) => end.who,
            None => self.clients[component - self.servers.len()].who,
        }
    }

    /// Visits every state; gives how many there are, or the shortest way to an outage.
    fn explore(&self, instructions: &[Instruction]) -> Result<usize, Outage> {
        let components = self.servers.len() + self.clients.len();
        // Where each instruction wants each component, those it says nothing of as before.
        let mut wanted: Vec<Vec<At>> = vec![vec![(OLD, 0); components]];
        for instruction in instructions {
            let before = wanted.last().unwrap();
            let next = (0..components)
                .map(|one| (instruction.to)(self.who(one)).unwrap_or(before[one]))
                .collect();
            wanted.push(next);
        }
        // Where components can be that only dial: they lag behind as far as nobody waits for them.
        let dialling = |given: usize, component: usize| -> Vec<At> {
            let mut places = vec![wanted[given][component]];
            let mut step = given;
            while step > 0 {
                step -= 1;
                places.push(wanted[step][component]);
                if instructions[step].waits {
                    break;
                }
            }
            places
        };
        type State = (usize, Vec<At>);
        let start: State = (0, wanted[0][..self.servers.len()].to_vec());
        let mut known: HashSet<State> = HashSet::from([start.clone()]);
        let mut came: HashMap<State, (State, String)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            let (given, at) = &state;
            for (path, works) in self.paths.iter().zip(&self.works) {
                let (id, client, server) = *path;
                let places = match client < self.servers.len() {
                    true => vec![at[client]],
                    false => dialling(*given, client),
                };
                if places.iter().all(|place| works[&(at[server], *place)]) {
                    continue;
                }
                let mut way = Vec::new();
                let mut state = &state;
                while let Some((before, what)) = came.get(state) {
                    way.push(what.clone());
                    state = before;
                }
                way.reverse();
                let (client, server) = (self.name(client), self.name(server));
                return Err(Outage { path: format!("{id}: {client} to {server}"), way });
            }
            let mut next: Vec<(State, String)> = Vec::new();
            for component in 0..self.servers.len() {
                if at[component] != wanted[*given][component] {
                    let mut moved = at.clone();
                    moved[component] = wanted[*given][component];
                    next.push(((*given, moved), format!("restart: {}", self.name(component))));
                }
            }
            if let Some(instruction) = instructions.get(*given) {
                let all_there = at[..] == wanted[*given][..self.servers.len()];
                if all_there || !instruction.waits {
                    let what = format!("instruction: {}", instruction.name);
                    next.push(((given + 1, at.clone()), what));
                }
            }
            for (one, what) in next {
                if known.insert(one.clone()) {
                    came.insert(one.clone(), (state.clone(), what));
                    queue.push_back(one);
                }
            }
        }
        Ok(known.len())
    }
}

#[test]
fn no_state_of_one_host_or_three_has_an_outage_and_every_wrong_order_has_one() {
    for hosts in [1, 3] {
        let model = Model::new(hosts, &["ca", "etcd-ca", "front-proxy-ca"]);
        let servers = u32::try_from(model.servers.len()).unwrap();
        println!("{hosts} hosts: {:?} answer, {:?} only dial", model.servers, model.clients);
        assert_eq!(servers, 5 * u32::from(hosts), "{:?}", model.servers);

        // Each stage is any subset of the components; the last state of one is the first of the next.
        let states = model.explore(&stages()).unwrap();
        assert_eq!(states, 1 + 3 * 2_usize.pow(servers), "of {hosts} hosts");
        println!("{hosts} hosts: {states} states without an outage");

        // Taken back in the middle of each stage, whoever has taken it up by then.
        let [introduced, switched, _] = stages();
        let back = everybody("introduced, undone", (OLD, 0)).without_waiting();
        model.explore(&[introduced, back]).unwrap();
        let [introduced, ..] = stages();
        let back = everybody("switched, undone", (BOTH, 0)).without_waiting();
        let again = everybody("introduced, undone", (OLD, 0));
        model.explore(&[introduced, switched, back, again]).unwrap();

        // The stages in a wrong order, or one of them left out.
        let found = |instructions: &[Instruction]| {
            let outage = model.explore(instructions).unwrap_err();
            println!("{hosts} hosts: {}\n  {}", outage.path, outage.way.join("\n  "));
            outage
        };
        let [introduced, switched, stable] = stages();
        let outage = found(&[everybody("switched first", (OLD, 1)), introduced, switched, stable]);
        assert_eq!(outage.step(), "switched first");
        let [introduced, switched, stable] = stages();
        let dropped = everybody("dropped before it switched", (NEW, 0));
        let outage = found(&[introduced, dropped, switched, stable]);
        assert_eq!(outage.step(), "dropped before it switched");
        let [_, switched, stable] = stages();
        assert_eq!(found(&[switched, stable]).step(), "switched");
        let [introduced, _, stable] = stages();
        assert_eq!(found(&[introduced, stable]).step(), "stable");

        // A gate removed: a stage is given before everybody has taken up the one before.
        let [introduced, switched, stable] = stages();
        let outage = found(&[introduced, switched.without_waiting(), stable]);
        assert_eq!(outage.step(), "switched");
        let [introduced, switched, stable] = stages();
        let outage = found(&[introduced, switched, stable.without_waiting()]);
        assert_eq!(outage.step(), "stable");
        // The way there is as short as can be: each stage, and a component that went ahead of another.
        let restarts = outage.way.iter().filter(|one| one.starts_with("restart: "));
        assert!(restarts.count() > usize::from(hosts), "{outage:?}");
    }
}

/// "Manual Rotation of CA Certificates" of the Kubernetes documentation, step by step, as far as it is about who trusts
/// and shows what. It is about the cluster's CA; of etcd's it says nothing.
fn upstream() -> Vec<Instruction> {
    let api = &["kube-apiserver"];
    let control_plane = &["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    vec![
        // Its --root-ca-file alone: what it trusts itself is in its kubeconfig.
        some("2: restart the controller-manager", &["kube-controller-manager"], (OLD, 0)),
        some("4: restart pods", &["pods", "monitoring", "metrics-server"], (BOTH, 0)),
        some("5: --client-ca-file and --kubelet-certificate-authority", api, (BOTH, 0)),
        some("6: the scheduler's --client-ca-file", &["kube-scheduler"], (OLD, 0)),
        some("7: kubeconfigs of users", &["kubectl", "a new node"], (BOTH, 1)),
        // With certificates that rotate by themselves, only when they are old.
        some("8.2: restart kubelets", &["kubelet"], (BOTH, 0)),
        some("8.3: restart apiservers with new certificates", api, (BOTH, 1)),
        some("8.3: restart the scheduler", &["kube-scheduler"], (BOTH, 1)),
        some("11.2: restart the control plane without the old CA", control_plane, (NEW, 1)),
        some("11.3: restart kubelets without the old CA", &["kubelet"], (NEW, 1)),
    ]
}

#[test]
fn the_manual_order_of_the_kubernetes_documentation_has_outages_and_where_is_known() {
    let model = Model::new(3, &["ca"]);
    let outage = model.explore(&upstream()).unwrap_err();
    println!("{}\n  {}", outage.path, outage.way.join("\n  "));
    // The controller-manager and the scheduler have read their kubeconfigs for the last time before those held the new
    // CA, and are faced with its certificates.
    assert_eq!(outage.step(), "8.3: restart apiservers with new certificates", "{outage:?}");
    assert!(
        outage.path.contains("controller-manager") || outage.path.contains("scheduler"),
        "{outage:?}"
    );

    // With that mended, kubelets, whose certificates are renewed only when they are old, are locked out at the end.
    let mended = |more: Option<Instruction>| {
        let mut all = upstream();
        let programs = &["kube-controller-manager", "kube-scheduler"];
        all.insert(6, some("mended: both restarted with both CAs", programs, (BOTH, 0)));
        let last = all.iter().position(|one| one.name.starts_with("11.2")).unwrap();
        all.splice(last..last, more);
        all
    };
    let outage = model.explore(&mended(None)).unwrap_err();
    println!("{}\n  {}", outage.path, outage.way.join("\n  "));
    assert!(outage.step().starts_with("11.2"), "{outage:?}");

    // With every certificate made anew before, as `switched` does, the order is right.
    let all = &["kube", "metrics-server", "monitoring", "pods", "a new node"];
    let switched = some("mended: new certificates for all, all pods restarted", all, (BOTH, 1));
    let states = model.explore(&mended(Some(switched))).unwrap();
    println!("mended: {states} states");
}
