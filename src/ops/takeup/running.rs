//! The components' processes that run on this machine, and whether what they name is a file of this tree: other
//! machines in containers have files of the same names, and static pods have their own roots.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{model::check::flags::Told, ops::verify::flags::of_process};

/// A process of a component.
pub(super) struct Running {
    /// Its folder below `/proc`.
    pub folder: PathBuf,
    /// What it was told when it was started.
    pub told: Told,
}

/// Those that can be seen.
pub(super) fn running() -> Vec<Running> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    };
    let folders = entries.flatten().map(|entry| entry.path()).filter(is_process);
    let one = |folder: PathBuf| Some(Running { told: of_process(&folder)?, folder });
    folders.filter_map(one).collect()
}

/// Device and number of a file, whatever it is called.
pub(super) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Running {
    /// Whether it names one of these files. Where its root cannot be looked into, the names must do.
    pub fn names(&self, is_it: impl Fn((u64, u64)) -> bool) -> bool {
        let root = self.folder.join("root");
        let inside = |value: &str| {
            let path = Path::new(value).strip_prefix("/").ok()?;
            match fs::metadata(root.join(path)) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    fs::metadata(value).ok()
                }
                found => found.ok(),
            }
        };
        let mut named = self.told.settings.iter().filter_map(|setting| inside(&setting.value));
        named.any(|metadata| is_it(identity(&metadata)))
    }
}
