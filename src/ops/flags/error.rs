//! Why settings could not be given, and what to do about it.

use crate::{
    model::{catalogue::COMPONENTS, near},
    render::RenderError,
};

/// Why the settings could not be given.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// Hosts differ, and none was named.
    #[error("the hosts of this cluster need different settings")]
    HostNeeded {
        /// All hosts.
        hosts: Vec<String>,
    },
    /// The folder on the hosts is none.
    #[error("`{path}` is no absolute path")]
    HostDir {
        /// What was given, escaped.
        path: String,
    },
    /// The component has nothing to say in this format.
    #[error("{component} has no {format} form")]
    NoForm {
        /// The component.
        component: &'static str,
        /// The format.
        format: &'static str,
        /// The formats it has.
        formats: Vec<&'static str>,
        /// The components that have this format.
        components: Vec<&'static str>,
    },
    /// The cluster has no such component.
    #[error("this cluster has no {component}")]
    NotDeclared {
        /// The component.
        component: &'static str,
        /// When there is one.
        needs: String,
    },
    /// The host does not run it.
    #[error("{component} does not run on {host}")]
    NotOnHost {
        /// The component.
        component: &'static str,
        /// The host.
        host: String,
        /// The hosts it runs on.
        hosts: Vec<String>,
    },
    /// The text could not be made.
    #[error("cannot write the settings")]
    Render(#[from] RenderError),
    /// There is no such component.
    #[error("`{name}` is no component")]
    UnknownComponent {
        /// What was given, escaped.
        name: String,
    },
    /// There is no such host.
    #[error("`{name}` is no host of this cluster")]
    UnknownHost {
        /// What was given, escaped.
        name: String,
        /// All hosts.
        hosts: Vec<String>,
    },
    /// A value with a line end or another control character.
    #[error("the value of {component} {option} has a control character: `{value}`")]
    Unprintable {
        /// The component.
        component: &'static str,
        /// The flag or field.
        option: &'static str,
        /// The value, escaped.
        value: String,
    },
}

impl FlagsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::HostNeeded { hosts } => {
                Some(format!("name one with --host, of {}", hosts.join(", ")))
            }
            Self::HostDir { .. } => Some("write it as --host-dir /etc/kubernetes".into()),
            Self::NoForm { component, format, formats, components } => Some(format!(
                "{component} has {}; --format {format} is for {}",
                formats.join(", "),
                components.join(", ")
            )),
            Self::NotDeclared { needs, .. } => Some(needs.clone()),
            Self::NotOnHost { hosts, .. } => Some(format!("it runs on {}", hosts.join(", "))),
            Self::Render(error) => error.hint(),
            Self::UnknownComponent { .. } => {
                let known: Vec<&str> = COMPONENTS.iter().map(|c| c.id).collect();
                Some(format!("components are {}", known.join(", ")))
            }
            Self::UnknownHost { name, hosts } => Some(near::meant("hosts", hosts, name)),
            Self::Unprintable { .. } => None,
        }
    }

    /// Whether the command line asked for what there is not.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Render(_) | Self::Unprintable { .. })
    }
}
