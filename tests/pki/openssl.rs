//! The `openssl` command in a directory of its own.

use std::{fs, process::Command};

use tempfile::TempDir;

pub struct Openssl(TempDir);

impl Openssl {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs `openssl` with these words; it must succeed.
    pub fn run(&self, command: &str) -> String {
        match self.attempt(command) {
            Ok(stdout) => stdout,
            Err(stderr) => panic!("openssl {command}: {stderr}"),
        }
    }

    /// What it wrote to stdout, or on failure to stderr.
    pub fn attempt(&self, command: &str) -> Result<String, String> {
        let output = Command::new("openssl")
            .args(command.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("these tests need openssl (Debian: apt install openssl)");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr) + &text(output.stdout)),
        }
    }
}
