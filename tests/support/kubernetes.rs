//! Kubernetes' own programs: out of the folder that `KUBEBUILDER_ASSETS` names, else as `make kubernetes`
//! built them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The program of Kubernetes with this name, or `None` after reporting the running test as skipped; a
/// failure on CI, which has built them.
#[track_caller]
pub fn program(name: &str) -> Option<PathBuf> {
    let found = Some(folder().join(name)).filter(|program| program.is_file());
    if found.is_none() {
        super::report_skipped(&format!("{name} (`make kubernetes` builds it)"));
        assert!(!super::on_ci(), "needs {name}, which `make kubernetes` builds");
    }
    found
}

/// Where the programs are, if they are.
fn folder() -> PathBuf {
    if let Some(assets) = env::var_os("KUBEBUILDER_ASSETS") {
        return assets.into();
    }
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/build.sh");
    super::stdout(Command::new(build).arg("--where")).trim().into()
}
