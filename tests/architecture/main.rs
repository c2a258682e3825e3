//! The rules of `docs/architecture.md` that can be read off the sources, each with a proof that it can
//! fail.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use certkit::model::catalogue::{CERTIFICATES, COMPONENTS, KEYS, LISTENERS};
use source::{Source, without_comments};

/// Each layer and what it may use besides itself. The binary and the crate root are above all.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("document", &["model"]),
    ("parallel", &[]),
    ("pki", &["model"]),
    ("store", &["model", "parallel"]),
    ("tls", &["model", "parallel", "pki"]),
    ("cluster", &["model", "pki", "tls"]),
    ("render", &["model"]),
    ("ops", &["model", "document", "parallel", "pki", "store", "tls", "render"]),
    ("cli", &["model", "document", "parallel", "pki", "store", "tls", "cluster", "render", "ops"]),
];

/// What the model must not name: the world it would read or change.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "clap",
    "getrandom",
    "k8s_openapi",
    "kube",
    "rand",
    "rcgen",
    "ring",
    "rustix",
    "rustls",
    "tokio",
];

/// What begins threads or counts processors: `parallel`'s alone, which does without where there are none to be had.
const THREADS: &[&str] = &["scope", "spawn", "Builder", "available_parallelism"];

/// Where else a thread is begun, and why.
const THREADED: &[(&str, &str)] =
    &[("tls/probe.rs", "the system's resolver knows no deadline: it is left behind")];

/// Crates named in more than one module, where, and why. All others: in one, such as `pki::issue` with
/// the files below `pki/issue/`.
const SPREAD: &[(&str, &[&str], &str)] = &[
    ("anstyle", &["cli"], "styles of clap's help and of tables"),
    (
        "base64",
        &["document::data", "pki::age", "store::digest"],
        "Kubernetes' documents; age's header; digests as pages have them",
    ),
    ("clap", &["cli"], "each command's arguments stand beside it"),
    ("k8s_openapi", &["cluster"], "the API's types"),
    ("kube", &["cluster"], "questions to the API"),
    ("ring", &["pki", "store::digest"], "keys, signatures, key identifiers; the journal's digests"),
    (
        "rustix",
        &["cli", "ops", "store"],
        "what std lacks: terminals; this host; directories by handle",
    ),
    ("rustls", &["tls"], "handshakes in memory and over the network"),
    ("rustls_pki_types", &["pki", "tls"], "what passes between PEM, inspection and handshakes"),
    ("serde", &[""], "derives"),
    (
        "serde_json",
        &["cli", "cluster", "document", "ops", "render", "store"],
        "output; patches of objects; config files; the journal and the log",
    ),
    ("signal_hook", &["cli", "ops"], "what a signal ended; hooks that are handed them"),
    ("tar", &["ops::delivery", "ops::export"], "what goes to a host, by two ways"),
    ("thiserror", &[""], "derives"),
    ("time", &["model::timestamp", "pki"], "rcgen and x509-parser speak it"),
    ("tokio", &["cluster"], "what kube and hyper run on"),
    (
        "zeroize",
        &["cli", "document", "ops", "pki", "store", "tls"],
        "wherever a private key's or password's octets pass",
    ),
];

/// Packages whose library has another name.
const RENAMED: &[(&str, &str)] = &[("rustls-webpki", "webpki")];

/// Beyond this a file is hardly one idea any more. Below it, an idea that is large stays in one file: one that
/// is cut in two through its private state is no easier to read.
const LINES: usize = 800;

/// Files that may be longer, and why.
const LONG: &[(&str, &str)] =
    &[("model/catalogue/uses.rs", "rows, nothing else: one table is easier to read than two")];

/// Modules that exist in tests only, though their name does not say so.
const TEST_ONLY: &[&str] = &["store/simulated"];

/// Words of the catalogue that a file says in another sense, and in which.
const OTHER_SENSE: &[(&str, &[&str], &str)] = &[
    ("cli/completions.rs", &["etcd"], "what a host does, in words"),
    ("cli/output/expiry/prometheus.rs", &["ca"], "a label, and a value of the label `role`"),
    ("cli/paths.rs", &["ca"], "a field of the JSON document"),
    ("cli/rotate.rs", &["ca"], "an argument's name"),
    ("cli/show.rs", &["ca"], "a field of the JSON document"),
    ("document/declaration.rs", &["ca", "etcd"], "fields of certkit.yaml"),
    ("document/declaration/signers.rs", &["etcd"], "a field of certkit.yaml"),
    ("document/draft.rs", &["etcd"], "a field of certkit.yaml"),
    ("document/kubeadm.rs", &["etcd"], "a field of kubeadm's configuration"),
    ("document/object.rs", &["ca"], "how a key in a ConfigMap may end"),
    ("model/cluster.rs", &["etcd"], "a field of certkit.yaml"),
    ("model/cluster/signers.rs", &["etcd"], "a field of certkit.yaml"),
    ("render.rs", &["flags/config/etcd.yaml"], "a template's name"),
];

/// Types that every module of a kind has: they are said with their module's name.
const EACH_MODULES: &[&str] = &["Error", "Report", "Request"];

/// The modules that name sockets, and what for.
const NETWORKED: &[(&str, &str)] = &[
    ("cluster/serve.rs", "`certkit controller --listen`: its own health and metrics"),
    ("ops/machine.rs", "the route's source address, asked of the kernel: nothing is sent"),
    ("ops/takeup/listening.rs", "--wait: whether something listens on an address of this machine"),
    ("ops/receive/health.rs", "where etcd's members and the apiserver are asked"),
    (
        "tls/ask.rs",
        "whether etcd and the apiserver are well, which `certkit deploy` has a host ask",
    ),
    ("tls/probe.rs", "--connect and --wait: what a listener serves"),
];

/// Words in a comment that state why an `unwrap` cannot fail.
const INVARIANT: &[&str] = &["invariant", "cannot", "never", "always", "infallible"];

#[test]
fn layers_use_only_what_is_below_them() {
    holds(sources().iter().flat_map(layer_faults));
}

#[test]
fn the_model_knows_no_clock_no_randomness_no_files() {
    holds(sources().iter().flat_map(world_faults));
}

#[test]
fn each_crate_is_named_in_one_module() {
    holds(crate_faults(&sources(), &dependencies(&manifest())));
}

#[test]
fn the_table_of_spread_crates_is_current() {
    let dependencies = dependencies(&manifest());
    for (name, _, why) in SPREAD {
        assert!(dependencies.contains(*name), "{name} ({why}) is no dependency any more");
    }
}

#[test]
fn files_are_of_readable_length() {
    holds(sources().iter().flat_map(length_faults));
    for (path, _) in LONG {
        let file = root().join("src").join(path);
        let lines = fs::read_to_string(&file).expect("a listed file").lines().count();
        assert!(lines > LINES, "{path} needs no exception any more");
    }
}

#[test]
fn only_cli_and_main_print() {
    holds(sources().iter().flat_map(print_faults));
}

#[test]
fn threads_are_begun_in_one_place() {
    holds(sources().iter().flat_map(thread_faults));
}

#[test]
fn modules_beside_each_other_import_in_one_direction() {
    holds(circle_faults(&sources()));
}

#[test]
fn a_word_means_one_thing() {
    holds(word_faults(&sources()));
}

#[test]
fn the_network_is_asked_by_what_a_user_asked_for() {
    holds(sources().iter().flat_map(network_faults));
}

#[test]
fn each_unwrap_states_its_invariant() {
    holds(sources().iter().flat_map(unwrap_faults));
}

#[test]
fn what_the_catalogue_says_is_said_there_alone() {
    holds(sources().iter().flat_map(catalogue_faults));
}

#[test]
fn the_table_of_other_senses_is_current() {
    let sources = sources();
    for (path, words, why) in OTHER_SENSE {
        let source = sources.iter().find(|source| source.path == *path).expect(path);
        let said: Vec<_> = source.literals().into_iter().map(|(literal, _)| literal).collect();
        for word in *words {
            assert!(said.iter().any(|s| s == word), "{path} says no {word} ({why}) any more");
        }
    }
}

#[test]
fn no_mod_rs() {
    holds(sources().iter().filter(|s| s.path.ends_with("mod.rs")).map(|s| s.path.clone()));
}

fn layer_faults(source: &Source) -> Vec<String> {
    let Some(layer) = source.layer() else { return Vec::new() };
    let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{}: `{layer}` is no layer", source.path)];
    };
    let named = source.named().into_iter().filter(|named| named.path[0] == "crate");
    named
        .filter(|named| {
            let target = named.path.get(1).map_or("*", String::as_str);
            target != layer && !below.contains(&target)
        })
        .map(|named| {
            format!("{}:{}: {layer} names {}", source.path, named.line, named.path.join("::"))
        })
        .collect()
}

fn world_faults(source: &Source) -> Vec<String> {
    if source.layer().as_deref() != Some("model") {
        return Vec::new();
    }
    let named = source.named().into_iter().map(|named| (named.path.join("::"), named.line));
    named
        .filter(|(path, _)| {
            let reads_clock = path.ends_with("::now_utc") || path.ends_with("::now_local");
            reads_clock || WORLD.iter().any(|world| within(path, world))
        })
        .map(|(path, line)| format!("{}:{line}: the model names {path}", source.path))
        .collect()
}

fn crate_faults(sources: &[Source], dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut modules: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for source in sources {
        let module = source.module().join("::");
        for named in source.named() {
            if dependencies.contains(&named.path[0]) {
                let places = modules.entry(named.path[0].clone()).or_default();
                places.entry(module.clone()).or_insert(named.line);
            }
        }
    }
    let mut faults = Vec::new();
    for (name, places) in modules {
        if let Some((_, allowed, _)) = SPREAD.iter().find(|(spread, ..)| *spread == name) {
            let strays = places.keys().filter(|m| !allowed.iter().any(|a| within(m, a)));
            faults.extend(strays.map(|module| format!("{name} is named in {module}")));
        } else if places.len() > 1 && shared(places.keys()) < 2 {
            let places: Vec<_> = places.iter().map(|(m, line)| format!("{m}:{line}")).collect();
            faults.push(format!("{name} is named in {}", places.join(", ")));
        }
    }
    faults
}

fn length_faults(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let excepted = LONG.iter().any(|(path, _)| *path == source.path);
    (lines > LINES && !excepted).then(|| format!("{}: {lines} lines", source.path))
}

fn print_faults(source: &Source) -> Vec<String> {
    if matches!(source.layer().as_deref(), None | Some("cli")) && source.path != "lib.rs" {
        return Vec::new();
    }
    const MACROS: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];
    let lines = source.code.lines().enumerate();
    lines
        .filter(|(_, line)| {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '!'));
            words.any(|word| MACROS.contains(&word))
        })
        .map(|(i, line)| format!("{}:{}: {}", source.path, i + 1, line.trim()))
        .collect()
}

fn thread_faults(source: &Source) -> Vec<String> {
    let excepted = THREADED.iter().any(|(path, _)| *path == source.path);
    if excepted || source.layer().as_deref() == Some("parallel") {
        return Vec::new();
    }
    let named = source.named().into_iter().map(|named| (named.path.join("::"), named.line));
    named
        .filter(|(path, _)| THREADS.iter().any(|t| within(path, &format!("std::thread::{t}"))))
        .map(|(path, line)| format!("{}:{line}: names {path}", source.path))
        .collect()
}

/// Imports that close a circle among modules of one parent, each taken with all that is below it. A module and its
/// parent may know each other.
fn circle_faults(sources: &[Source]) -> Vec<String> {
    let is_code = |source: &&Source| {
        !source.is_test() && !TEST_ONLY.iter().any(|module| source.path.starts_with(module))
    };
    let code: Vec<&Source> = sources.iter().filter(is_code).collect();
    let modules: BTreeSet<Vec<String>> = code.iter().map(|source| source.module()).collect();
    // Who imports whom below each parent, and where that is said.
    let mut imports: BTreeMap<Vec<String>, BTreeMap<(String, String), String>> = BTreeMap::new();
    for source in &code {
        let own = source.module();
        for named in source.named().into_iter().filter(|named| named.path[0] == "crate") {
            let path = &named.path[1..];
            let Some(length) = (1..=path.len()).rev().find(|n| modules.contains(&path[..*n]))
            else {
                continue;
            };
            let other = &path[..length];
            let shared = own.iter().zip(other).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (own.get(shared), other.get(shared)) {
                let at = format!("{}:{} names {}", source.path, named.line, path.join("::"));
                let edges = imports.entry(own[..shared].to_vec()).or_default();
                edges.entry((from.clone(), to.clone())).or_insert(at);
            }
        }
    }
    let mut faults = Vec::new();
    for edges in imports.values() {
        for ((from, to), at) in edges {
            let mut reached = BTreeSet::from([to]);
            let mut open = vec![to];
            while let Some(module) = open.pop() {
                let next = edges.keys().filter(|(one, _)| one == module).map(|(_, other)| other);
                open.extend(next.filter(|other| reached.insert(*other)));
            }
            if reached.contains(from) {
                faults.push(format!("{from} and {to} lead to each other: {at}"));
            }
        }
    }
    faults
}

/// Types seen beyond their file whose name another one has, too.
fn word_faults(sources: &[Source]) -> Vec<String> {
    let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let is_code = |source: &&Source| {
        !source.is_test() && !TEST_ONLY.iter().any(|module| source.path.starts_with(module))
    };
    for source in sources.iter().filter(is_code) {
        for line in source.code.lines().filter(|line| line.starts_with("pub")) {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            let is_type = |word: &&str| matches!(*word, "enum" | "struct" | "trait" | "type");
            if words.find(is_type).is_some()
                && let Some(name) = words.find(|word| !word.is_empty())
            {
                owners.entry(name).or_default().push(&source.path);
            }
        }
    }
    let is_fault =
        |(name, owners): &(&str, Vec<&str>)| owners.len() > 1 && !EACH_MODULES.contains(name);
    let fault = |(name, owners): (&str, Vec<&str>)| format!("{name}: {}", owners.join(", "));
    owners.into_iter().filter(is_fault).map(fault).collect()
}

fn network_faults(source: &Source) -> Vec<String> {
    if NETWORKED.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    const ADDRESSES: &[&str] = &["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"];
    let named = source.named().into_iter().map(|named| (named.path.join("::"), named.line));
    let is_plain = |path: &str| ADDRESSES.iter().any(|a| within(path, &format!("std::net::{a}")));
    named
        .filter(|(path, _)| {
            let is_socket = within(path, "std::net") && path != "std::net" && !is_plain(path);
            is_socket || within(path, "tokio::net")
        })
        .map(|(path, line)| format!("{}:{line}: names {path}", source.path))
        .collect()
}

fn unwrap_faults(source: &Source) -> Vec<String> {
    const PANICS: &[&str] = &[
        ".unwrap()",
        ".unwrap_err()",
        // With a message: a parser may have an `expect` of its own.
        ".expect(\"",
        ".expect(&",
        ".expect_err(\"",
        "panic!(",
        "unreachable!(",
        "todo!(",
        "unimplemented!(",
    ];
    if source.is_test() || TEST_ONLY.iter().any(|module| source.path.starts_with(module)) {
        return Vec::new();
    }
    let text: Vec<&str> = source.text.lines().collect();
    let stripped = without_comments(&source.text);
    let stripped: Vec<&str> = stripped.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let states = |i: usize| {
        let Some((_, comment)) = text[i].split_once("//") else { return false };
        INVARIANT.iter().any(|word| comment.contains(word))
    };
    let mut faults = Vec::new();
    for (i, line) in code.iter().enumerate() {
        if !PANICS.iter().any(|panic| line.contains(panic)) {
            continue;
        }
        // The comment stands on the line itself or above the statement, which may have several lines.
        let mut stated = states(i);
        for above in (0..i).rev() {
            let end = stripped[above].trim_end();
            if stated || end.ends_with([';', '{', '}']) {
                break;
            }
            stated = states(above);
        }
        if !stated {
            faults.push(format!("{}:{}: {}", source.path, i + 1, text[i].trim()));
        }
    }
    faults
}

/// An id, file, component or port of the catalogue's, written out where the catalogue can be asked: `roles` has a
/// constant for each row that code means.
fn catalogue_faults(source: &Source) -> Vec<String> {
    if source.path.starts_with("model/catalogue") {
        return Vec::new();
    }
    let keys = || KEYS.iter();
    let configs = COMPONENTS.iter().filter_map(|component| Some(component.config?.file));
    let files: BTreeSet<&str> = CERTIFICATES
        .iter()
        .flat_map(|spec| spec.home.files())
        .chain(keys().flat_map(|spec| [spec.private, spec.public]))
        .chain(configs)
        .collect();
    let ids: BTreeSet<&str> = CERTIFICATES
        .iter()
        .map(|spec| spec.id.name())
        .chain(keys().map(|spec| spec.id))
        .chain(COMPONENTS.iter().map(|spec| spec.id))
        .collect();
    let ports: BTreeSet<String> = LISTENERS.iter().map(|l| l.port.to_string()).collect();
    let other = OTHER_SENSE.iter().filter(|(path, ..)| *path == source.path);
    let other: Vec<&str> = other.flat_map(|(_, words, _)| words.iter().copied()).collect();
    let is_file = |literal: &str| {
        let above =
            |file: &&str| literal.strip_suffix(file).is_some_and(|rest| rest.ends_with('/'));
        // A sentence may end with a file's name.
        files.contains(literal) || !literal.contains(' ') && files.iter().any(above)
    };
    let is_said =
        |literal: &str| ids.contains(literal) || ports.contains(literal) || is_file(literal);
    let literals = source.literals().into_iter();
    let literals =
        literals.filter(|(literal, _)| is_said(literal) && !other.contains(&literal.as_str()));
    let numbers = source.numbers().into_iter().filter(|(number, _)| ports.contains(number));
    literals
        .chain(numbers)
        .map(|(word, line)| format!("{}:{line}: {word} is the catalogue's", source.path))
        .collect()
}

/// How many leading segments the modules have in common: two or more are one module and its rooms.
fn shared<'a>(modules: impl Iterator<Item = &'a String>) -> usize {
    let all: Vec<Vec<&str>> = modules.map(|module| module.split("::").collect()).collect();
    (0..)
        .take_while(|&i| all[0].get(i).is_some() && all.iter().all(|m| m.get(i) == all[0].get(i)))
        .count()
}

/// Whether a path is the other or lies below it.
fn within(path: &str, above: &str) -> bool {
    above.is_empty()
        || path.strip_prefix(above).is_some_and(|r| r.is_empty() || r.starts_with("::"))
}

/// The names by which the code knows the packages of `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with('#'))
        .map(|name| match RENAMED.iter().find(|(package, _)| *package == name) {
            Some((_, library)) => (*library).to_owned(),
            None => name.replace('-', "_"),
        })
        .collect()
}

fn sources() -> Vec<Source> {
    fn read(folder: &Path, src: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("a folder below src") {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                read(&path, src, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src).expect("below src").to_str().expect("UTF-8");
                found.push(Source::new(name, &fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    read(&src, &src, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.iter().any(|s| s.path == "lib.rs"), "no sources found");
    found.retain(|source| !source.is_test());
    found
}

fn manifest() -> String {
    fs::read_to_string(root().join("Cargo.toml")).expect("the manifest")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn holds(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<_> = faults.into_iter().collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Each rule, shown to fail.
mod rules_can_fail {
    use super::*;

    fn faults_of(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&Source::new(path, text))
    }

    #[test]
    fn an_upward_use_is_found_however_it_is_written() {
        for text in [
            "use crate::ops::observe;",
            "use crate::{model, ops::{self, apply}};",
            "pub(crate) use super::super::cli;",
            "use super::{\n    super::store::Lock,\n};",
            "fn f() -> crate::ops::Report { todo() }",
            "use crate::*;",
            "use crate::Error;",
        ] {
            assert!(!faults_of(layer_faults, "pki/key.rs", text).is_empty(), "{text}");
        }
        assert_eq!(faults_of(layer_faults, "net.rs", ""), ["net.rs: `net` is no layer"]);
    }

    #[test]
    fn a_downward_use_is_no_fault() {
        for text in [
            "use crate::model::{self, name::Name};",
            "use super::{issue, pem};",
            "use self::inner::Thing;",
            "// crate::ops\nconst A: &str = \"crate::ops::b\"; /* crate::cli::c */",
            "#[cfg(test)]\nmod tests {\n    use crate::ops::observe;\n}",
            "fn f<'a>(s: &'a str) -> impl Iterator + use<'a> { s.chars() }",
        ] {
            assert_eq!(faults_of(layer_faults, "pki/key.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_clock_in_the_model_is_found() {
        for text in [
            "use std::{fmt, time::SystemTime};",
            "use std::time;\nfn f() { time::Instant::now(); }",
            "fn f() { std::env::var(\"HOME\"); }",
            "use std::fs;",
            "fn f() -> T { OffsetDateTime::now_utc() }",
            "use rand::Rng;",
        ] {
            assert!(!faults_of(world_faults, "model/name.rs", text).is_empty(), "{text}");
            assert!(faults_of(world_faults, "ops/observe.rs", text).is_empty(), "{text}");
        }
        assert_eq!(faults_of(world_faults, "model/a.rs", "use std::time::Duration;"), [""; 0]);
    }

    #[test]
    fn a_crate_in_a_second_module_is_found() {
        let known = dependencies(
            "[package]\nname = \"x\"\n[dependencies]\nrcgen = \"1\"\nrustls-webpki = \"1\"\n\
             rustls-pemfile = { version = \"2\" }\nring = \"1\"\ntime = \"1\"\n[dev-dependencies]\n\
             insta = \"1\"\n",
        );
        let names: Vec<_> = known.iter().map(String::as_str).collect();
        assert_eq!(names, ["rcgen", "ring", "rustls_pemfile", "time", "webpki"]);

        let issue = Source::new("pki/issue.rs", "use rcgen::Certificate;");
        let other = Source::new("pki/key.rs", "use std::fmt;\nimpl rcgen::SigningKey for Key {}");
        assert_eq!(crate_faults(&[issue], &known), [""; 0]);
        let issue = Source::new("pki/issue.rs", "use rcgen::Certificate;");
        assert_eq!(
            crate_faults(&[issue, other], &known),
            ["rcgen is named in pki::issue:1, pki::key:2"]
        );

        let rooms = ["pki/inspect/name.rs", "pki/inspect/extension.rs"];
        let rooms = rooms.map(|path| Source::new(path, "use rcgen::KeyPair;"));
        assert_eq!(crate_faults(&rooms, &known), [""; 0]);

        let stray = Source::new("ops/apply.rs", "fn f() { ring::digest::digest(a, b); }");
        assert_eq!(crate_faults(&[stray], &known), ["ring is named in ops::apply"]);

        let clock = "use std::{fmt, time};\nfn f() -> time::Duration { std::time::Duration::ZERO }";
        let standard = Source::new("ops/apply.rs", clock);
        assert_eq!(crate_faults(&[standard], &known), [""; 0]);
    }

    #[test]
    fn a_row_of_the_catalogue_written_out_is_found() {
        for text in [
            "let a = of(\"apiserver\");",
            "if id == r#\"sa\"# {}",
            "f(\"kube-scheduler\", b\"x\")",
            "dir.join(\"pki/etcd/server.crt\")",
            "const A: &str = \"/etc/kubernetes/scheduler.conf\";",
            "let file = \"kubelet-config.yaml\";",
            "f(\"2379\")",
            "const PORT: u16 = 10_250;",
        ] {
            assert_eq!(faults_of(catalogue_faults, "ops/adopt.rs", text).len(), 1, "{text}");
            assert_eq!(faults_of(catalogue_faults, "model/catalogue/uses.rs", text), [""; 0]);
        }
        for text in [
            "/// \"apiserver\" on 6443\nfn f() {} // pki/sa.key",
            "help(\"renew with certkit rotate apiserver, see /etc/kubernetes/admin.conf\")",
            "#[cfg(test)]\nmod tests {\n    const A: &str = \"admin.conf\";\n}",
            "const APISERVER: u16 = 64430;",
        ] {
            assert_eq!(faults_of(catalogue_faults, "ops/adopt.rs", text), [""; 0], "{text}");
        }
        // The exception is the file's and the word's.
        let text = "fn f() { g(\"ca\", \"sa\") }";
        let faults = faults_of(catalogue_faults, "cli/show.rs", text);
        assert_eq!(faults, ["cli/show.rs:1: sa is the catalogue's"]);
    }

    #[test]
    fn literals_are_read_with_their_lines() {
        let text = "f(\"a\\\"b\", r#\"c\"d\"#);\n// \"e\"\ng('\"', b\"f\ng\", \"\")";
        let literals = Source::new("a.rs", text).literals();
        let expected = [("a\\\"b", 1), ("c\"d", 1), ("f\ng", 3), ("", 4)];
        assert_eq!(literals, expected.map(|(literal, line)| (literal.to_owned(), line)));
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(length_faults(&Source::new("a.rs", &"\n".repeat(LINES))), None);
        let long = length_faults(&Source::new("a.rs", &"\n".repeat(LINES + 1)));
        assert_eq!(long.as_deref(), Some("a.rs: 801 lines"));
    }

    #[test]
    fn a_print_below_cli_is_found() {
        for text in ["fn f() { println!(\"{x}\"); }", "std::eprint!()", "let a = dbg!(key);"] {
            assert_eq!(faults_of(print_faults, "ops/apply.rs", text).len(), 1, "{text}");
            assert_eq!(faults_of(print_faults, "lib.rs", text).len(), 1, "{text}");
            assert_eq!(faults_of(print_faults, "cli/init.rs", text), [""; 0], "{text}");
        }
        let quiet = "/// println!\nconst A: &str = \"println!\";\nmy_println!();";
        assert_eq!(faults_of(print_faults, "ops/apply.rs", quiet), [""; 0]);
    }

    #[test]
    fn a_thread_begun_elsewhere_is_found() {
        for text in [
            "use std::thread;\nfn f() { thread::scope(|s| g(s)); }",
            "fn f() { std::thread::Builder::new(); }",
            "use std::{fmt, thread::available_parallelism};",
        ] {
            assert_eq!(faults_of(thread_faults, "ops/apply.rs", text).len(), 1, "{text}");
            assert_eq!(faults_of(thread_faults, "parallel.rs", text), [""; 0], "{text}");
        }
        let pause = "fn f() { std::thread::sleep(PAUSE); }";
        assert_eq!(faults_of(thread_faults, "ops/apply.rs", pause), [""; 0]);
    }

    #[test]
    fn a_circle_of_imports_is_found() {
        let source = |path: &str, text: &str| Source::new(path, text);
        let down = source("ops/change.rs", "use super::rotate::{self, plan};");
        let parent = source("ops/rotate.rs", "use crate::ops::rotate::plan::Plan;");
        let child = source("ops/rotate/plan.rs", "use super::Thing;");
        let fine = [down, parent, child];
        assert_eq!(circle_faults(&fine), [""; 0]);
        let [down, parent, _] = fine;
        let up = source("ops/rotate/plan.rs", "fn f() { crate::ops::change::run(); }");
        assert_eq!(circle_faults(&[down, parent, up]).len(), 2);
    }

    #[test]
    fn a_word_with_two_meanings_is_found() {
        let one = Source::new("model/plan.rs", "pub struct Plan<'a> {}\npub enum Error {}\n");
        let other = Source::new("store/plan.rs", "pub(crate) type Plan = u8;\npub enum Error {}\n");
        let private = Source::new("ops/plan.rs", "struct Plan;\npub fn plan(type_: u8) {}\n");
        assert_eq!(word_faults(&[one, other, private]), ["Plan: model/plan.rs, store/plan.rs"]);
    }

    #[test]
    fn a_socket_elsewhere_is_found() {
        for text in [
            "use std::net::{IpAddr, TcpStream};",
            "fn f() { std::net::UdpSocket::bind(a); }",
            "use std::net;\nfn f() { net::TcpListener::bind(a); }",
            "use tokio::net::TcpListener;",
        ] {
            assert_eq!(faults_of(network_faults, "ops/apply.rs", text).len(), 1, "{text}");
            assert_eq!(faults_of(network_faults, "tls/probe.rs", text), [""; 0], "{text}");
        }
        let plain = "use std::net::{IpAddr, Ipv4Addr};\nfn f(a: std::net::SocketAddr) {}";
        assert_eq!(faults_of(network_faults, "ops/apply.rs", plain), [""; 0]);
    }

    #[test]
    fn an_unwrap_without_reason_is_found() {
        for text in [
            "let a = b.unwrap();",
            "// Invariant of the line before.\nlet c = d; // cannot fail\nlet a = b.expect(\"b\");",
            "let a = b\n    .first()\n    .expect(\"never // empty\"[..]);\n// cannot fail",
            "// takes the first\nlet a = b.unwrap();",
            "_ => unreachable!(),",
        ] {
            assert_eq!(faults_of(unwrap_faults, "pki/key.rs", text).len(), 1, "{text}");
        }
        for text in [
            "let a = b.unwrap(); // the invariant: b is set above",
            "// Cannot be empty: an invariant of Name.\nlet a = b\n    .first()\n    .unwrap();",
            "let a = b.unwrap_or_default();",
            "let oid = fields.expect(OID)?;",
            "/// `x.unwrap()`\n#[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); }\n}",
        ] {
            assert_eq!(faults_of(unwrap_faults, "pki/key.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn literals_and_comments_are_out_of_the_way() {
        let text = "a r#\"x\"y\"# 'b' '\\'' b\"\\\"z\" &'c d /* e /* f */ g */ h // i\nj";
        let code = without_comments(text);
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "\"", "b\"", "&'c", "d", "h", "j"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn test_code_ends_where_its_item_ends() {
        let text =
            "#[cfg(test)]\nfn t(a: [u8; 2]) { b() }\nuse std::fs;\n#[cfg(test)]\nmod tests;\n";
        let source = Source::new("model/a.rs", text);
        assert_eq!(world_faults(&source), ["model/a.rs:3: the model names std::fs"]);
    }
}
