//! What `certkit controller --publish-trust` publishes, and where.

use std::{path::PathBuf, rc::Rc};

use clap::builder::PossibleValuesParser;

use crate::{cluster::controller::TrustSettings, model::san::dns_name_fault, ops::trust};

/// Where ConfigMaps go unless something else is said: what is in it is for everybody.
const PUBLIC: &str = "kube-public";

/// What is published of CAs.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArgs {
    /// Publish what is trusted of these CAs, by their bundles below DIR, for programs in the cluster: as ConfigMaps, and as
    /// ClusterTrustBundles where the API has them
    #[arg(long, value_name = "CA", value_delimiter = ',', value_parser = authorities())]
    publish_trust: Vec<String>,
    /// The namespaces that get the ConfigMaps
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', default_value = PUBLIC)]
    #[arg(value_parser = namespace, requires = "publish_trust")]
    publish_trust_to: Vec<String>,
}

fn authorities() -> PossibleValuesParser {
    PossibleValuesParser::new(trust::published().map(|spec| spec.id.name()))
}

fn namespace(text: &str) -> Result<String, String> {
    match dns_name_fault(text).is_none() && !text.contains('.') {
        true => Ok(text.to_owned()),
        false => Err("a namespace has small letters, digits and hyphens".to_owned()),
    }
}

impl TrustArgs {
    /// The same as settings.
    pub fn settings(&self, dir: PathBuf) -> Option<Rc<TrustSettings>> {
        let is_asked = |id: &str| self.publish_trust.iter().any(|asked| asked == id);
        let authorities: Vec<&'static str> =
            trust::published().map(|spec| spec.id.name()).filter(|id| is_asked(id)).collect();
        if authorities.is_empty() {
            return None;
        }
        let mut namespaces = self.publish_trust_to.clone();
        namespaces.sort_unstable();
        namespaces.dedup();
        Some(Rc::new(TrustSettings {
            authorities,
            namespaces,
            read: Rc::new(move |id| match trust::published().find(|spec| spec.id.name() == id) {
                Some(spec) => trust::bundle(&dir, spec),
                None => Err(format!("{id} is no CA")),
            }),
            anchors: Rc::new(trust::held),
        }))
    }
}
