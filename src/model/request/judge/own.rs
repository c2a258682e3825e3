//! What certkit's own signers are asked for: by nodes for each other, by people, by clients of etcd and of aggregated API
//! servers. Whom they admit is certkit.yaml's to say, and no certificate has more than was asked and admitted.

use super::{
    Bench, CLIENT_AUTH, ENCIPHERMENT, Fault, Grant, RequestSigner, SERVER_AUTH, node_name_fault,
    text,
};
use crate::model::{
    catalogue::{CERTIFICATES, CertSpec, SubjectRule},
    cluster::signers::{Requester, is_systems, plain_name_fault},
    duration::Span,
    name::Name,
    profile::{Kind, Profile},
    resolve::BACKDATE,
    san,
    shown::quoted,
    usage::{ExtendedUsage, KeyUsages},
};

impl<'a> Bench<'a> {
    /// A node that shows its certificate to other nodes is nobody's user: its name is all that it is called.
    pub(super) fn plain_node(&mut self) -> Option<&'a str> {
        let name = self.lone_name()?;
        match node_name_fault(name) {
            Some(why) => {
                self.object(Fault::NodeNameWrong, format!("{}: {why}", quoted(name)));
                None
            }
            None => Some(name),
        }
    }

    pub(super) fn of_person(&mut self) -> Option<&'a str> {
        let (request, inventory) = (self.request, self.inventory);
        let people = inventory.admission.signers.people.as_ref()?;
        self.no_other_attributes();
        let Some(name) = self.content.common_name() else {
            self.object(Fault::SubjectWrong, "there is not exactly one readable CN");
            return None;
        };
        if is_systems(name) || is_of_the_catalogue(name) {
            self.object(Fault::NameReserved, format!("CN is {}", quoted(name)));
        } else if let Some(why) = plain_name_fault(name) {
            self.object(Fault::SubjectWrong, format!("CN {} {why}", quoted(name)));
        }
        let asks = quoted(&request.username);
        let is_listed = is_listed(&people.requesters, &request.username);
        let is_own = self.is_subject();
        if !is_own && !is_listed {
            let detail = format!("{asks} asks for {}", quoted(name));
            self.object(Fault::RequesterNotSubject, detail);
        }
        if is_own && !is_listed && request.by_certificate {
            self.object(Fault::RenewsItself, format!("{asks} showed a certificate"));
        }
        let mut seen: Vec<&str> = Vec::new();
        for group in self.content.organizations() {
            let Some(group) = group else {
                self.object(Fault::SubjectWrong, format!("O is {}", text(group)));
                continue;
            };
            if seen.contains(&group) {
                self.object(Fault::SubjectSurplus, format!("O={} is there twice", quoted(group)));
            }
            seen.push(group);
            if !people.groups.iter().any(|admitted| admitted.as_ref() == group) {
                self.object(Fault::GroupNotAdmitted, quoted(group).to_string());
            } else if !is_listed && !request.groups.iter().any(|own| own == group) {
                self.object(Fault::GroupNotOwn, format!("{asks} is not in {}", quoted(group)));
            }
        }
        Some(name)
    }

    pub(super) fn of_etcd(&mut self) -> Option<&'a str> {
        let inventory = self.inventory;
        let etcd = inventory.admission.signers.etcd.as_ref()?;
        let name = self.lone_name()?;
        let requester = &self.request.username;
        let own: Vec<&str> = etcd
            .clients
            .iter()
            .filter(|(listed, _)| listed.as_ref() == requester)
            .map(|(_, declared)| declared.as_ref())
            .collect();
        if own.is_empty() {
            self.object(Fault::RequesterNotAdmitted, format!("{} asks", quoted(requester)));
        } else if !own.contains(&name) {
            let detail = format!("CN is {}, not {}", quoted(name), own.join(" or "));
            self.object(Fault::SubjectWrong, detail);
        }
        Some(name)
    }

    pub(super) fn of_front_proxy(&mut self) -> Option<&'a str> {
        let admission = &self.inventory.admission;
        let proxies = admission.signers.front_proxy.as_ref()?;
        let name = self.lone_name()?;
        let requester = &self.request.username;
        if !is_listed(&proxies.requesters, requester) {
            self.object(Fault::RequesterNotAdmitted, format!("{} asks", quoted(requester)));
        }
        if name != admission.front_proxy {
            let detail = format!("CN is {}, not {}", quoted(name), admission.front_proxy);
            self.object(Fault::SubjectWrong, detail);
        }
        Some(name)
    }

    /// The one name of a subject that has nothing else.
    fn lone_name(&mut self) -> Option<&'a str> {
        self.no_other_attributes();
        let organizations: Vec<String> =
            self.content.organizations().iter().map(|o| format!("O={}", text(*o))).collect();
        if !organizations.is_empty() {
            self.object(Fault::SubjectSurplus, organizations.join(", "));
        }
        let name = self.content.common_name();
        if name.is_none() {
            self.object(Fault::SubjectWrong, "there is not exactly one readable CN");
        }
        name
    }

    /// What is signed of a request that nothing was objected to; nothing where Kubernetes signs it.
    pub(super) fn grant(&self, whom: &str) -> Option<Grant> {
        let signers = &self.inventory.admission.signers;
        let validity = match self.signer {
            RequestSigner::Serving | RequestSigner::Client => return None,
            RequestSigner::Node => signers.nodes.as_ref()?.validity.span(),
            RequestSigner::Person => signers.people.as_ref()?.validity.span(),
            RequestSigner::EtcdClient => signers.etcd.as_ref()?.validity.span(),
            RequestSigner::FrontProxy => signers.front_proxy.as_ref()?.validity.span(),
        };
        let asks = |usage: &str| self.request.usages.iter().any(|asked| asked == usage);
        let mut key_usages = KeyUsages::DIGITAL_SIGNATURE;
        if asks(ENCIPHERMENT) {
            key_usages.0 |= KeyUsages::KEY_ENCIPHERMENT.0;
        }
        let purposes =
            [(SERVER_AUTH, ExtendedUsage::ServerAuth), (CLIENT_AUTH, ExtendedUsage::ClientAuth)];
        // Nothing was objected to, so there is none that cannot be read.
        let groups: Vec<&str> = self.content.organizations().into_iter().flatten().collect();
        // Who asks may ask for less.
        let asked = self.request.term.filter(|asked| *asked > Span(0));
        Some(Grant {
            authority: self.signer.authority()?,
            profile: Profile {
                subject: Name::new(&groups, whom),
                sans: san::normalize(self.content.sans.clone()),
                kind: Kind::Leaf,
                key_usages,
                extended_usages: purposes
                    .into_iter()
                    .filter_map(|(usage, is)| asks(usage).then_some(is))
                    .collect(),
            },
            term: asked.unwrap_or(validity).min(validity),
            backdate: BACKDATE,
            public_key: self.content.public_key.clone(),
        })
    }
}

fn is_listed(requesters: &[Requester], user: &str) -> bool {
    requesters.iter().any(|listed| listed.as_ref() == user)
}

/// Whether a part of the cluster is called so, and may have rights by that name.
fn is_of_the_catalogue(name: &str) -> bool {
    let common_name = |spec: &CertSpec| match spec.subject {
        SubjectRule::Fixed { common_name, .. } => common_name.eq_ignore_ascii_case(name),
        SubjectRule::Host | SubjectRule::Node => false,
    };
    CERTIFICATES.iter().any(common_name)
}
