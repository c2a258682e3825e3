//! A finding: what is wrong, where, and what to do about it.

use std::path::PathBuf;

use crate::model::{
    code::{Code, Severity},
    shown::tame,
};

/// Something worth saying about a PKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which kind of fault it is.
    pub code: Code,
    /// How much it matters: the code's own severity, unless a rule or the user says otherwise.
    pub severity: Severity,
    /// The files it is in, the one to change first.
    pub files: Vec<PathBuf>,
    /// What it is about: a certificate's or path's name, a component.
    pub subject: String,
    /// What is wrong, in one sentence without a full stop.
    pub what: String,
    /// What to do next.
    pub hint: String,
    /// The paths that break, or stand open, because of it.
    pub paths: Vec<String>,
    /// The instances it concerns, by index.
    pub instances: Vec<usize>,
}

impl Finding {
    /// A finding of this code, with the code's own severity and advice.
    pub fn new(code: Code, subject: impl Into<String>, what: impl Into<String>) -> Self {
        let spec = code.spec();
        Self {
            code,
            severity: spec.severity,
            files: Vec::new(),
            // Names of files, and what others wrote into them.
            subject: tame(&subject.into()),
            what: tame(&what.into()),
            hint: spec.fix.to_owned(),
            paths: Vec::new(),
            instances: Vec::new(),
        }
    }

    /// The same, in this file too.
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        let file = file.into();
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        self
    }

    /// The same, about this instance too.
    pub fn about(mut self, instance: usize) -> Self {
        self.instances.push(instance);
        self
    }

    /// The same, with another severity than the code's.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same, with advice of its own.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}
