//! The password of encrypted CA keys: from a file, the environment, or the terminal.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use zeroize::Zeroizing;

use super::{Failure, Global};
use crate::ops::password::{Passwords, VARIABLE};

/// More than anybody's password.
const LIMIT: usize = 4096;

/// Where the password comes from: the file named, the environment, or whoever sits at the terminal.
pub fn passwords(global: &Global) -> Result<Passwords, Failure> {
    if let Some(password) = given(global)? {
        return Ok(Passwords::Given(password));
    }
    // A prompt nobody sees is a program that hangs.
    match io::stdin().is_terminal() && io::stderr().is_terminal() {
        true => Ok(Passwords::asking(ask)),
        false => Ok(Passwords::Nowhere),
    }
}

/// A password for keys that are made: one given, or else typed twice.
pub fn new_password(global: &Global) -> Result<Passwords, Failure> {
    if let Some(password) = given(global)? {
        return Ok(Passwords::Given(password));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("--encrypt-ca-keys: there is no password")
            .hint(Some(format!("give it with --ca-key-password-file FILE or in {VARIABLE}"))));
    }
    let password = prompt("Password of the new CA keys: ")?;
    if *prompt("The same again: ")? != *password {
        return Err(Failure::new("the two passwords differ").hint(Some("run it again")));
    }
    match password.is_empty() {
        true => Err(Failure::new("the password is empty").hint(Some("run it again"))),
        false => Ok(Passwords::Given(password)),
    }
}

fn given(global: &Global) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(path) = &global.ca_key_password_file {
        return read(path).map(Some);
    }
    match std::env::var(VARIABLE).map(Zeroizing::new) {
        Ok(password) => Ok(Some(password).filter(|password| !password.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{VARIABLE}: is not UTF-8")))
        }
    }
}

/// The first line of the file, as openssl's `-passin file:` takes it. It may be a pipe.
fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let named = |what: String| {
        Failure::new(format!("--ca-key-password-file {}: {what}", path.display()))
            .hint(Some("its first line is to be the password"))
    };
    let file = File::open(path).map_err(|error| named(format!("cannot be read: {error}")))?;
    let line = line(file).map_err(|error| named(format!("cannot be read: {error}")))?;
    match line.is_empty() {
        true => Err(named("its first line is empty".into())),
        false => Ok(line),
    }
}

fn ask(path: &Path, again: bool) -> io::Result<Zeroizing<String>> {
    let wrong = if again { "That does not open it. " } else { "" };
    prompt(&format!("{wrong}Password of {}: ", path.display()))
}

/// Asks on the terminal, whatever standard output and error are, and shows nothing of the answer.
fn prompt(text: &str) -> io::Result<Zeroizing<String>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    // First the echo, then the question: an answer may come at once.
    let silent = Silent::new(&terminal)?;
    (&terminal).write_all(text.as_bytes())?;
    let answer = line(&terminal);
    drop(silent);
    (&terminal).write_all(b"\n")?;
    answer
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Nothing is left to do if the terminal is gone.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The first line, without its end. No octet of it is read into a buffer that is not wiped.
fn line(mut source: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(LIMIT));
    let mut octet = Zeroizing::new([0]);
    while source.read(&mut *octet)? == 1 && octet[0] != b'\n' {
        if octets.len() == LIMIT {
            return Err(io::Error::other(format!("a line of more than {LIMIT} octets")));
        }
        octets.push(octet[0]);
    }
    if octets.last() == Some(&b'\r') {
        octets.pop();
    }
    let text = str::from_utf8(&octets).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
