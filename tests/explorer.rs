//! The explorer: a model of a cluster of one host and of three, in which every component has old or new files loaded and
//! is restarted in every order. All its states are visited; in each of them every path that worked at first must work.
//! Whether two ends accept each other is no part of the model: certkit's handshakes say it, for files that `rotate-ca`
//! made. Tokens of service accounts go from who signs them to every apiserver, as long as one may be valid: from then on
//! when the first has loaded the key that signed it.
//!
//! A component is where it has what it trusts from, and what it shows: of each there are few, as the stages are few. A
//! component that only dials meets nobody but servers, so that it is enough to see it in each of its places against every
//! state of all the servers. One that is away while stages pass meets nobody either, and then everybody, as it was: coming
//! back before the next stage is as if it had been restarted last.

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
        verify::rehearsal::{Loaded, PathEnd, Rehearsal, TokenPath},
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
    /// Whether tokens of keys that sign no longer have ended by then.
    ends_tokens: bool,
    to: Box<Wanted>,
}

/// Where a component is to go; nowhere where nothing is said of it.
type Wanted = dyn Fn(&str) -> Option<At>;

fn everybody(name: &'static str, at: At) -> Instruction {
    Instruction { name, waits: true, ends_tokens: false, to: Box::new(move |_| Some(at)) }
}

fn some(name: &'static str, who: &'static [&'static str], at: At) -> Instruction {
    let to = move |one: &str| who.iter().any(|who| one.starts_with(who)).then_some(at);
    Instruction { name, waits: true, ends_tokens: false, to: Box::new(to) }
}

impl Instruction {
    fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    fn once_tokens_have_ended(mut self) -> Self {
        self.ends_tokens = true;
        self
    }
}

/// The stages as `rotate-ca` takes them.
fn stages() -> [Instruction; 3] {
    [
        everybody("introduced", (BOTH, 0)),
        everybody("switched", (BOTH, 1)),
        everybody("stable", (NEW, 1)).once_tokens_have_ended(),
    ]
}

/// A component that does not run from one instruction until another one has been given, both by their number.
#[derive(Clone, Copy)]
struct Away {
    server: usize,
    from: usize,
    back: usize,
}

impl Away {
    /// Whether it is, once so many instructions were given.
    fn is(self, server: usize, given: usize) -> bool {
        server == self.server && (self.from..self.back).contains(&given)
    }
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
    /// The ways of tokens: from which server to which.
    tokens: Vec<(usize, usize)>,
    /// Of each whether it is accepted, by what the signer shows and what the verifier trusts.
    accepted: Vec<[[bool; 3]; 2]>,
}

/// Which keys have signed tokens that may be valid: a bit for each of [`SHOWS`].
type Tokens = u8;

/// One component under one name: the service `kubernetes` is the apiserver's.
fn plain(end: &PathEnd) -> PathEnd {
    let who = end.who.split(" (service").next().unwrap_or(end.who);
    PathEnd { who, root: end.root.clone() }
}

impl Model {
    /// Of a cluster with so many hosts, from a tree at each stage of these CAs.
    fn new(hosts: u8, authorities: &[&str]) -> Self {
        Self::with(hosts, authorities, &[])
    }

    /// The same with more said at the first stage.
    fn with(hosts: u8, authorities: &[&str], at_first: &[&str]) -> Self {
        let names: Vec<String> = (1..=hosts).map(|n| format!("cp{n}=10.0.0.1{n}")).collect();
        // A copy of a tree must not name the original.
        let mut more: Vec<&str> = vec!["--host-dir", "/etc/kubernetes"];
        names.iter().for_each(|name| more.extend(["--host", name.as_str()]));
        let first = temp_dir();
        run(certkit().arg("init").arg("--dir").arg(first.path()).args(more));
        let mut trees = vec![first];
        for step in 0..3 {
            let next = temp_dir();
            copy(trees.last().unwrap().path(), next.path());
            let mut command: Command = certkit();
            // As if all tokens of the key before had ended: when they do is a matter of the model.
            let previous = next.path().join("pki/sa-previous.key");
            if previous.exists() {
                run(Command::new("touch").args(["-d", "2 years ago"]).arg(previous));
            }
            command.arg("rotate-ca").arg("--dir").arg(next.path());
            run(command.args(authorities).args(["--next", "-q"]).args(if step == 0 {
                at_first
            } else {
                &[]
            }));
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
        let token_paths = rehearsal.token_paths();
        let server = |end: &PathEnd| servers.iter().position(|one| one == end).unwrap();
        let tokens = token_paths.iter().map(|p| (server(&p.signer), server(&p.verifier))).collect();
        let accepted = |path: &TokenPath| {
            SHOWS.map(|shows| {
                TRUSTS.map(|trusts| rehearsal.token(path, shows, trusts) == Outcome::Works)
            })
        };
        let accepted = token_paths.iter().map(accepted).collect();
        Self { servers, clients, paths, works, tokens, accepted }
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

    /// The server of this name.
    fn server(&self, name: &str) -> usize {
        (0..self.servers.len()).find(|server| self.name(*server) == name).unwrap()
    }

    /// The keys that sign in this state.
    fn signing(&self, at: &[At]) -> Tokens {
        self.tokens.iter().map(|(signer, _)| 1 << at[*signer].1).fold(0, |all, one| all | one)
    }

    /// A path that is broken in this state, as far as all those run that are not away.
    fn broken(
        &self,
        (at, tokens): (&[At], Tokens),
        places: &dyn Fn(usize) -> Vec<At>,
        is_away: &dyn Fn(usize) -> bool,
    ) -> Option<String> {
        for (path, works) in self.paths.iter().zip(&self.works) {
            let (id, client, server) = *path;
            if is_away(client) || is_away(server) {
                continue;
            }
            let places =
                if client < self.servers.len() { vec![at[client]] } else { places(client) };
            if !places.iter().all(|place| works[&(at[server], *place)]) {
                return Some(format!("{id}: {} to {}", self.name(client), self.name(server)));
            }
        }
        for ((signer, verifier), accepted) in self.tokens.iter().zip(&self.accepted) {
            let trusts = usize::from(at[*verifier].0);
            let refused =
                (0..SHOWS.len()).any(|key| tokens & 1 << key != 0 && !accepted[key][trusts]);
            if refused && !is_away(*verifier) {
                return Some(format!("token: {} to {}", self.name(*signer), self.name(*verifier)));
            }
        }
        None
    }

    /// Visits every state; gives how many there are, or the shortest way to an outage.
    fn explore(&self, instructions: &[Instruction]) -> Result<usize, Outage> {
        self.explore_without(instructions, None)
    }

    /// The same where somebody is away for a while.
    fn explore_without(
        &self,
        instructions: &[Instruction],
        away: Option<Away>,
    ) -> Result<usize, Outage> {
        let is_away = |server: usize, given: usize| away.is_some_and(|one| one.is(server, given));
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
        type State = (usize, Vec<At>, Tokens);
        let first = wanted[0][..self.servers.len()].to_vec();
        let start: State = (0, first.clone(), self.signing(&first));
        let mut known: HashSet<State> = HashSet::from([start.clone()]);
        let mut came: HashMap<State, (State, String)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            let (given, at, tokens) = &state;
            let broken = self.broken((at, *tokens), &|client| dialling(*given, client), &|one| {
                is_away(one, *given)
            });
            if let Some(path) = broken {
                let mut way = Vec::new();
                let mut state = &state;
                while let Some((before, what)) = came.get(state) {
                    way.push(what.clone());
                    state = before;
                }
                way.reverse();
                return Err(Outage { path, way });
            }
            let mut next: Vec<(State, String)> = Vec::new();
            let runs = |component: &usize| !is_away(*component, *given);
            for component in (0..self.servers.len()).filter(runs) {
                if at[component] != wanted[*given][component] {
                    let mut moved = at.clone();
                    moved[component] = wanted[*given][component];
                    let tokens = tokens | self.signing(&moved);
                    let what = format!("restart: {}", self.name(component));
                    next.push(((*given, moved, tokens), what));
                }
            }
            if let Some(instruction) = instructions.get(*given) {
                let is_there = |one: usize| at[one] == wanted[*given][one];
                if !instruction.waits || (0..self.servers.len()).filter(runs).all(is_there) {
                    let what = format!("instruction: {}", instruction.name);
                    let left = if instruction.ends_tokens { self.signing(at) } else { *tokens };
                    next.push(((given + 1, at.clone(), left), what));
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
        let model = Model::new(hosts, &["ca", "etcd-ca", "front-proxy-ca", "sa"]);
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
        let again = everybody("introduced, undone", (OLD, 0)).once_tokens_have_ended();
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

#[test]
fn tokens_that_an_apiserver_refuses_are_found() {
    for hosts in [1, 3] {
        let model = Model::new(hosts, &["sa"]);
        // Certificates stay as they are, so that tokens are all that is left to break.
        let states = model.explore(&stages()).unwrap();
        println!("{hosts} hosts: {states} states, {} ways of tokens", model.tokens.len());
        assert_eq!(model.tokens.len(), 2 * usize::from(hosts).pow(2));
        let found = |instructions: &[Instruction]| {
            let outage = model.explore(instructions).unwrap_err();
            println!("{hosts} hosts: {}\n  {}", outage.path, outage.way.join("\n  "));
            assert!(outage.path.starts_with("token: "), "{outage:?}");
            outage.step().to_owned()
        };
        // The new key signs before every apiserver knows it.
        let [introduced, switched, stable] = stages();
        let first = everybody("switched first", (OLD, 1));
        assert_eq!(found(&[first, introduced, switched, stable]), "switched first");
        let [introduced, switched, stable] = stages();
        assert_eq!(
            found(&[introduced.without_waiting(), switched.without_waiting(), stable]),
            "switched"
        );
        // The old one is dropped while its tokens may be valid, or while somebody signs with it.
        let [introduced, switched, _] = stages();
        assert_eq!(found(&[introduced, switched, everybody("too early", (NEW, 1))]), "too early");
        let [introduced, switched, stable] = stages();
        assert_eq!(found(&[introduced, switched, stable.without_waiting()]), "stable");
        let [introduced, _, stable] = stages();
        assert_eq!(found(&[introduced, stable]), "stable");
        // The next one is taken back, and has signed already.
        let [introduced, switched, _] = stages();
        let back = everybody("switched, undone", (BOTH, 0)).without_waiting();
        assert_eq!(found(&[introduced, switched, back, everybody("undone", (OLD, 0))]), "undone");
    }
}

#[test]
fn whoever_is_away_while_a_stage_passes_must_take_it_up_before_the_next() {
    let all = ["ca", "etcd-ca", "front-proxy-ca"];
    let model = Model::new(2, &all);
    // Off when the first stage is taken, and back, as it was, when the second one is; or off for the second and back at
    // the third, or for both.
    let absences = [(1, 2), (2, 3), (1, 3)];
    let who = ["kubelet", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    for (from, back) in absences {
        for who in who {
            let server = model.server(&format!("{who} hosts/cp2"));
            let outage =
                model.explore_without(&stages(), Some(Away { server, from, back })).unwrap_err();
            println!("{who} from {from} to {back}: {}\n  {}", outage.path, outage.way.join("\n  "));
            assert!(outage.path.contains(&format!("{who} hosts/cp2")), "{outage:?}");
            assert_eq!(outage.step(), stages()[back - 1].name, "{outage:?}");
        }
    }
    // Where the old CA vouches for the new one it may miss the first stage, and no more than that.
    let crossed = Model::with(1, &all, &["--cross-sign"]);
    for who in who {
        let server = crossed.server(who);
        let away =
            |from, back| crossed.explore_without(&stages(), Some(Away { server, from, back }));
        away(1, 2).unwrap();
        assert_eq!(away(1, 3).unwrap_err().step(), "stable");
    }
    // Of the key for tokens the apiservers must know.
    let tokens = Model::new(2, &["sa"]);
    let server = tokens.server("kube-apiserver hosts/cp2");
    for (from, back) in [(1, 2), (1, 3)] {
        let outage =
            tokens.explore_without(&stages(), Some(Away { server, from, back })).unwrap_err();
        assert!(outage.path.ends_with("to kube-apiserver hosts/cp2"), "{outage:?}");
        assert_eq!(outage.step(), stages()[back - 1].name);
    }
    let server = tokens.server("kubelet hosts/cp2");
    tokens.explore_without(&stages(), Some(Away { server, from: 1, back: 3 })).unwrap();
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
