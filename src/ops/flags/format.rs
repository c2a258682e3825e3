//! The forms that settings come in, and which component has which.

use super::sheet;
use crate::{
    model::{catalogue::ComponentSpec, cluster::Cluster, settings::SettingValue},
    render::Templates,
};

/// The drop-in for a unit, in the folder of the unit's drop-ins.
const DROP_IN: &str = "10-certkit-pki.conf";

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlagsFormat {
    /// One `--flag=value` a line.
    #[default]
    Args,
    /// The component's own configuration file.
    Config,
    /// An environment file.
    Env,
    /// All settings as data.
    Json,
    /// A kubeadm ClusterConfiguration.
    Kubeadm,
    /// A patch for a static pod's manifest.
    StaticPod,
    /// A drop-in for the component's systemd unit.
    Systemd,
}

impl FlagsFormat {
    /// All of them, in the order of the help page.
    pub const ALL: [Self; 7] = [
        Self::Args,
        Self::Env,
        Self::Systemd,
        Self::StaticPod,
        Self::Config,
        Self::Kubeadm,
        Self::Json,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Args => "args",
            Self::Config => "config",
            Self::Env => "env",
            Self::Json => "json",
            Self::Kubeadm => "kubeadm",
            Self::StaticPod => "static-pod",
            Self::Systemd => "systemd",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Args => "txt",
            Self::Config | Self::Kubeadm | Self::StaticPod => "yaml",
            Self::Env => "env",
            Self::Json => "json",
            Self::Systemd => "conf",
        }
    }

    /// What a file of a component's settings is called where it is to be saved.
    pub fn file_name(self, spec: &ComponentSpec) -> String {
        let plain = || format!("{}.{}", spec.id, self.name());
        match self {
            Self::Args | Self::Env | Self::Json | Self::Kubeadm => plain(),
            // What has no file of its own is a kustomization: that of istiod's Secret.
            Self::Config => spec.config.map_or("kustomization.yaml", |c| c.file).to_owned(),
            Self::StaticPod => spec.patch.map_or_else(plain, str::to_owned),
            Self::Systemd => match spec.unit {
                Some(unit) => format!("{unit}.d/{DROP_IN}"),
                None => plain(),
            },
        }
    }

    /// The template for a component: its own if it has one, else the format's.
    pub fn template(self, component: &str, templates: &Templates) -> String {
        let (name, extension) = (self.name(), self.extension());
        let own = format!("flags/{name}/{component}.{extension}");
        if templates.has(&own) { own } else { format!("flags/{name}.{extension}") }
    }

    /// Whether it can say anything about a component with these settings.
    pub fn suits(
        self,
        cluster: &Cluster,
        sheet: &[SettingValue],
        spec: &ComponentSpec,
        templates: &Templates,
    ) -> bool {
        let own = format!("flags/{}/{}.{}", self.name(), spec.id, self.extension());
        let has_flags = sheet.iter().any(|setting| setting.flag.is_some());
        templates.has(&own)
            || match self {
                Self::Args | Self::Env => has_flags,
                Self::Config => spec.config.is_some(),
                Self::Json => true,
                Self::Kubeadm => sheet::in_kubeadm(spec, cluster),
                Self::StaticPod => has_flags && spec.static_pod,
                Self::Systemd => has_flags && spec.unit.is_some(),
            }
    }
}
