//! Files: modes, owners, symlinks, and those that nothing uses.

use super::{
    copy,
    evidence::{Evidence, FileFacts, JudgedFile},
    finding::Finding,
};
use crate::model::code::{Code, Severity};

/// Everything wrong with files as files.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &evidence.files {
        mode(file, &mut found);
        owner(evidence, file, &mut found);
        link(file, &mut found);
        unused(evidence, file, &mut found);
    }
    for (field, why) in &evidence.observed.unknown_owners {
        let finding = Finding::new(Code::FileOwner, field.clone(), why.clone());
        let hint = "make the account, or write its number in certkit.yaml";
        found.push(finding.file("certkit.yaml").hint(hint));
    }
    found
}

fn finding(code: Code, file: &FileFacts, what: String) -> Finding {
    let name = if file.path.as_os_str().is_empty() { ".".into() } else { file.path.clone() };
    Finding::new(code, name.display().to_string(), what).file(name)
}

fn mode(file: &FileFacts, found: &mut Vec<Finding>) {
    let mode = file.mode;
    match file.kind {
        JudgedFile::Directory => {
            // With the sticky bit, as on /tmp, only its owner can replace a file.
            if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                let severity = match mode & 0o002 != 0 {
                    true => Severity::Critical,
                    false => Severity::Warning,
                };
                let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
                let what = format!("{who} can write it (mode {:04o})", mode & 0o7777);
                found.push(finding(Code::DirectoryWritable, file, what).severity(severity));
            }
        }
        JudgedFile::File => {
            if mode & 0o022 != 0 {
                let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
                let severity = match mode & 0o002 != 0 {
                    true => Severity::Critical,
                    false => Severity::Warning,
                };
                let what = format!("{who} can write it (mode {:04o})", mode & 0o7777);
                found.push(finding(Code::FileWritable, file, what).severity(severity));
            } else if file.is_secret && mode & 0o044 != 0 {
                let (who, severity) = match mode & 0o004 != 0 {
                    true => ("everybody", Severity::Critical),
                    false => ("its group", Severity::Warning),
                };
                let what = format!("{who} can read the key in it (mode {:04o})", mode & 0o7777);
                found.push(finding(Code::KeyReadable, file, what).severity(severity));
            }
        }
        JudgedFile::Symlink { .. } | JudgedFile::Other => {}
    }
}

/// A file with a declared owner is nobody else's; any other is root's, or the directory's owner's.
fn owner(evidence: &Evidence<'_>, file: &FileFacts, found: &mut Vec<Finding>) {
    if file.kind == JudgedFile::File {
        let all = &evidence.observed.owned;
        let real = || all.values().find(|one| one.real.as_ref() == Some(&file.path));
        if let Some(declared) = all.get(&file.path).or_else(real) {
            let what = declared.difference.clone();
            let hint = "certkit init gives it to its declared owner";
            found.extend(what.map(|what| finding(Code::FileOwner, file, what).hint(hint)));
            return;
        }
    }
    if file.owner != 0 && file.owner != evidence.owner {
        let what = format!("it belongs to user {}", file.owner);
        found.push(finding(Code::FileOwner, file, what).hint("chown root FILE"));
    }
}

fn link(file: &FileFacts, found: &mut Vec<Finding>) {
    let JudgedFile::Symlink { target, outside } = &file.kind else { return };
    // The kubelet keeps its newest pair by such a link (client-go util/certificate).
    let current =
        file.path.file_name().is_some_and(|n| n.to_string_lossy().ends_with("-current.pem"));
    if current && !outside {
        return;
    }
    let place = if *outside { ", out of this directory" } else { "" };
    found.push(finding(
        Code::Symlink,
        file,
        format!("it is a symlink to {}{place}", target.display()),
    ));
}

fn unused(evidence: &Evidence<'_>, file: &FileFacts, found: &mut Vec<Finding>) {
    if file.is_used || (file.certificates.is_empty() && !file.is_secret) {
        return;
    }
    // Then it is an old copy, which is said already.
    if copy::older(evidence, file).is_some() {
        return;
    }
    let what = match (file.certificates.is_empty(), file.is_secret) {
        (true, _) => "nothing uses the key in it",
        (false, true) => "nothing uses the certificate and the key in it",
        (false, false) => "nothing uses the certificate in it",
    };
    found.push(finding(Code::Unused, file, what.to_owned()));
}
