//! Fills templates and escapes what goes into them, by the kind of file that comes out.
//!
//! The templates are built in; a folder can replace any of them, file by file. They hold loops and
//! nothing to decide. How a value is escaped follows from the template's extension, so a template of
//! somebody's own is as safe as the built-in one:
//!
//! | extension | values are |
//! |---|---|
//! | `.yaml`, `.json` | JSON, which is YAML too |
//! | `.env` | text within double quotes of an environment file |
//! | `.conf`, `.service`, `.timer` | text within double quotes of a systemd unit |
//! | `.cron` | an environment line's value of a crontab |
//! | any other | as they are |

pub mod deploy;
mod quote;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig};
use serde::Serialize;

pub use quote::{is_one_line, word};

use crate::model::shown::{may_show_of, steers, tame_lines};

/// Larger files are no templates.
const TEMPLATE_LIMIT: u64 = 1 << 20;
/// No template needs so many steps of the engine (tens of thousands do), nor makes so much text: one that would
/// go on for ever ends here.
const FUEL: u64 = 20_000_000;
const OUTPUT_LIMIT: usize = 16 << 20;

const CRON: &str = "cron";
const ENVIRONMENT_FILE: &str = "env";
const SYSTEMD: &str = "systemd";

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../templates/", $name)))),*]
    };
}

/// The built-in templates, by their path below `templates/`.
static BUILT_IN: &[(&str, &str)] = built_in![
    "deploy/ansible.yaml",
    "deploy/controller-service.service",
    "deploy/controller-signing.yaml",
    "deploy/controller-static-pod.yaml",
    "deploy/controller-trust.yaml",
    "deploy/controller-watch-pods.yaml",
    "deploy/controller-watch-secrets.yaml",
    "deploy/controller-watch.yaml",
    "deploy/controller.yaml",
    "deploy/cron-rotate.cron",
    "deploy/cron.cron",
    "deploy/cronjob.yaml",
    "deploy/daemonset.yaml",
    "deploy/grafana-dashboard.json",
    "deploy/prometheus-rules.yaml",
    "deploy/rbac.yaml",
    "deploy/systemd-rotate-service.service",
    "deploy/systemd-rotate-timer.timer",
    "deploy/systemd-service.service",
    "deploy/systemd-timer.timer",
    "report/report.html",
    "flags/args.txt",
    "flags/args/istiod.txt",
    "flags/args/workloads.txt",
    "flags/config.yaml",
    "flags/config/etcd.yaml",
    "flags/config/istiod.yaml",
    "flags/env.env",
    "flags/env/etcd.env",
    "flags/env/etcdctl.env",
    "flags/env/kubectl.env",
    "flags/json.json",
    "flags/kubeadm.yaml",
    "flags/static-pod.yaml",
    "flags/static-pod/konnectivity-server.yaml",
    "flags/static-pod/kubelet.yaml",
    "flags/systemd.conf",
    "flags/systemd/etcd.conf",
];

/// Why a template could not be read or filled.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template is wrong, or names what it is not given.
    #[error("cannot fill the template {name}")]
    Fill {
        /// The template: a file, or the name of a built-in one.
        name: String,
        /// What the template engine says, with the line.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file or folder of templates could not be read.
    #[error("cannot read templates from {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that replaces nothing.
    #[error("{path} replaces no template")]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

impl RenderError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                Some(format!("templates are called {}", names.join(", ")))
            }
            Self::Fill { .. } | Self::Read { .. } => None,
        }
    }
}

/// The templates: the built-in ones, and what replaces some of them.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    replaced: BTreeMap<&'static str, (PathBuf, String)>,
}

impl Templates {
    /// The built-in templates, and in their place the files below `folder` of the same relative path.
    /// A file that is no template's name is an error, as it would change nothing; hidden files are passed
    /// over.
    pub fn with_folder(folder: &Path) -> Result<Self, RenderError> {
        let mut templates = Self::default();
        templates.read(folder, folder)?;
        Ok(templates)
    }

    fn read(&mut self, root: &Path, folder: &Path) -> Result<(), RenderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RenderError::Read { path, source }
        };
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let kind = fs::metadata(&path).map_err(failed(&path))?;
            let relative = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
            if kind.is_dir()
                && BUILT_IN.iter().any(|(name, _)| Path::new(name).starts_with(relative))
            {
                self.read(root, &path)?;
                continue;
            }
            let Some((name, _)) = BUILT_IN.iter().find(|(name, _)| *name == relative) else {
                return Err(RenderError::Unknown { path });
            };
            if !kind.is_file() || kind.len() > TEMPLATE_LIMIT {
                let source = io::Error::other("it is no file of at most 1 MiB");
                return Err(RenderError::Read { path, source });
            }
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            self.replaced.insert(name, (path, text));
        }
        Ok(())
    }

    /// Whether there is a template of this name.
    pub fn has(&self, name: &str) -> bool {
        BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
    }

    /// Fills a template. A name in it that is not given is an error.
    pub fn render(&self, name: &str, context: impl Serialize) -> Result<String, RenderError> {
        let (shown, text) = match self.replaced.get(name) {
            Some((path, text)) => (path.display().to_string(), text.as_str()),
            None => match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
                Some((_, text)) => (name.to_owned(), *text),
                None => return Err(RenderError::Unknown { path: name.into() }),
            },
        };
        fill(name, text, context).map_err(|error| RenderError::Fill {
            name: shown,
            source: Fault::new(&error, text).into(),
        })
    }
}

fn fill(name: &str, text: &str, context: impl Serialize) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .lstrip_blocks(true)
            .trim_blocks(true)
            .build()?,
    );
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| match name.rsplit_once('.').map(|(_, end)| end) {
        Some("yaml" | "json") => AutoEscape::Json,
        Some("html") => AutoEscape::Html,
        Some("env") => AutoEscape::Custom(ENVIRONMENT_FILE.into()),
        Some("conf" | "service" | "timer") => AutoEscape::Custom(SYSTEMD.into()),
        Some("cron") => AutoEscape::Custom(CRON.into()),
        _ => AutoEscape::None,
    });
    environment.set_formatter(|out, state, value| {
        // What has no value, like the key of a nested map, leaves nothing behind.
        if value.is_none() {
            return Ok(());
        }
        let escape = match state.auto_escape() {
            AutoEscape::Custom(kind) => match kind.as_ref() {
                ENVIRONMENT_FILE => quote::environment_file,
                CRON => quote::cron,
                _ => quote::systemd,
            },
            // A page shows what others wrote: it is not to change the direction of what stands around it.
            AutoEscape::Html if value.as_str().is_some_and(|text| text.contains(steers)) => {
                let text = tame_lines(value.as_str().unwrap_or_default());
                return minijinja::escape_formatter(out, state, &text.into());
            }
            _ => return minijinja::escape_formatter(out, state, value),
        };
        let text = value.to_string();
        let escaped = if value.is_safe() { text } else { escape(&text) };
        out.write_str(&escaped).map_err(minijinja::Error::from)
    });
    environment.set_fuel(Some(FUEL));
    environment.add_template(name, text)?;
    let context = minijinja::Value::from(minijinja::value::Serde(context));
    let mut out = Bounded(Vec::new());
    environment.get_template(name)?.render_captured_to(context, &mut out)?;
    // A template and what it is filled with are text: this cannot fail.
    Ok(String::from_utf8(out.0).unwrap_or_default())
}

/// What a template makes, up to a size.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.0.len() + text.len() > OUTPUT_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the template engine says is wrong. It quotes the template, which may be any file by mistake.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

impl Fault {
    fn new(error: &minijinja::Error, template: &str) -> Self {
        let mut text = error.kind().to_string();
        if error.kind() == ErrorKind::WriteFailure {
            text = format!("it makes more than {} MiB", OUTPUT_LIMIT >> 20);
        } else if let Some(detail) = error.detail().filter(|detail| may_show_of(template, detail)) {
            text.push_str(": ");
            text.push_str(detail);
        }
        if let (Some(name), Some(line)) = (error.name(), error.line()) {
            text.push_str(&format!(" (in {name}:{line})"));
        }
        Self(text)
    }
}

#[cfg(test)]
mod tests;
