//! The Debian package: packed twice it is the same bytes, and it installs, upgrades and purges on a Debian that is this machine
//! with whatever is changed thrown away. The program in it is the tests' own: that the one that is handed out runs
//! anywhere, and that it is built alike twice, takes builds of its own, `make package` and `make same`.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{certkit, need, run, temp_dir};

/// What it is run in: the machine's file system, of which nothing is changed.
const THROWN_AWAY: &str = r#"
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind /proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/tmp"
cp -r "$2" "$1/root/tmp/dist"
cp "$3" "$1/root/tmp/try.sh"
exec chroot "$1/root" env TMPDIR=/tmp /tmp/try.sh --package /tmp/dist
"#;

#[test]
fn the_package_is_the_same_twice_and_installs_upgrades_and_purges() {
    for program in ["cargo-deb", "dpkg-deb", "deb-systemd-helper", "unshare", "strip"] {
        if need(program).is_none() {
            return;
        }
    }
    let folder = temp_dir();
    // It would take longest to compress what only a debugger reads.
    let program = folder.path().join("certkit");
    run(Command::new("strip").arg("-o").arg(&program).arg(certkit().get_program()));
    let packed = [
        packed(&folder.path().join("one"), &program),
        packed(&folder.path().join("another/folder"), &program),
    ];
    let sums = packed.each_ref().map(|dist| {
        let sums = fs::read_to_string(dist.join("SHA256SUMS")).expect("sums");
        assert!(sums.contains(".deb"), "{sums}");
        sums
    });
    assert_eq!(sums[0], sums[1]);
    let root = folder.path().join("root");
    fs::create_dir(&root).expect("a folder");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", THROWN_AWAY, "sh"]).arg(root).arg(&packed[0]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packaging/try.sh"));
    let said = run(&mut command).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("installs, upgrades, purges"), "{said}");
    assert!(
        !Path::new("/usr/share/man/man1/certkit-rotate.1.gz").exists(),
        "this machine is as it was"
    );
}

/// What `dist.sh` makes of the sources in a folder of their own.
fn packed(folder: &Path, program: &Path) -> PathBuf {
    let (sources, target) = (folder.join("sources"), folder.join("target"));
    fs::create_dir_all(&sources).expect("a folder");
    let copy = "git ls-files -z | xargs -0 cp --parents --no-dereference -t \"$1\"";
    run(Command::new("sh")
        .args(["-ec", copy, "sh"])
        .arg(&sources)
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    let mut dist = Command::new(sources.join("tests/packaging/dist.sh"));
    dist.env("CARGO_TARGET_DIR", &target).env("SOURCE_DATE_EPOCH", "1700000000");
    run(dist.env("CERTKIT_BINARY", program).env("CARGO_NET_OFFLINE", "true"));
    target.join("dist")
}
