//! A host's files as cloud-init's user data.

use zeroize::Zeroizing;

use super::{data, secret::HostFile, yaml::scalar};

/// Whom cloud-init gives files to by itself.
const ROOT: &str = "root:root";

/// The `#cloud-config` that writes a host's files below `dir`. Owners are given by name once accounts are made
/// (`defer`), and by number with `chown`, as cloud-init knows names only.
pub fn cloud_config(dir: &str, files: &[HostFile<'_>]) -> Zeroizing<String> {
    let total: usize = files.iter().map(|file| file.content.len()).sum();
    // Room for all of it: growing would leave copies that are not wiped.
    let room = total / 3 * 4 + (2 * dir.len() + 1024) * (files.len() + 1);
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str("#cloud-config\n");
    if files.is_empty() {
        text.push_str("write_files: []\n");
        return text;
    }
    text.push_str("write_files:\n");
    let mut given = Vec::new();
    for file in files {
        let path = format!("{}/{}", dir.trim_end_matches('/'), file.path);
        let by_number = file.owner.split(':').any(|part| part.bytes().all(|b| b.is_ascii_digit()));
        let owner = if by_number { ROOT } else { file.owner };
        text.push_str(&format!(
            "- path: {}\n  owner: {}\n  permissions: '{:04o}'\n",
            scalar(&path),
            scalar(owner),
            file.mode
        ));
        if owner != ROOT {
            text.push_str("  defer: true\n");
        }
        text.push_str("  encoding: b64\n  content: \"");
        text.push_str(&data::encode(file.content));
        text.push_str("\"\n");
        if by_number {
            given.push(format!("- [chown, {}, {}]\n", quoted(file.owner), scalar(&path)));
        }
    }
    if !given.is_empty() {
        text.push_str("runcmd:\n");
        given.iter().for_each(|line| text.push_str(line));
    }
    text
}

/// In quotes: `107:107` is a number to YAML 1.1.
fn quoted(owner: &str) -> String {
    format!("\"{owner}\"")
}
