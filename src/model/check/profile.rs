//! Contents: that a certificate says what its place demands, and no more.

use super::{
    evidence::{Evidence, is_local},
    finding::Finding,
    pairing::is_peer,
};
use crate::model::{
    catalogue::{
        CertId, Condition, Credential, Dials, ETCD_PEER_NAME, Home, PATHS, Purpose, SanRule,
        SubjectRule, roles,
    },
    code::{Code, Severity},
    observed::CertView,
    profile::Kind,
    resolve,
    san::{San, has_name},
    usage::{ExtendedUsage, KeyUsages},
};

/// The group that passes every authorization.
const MASTERS: &str = "system:masters";

/// Everything wrong with what certificates say.
pub fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, held) in evidence.held().iter().enumerate() {
        let Some(certificate) = held.certificate() else { continue };
        if evidence.layout.instances[index].spec.is_ca() {
            continue;
        }
        usage(evidence, index, certificate, &mut found);
        names(evidence, index, certificate, &mut found);
        identity(evidence, index, certificate, &mut found);
    }
    found
}

fn finding(evidence: &Evidence<'_>, index: usize, code: Code, what: String) -> Finding {
    let file = evidence.held()[index].place.cert();
    Finding::new(code, evidence.label(index), what).file(file).about(index)
}

fn usage(evidence: &Evidence<'_>, index: usize, cert: &CertView, found: &mut Vec<Finding>) {
    let mut push = |code, what| found.push(finding(evidence, index, code, what));
    if let Kind::Ca { .. } = cert.profile.kind {
        push(Code::LeafIsCa, "it may issue certificates (basicConstraints CA)".into());
    }
    let has = &cert.profile.extended_usages;
    let needs: &[ExtendedUsage] = match evidence.layout.instances[index].spec.purpose {
        Purpose::Ca { .. } => return,
        Purpose::Client => &[ExtendedUsage::ClientAuth],
        Purpose::Server => &[ExtendedUsage::ServerAuth],
        Purpose::ServerAndClient => &[ExtendedUsage::ServerAuth, ExtendedUsage::ClientAuth],
    };
    let list = |usages: Vec<&ExtendedUsage>| {
        usages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    if has.is_empty() {
        push(Code::UsageExcessive, "it has no extended key usage, so every use is allowed".into());
    } else {
        let lacks: Vec<_> = needs.iter().filter(|usage| !has.contains(usage)).collect();
        if !lacks.is_empty() {
            let what = format!("extended key usage lacks {}", list(lacks));
            push(Code::UsageMissing, what);
        }
        let beyond: Vec<_> = has.iter().filter(|usage| !needs.contains(usage)).collect();
        if !beyond.is_empty() {
            let what = format!("extended key usage has {} besides", list(beyond));
            push(Code::UsageExcessive, what);
        }
    }
    if let Some(usages) = cert.key_usages {
        if !usages.contains(KeyUsages::DIGITAL_SIGNATURE) {
            push(Code::UsageMissing, "key usage lacks digitalSignature, which TLS needs".into());
        }
        let signs = usages.contains(KeyUsages::CERT_SIGN) || usages.contains(KeyUsages::CRL_SIGN);
        if signs && cert.profile.kind == Kind::Leaf {
            push(Code::UsageExcessive, "key usage allows signing certificates or lists".into());
        }
    }
}

fn names(evidence: &Evidence<'_>, index: usize, cert: &CertView, found: &mut Vec<Finding>) {
    let instance = &evidence.layout.instances[index];
    let sans = &cert.profile.sans;
    let expected = resolve::profile(instance, evidence.cluster).sans;
    let mut missing: Vec<String> = Vec::new();
    // Where nothing declares that peers have a name of their own, its lack is no fault of this certificate.
    let unnamed = !evidence.declared() || !evidence.cluster.has(Condition::EtcdPeerName);
    if is_peer(instance.spec) && unnamed && !has_name(sans, ETCD_PEER_NAME) {
        let what = format!("it has no name that only peers have, such as {ETCD_PEER_NAME}");
        found.push(finding(evidence, index, Code::EtcdPeerOpen, what));
    }
    for san in &expected {
        let (name, shown) = (crate::model::talk::plain(san), san.to_string());
        if name == ETCD_PEER_NAME && unnamed {
            continue;
        }
        if !sans.contains(san) && !has_name(sans, &name) && demanded(evidence, index, san) {
            missing.push(shown);
        }
    }
    for (who, name) in dialled(evidence, index) {
        let is_known = expected.iter().any(|san| crate::model::talk::plain(san) == name);
        if !is_known && !has_name(sans, &name) {
            missing.push(format!("{name}, by which {who} reaches it"));
        }
    }
    if !missing.is_empty() {
        missing.dedup();
        let what = format!("its names lack {}", missing.join("; "));
        found.push(finding(evidence, index, Code::SanMissing, what));
    }
    // Undeclared, names beyond the usual may be the user's choice; a client needs none at all.
    let judged = evidence.declared() || instance.spec.purpose == Purpose::Client;
    let surplus: Vec<String> =
        sans.iter().filter(|san| !expected.contains(san)).map(San::to_string).collect();
    if judged && !surplus.is_empty() {
        let what = format!("it is valid for {} too", surplus.join(", "));
        found.push(finding(evidence, index, Code::SanSurplus, what));
    }
}

/// Without a declaration only what every cluster has, or what is known of the host, is demanded.
fn demanded(evidence: &Evidence<'_>, index: usize, san: &San) -> bool {
    if evidence.declared() {
        return true;
    }
    let spec = evidence.layout.instances[index].spec;
    match san {
        // The service address of an undeclared cluster is read off the certificate.
        San::Ip(ip) if spec.sans.contains(&SanRule::ServiceAddress) => {
            let declared = evidence.cluster.service_subnets.first().map(|s| s.first_host());
            declared != Some(*ip) || evidence.service_address().is_none()
        }
        _ => true,
    }
}

/// The names by which kubeconfigs reach this server, and whose they are.
fn dialled(evidence: &Evidence<'_>, index: usize) -> Vec<(String, String)> {
    let instance = &evidence.layout.instances[index];
    let server = Credential::Cert(instance.spec.id);
    let clients: Vec<CertId> = PATHS
        .iter()
        .filter(|p| p.server == server && p.dials != Dials::Nothing)
        .filter_map(|p| match p.client {
            Credential::Cert(id) => Some(id.spec()),
            _ => None,
        })
        .filter(|spec| matches!(spec.home, Home::Kubeconfig { .. }))
        .map(|spec| spec.id)
        .collect();
    // Nothing else has a name of its own for its server; a fleet's kubelets are done here.
    if clients.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (other, held) in evidence.held().iter().enumerate() {
        let client = &evidence.layout.instances[other];
        // Without a server on its own host, such a client dials the endpoint.
        let alone = evidence.layout.at(instance.spec.id, &client.root).is_none();
        let here = !is_local(client.spec) || client.root == instance.root || alone;
        if !clients.contains(&client.spec.id) || !here {
            continue;
        }
        if let Some(name) = held.kubeconfig.as_ref().and_then(|k| k.name())
            && !found.iter().any(|(_, known)| *known == name)
        {
            found.push((client.label(), name));
        }
    }
    found
}

fn identity(evidence: &Evidence<'_>, index: usize, cert: &CertView, found: &mut Vec<Finding>) {
    let instance = &evidence.layout.instances[index];
    let spec = instance.spec;
    // kubeadm gave some clients groups that etcd never reads (before 1.31).
    let groups_matter = spec.issuer_id() == Some(roles::CLUSTER_CA.id);
    let has_masters = cert.organizations.iter().any(|o| o == MASTERS);
    if has_masters && spec.id != roles::BREAK_GLASS.id && groups_matter {
        let what = format!("it is in the group {MASTERS}");
        let finding = finding(evidence, index, Code::SystemMasters, what);
        // Where older kubeadm put it.
        let is_usual = spec.id == roles::ADMIN.id;
        found.push(if is_usual { finding.severity(Severity::Warning) } else { finding });
        return;
    }
    // A server is known by its names; only what logs in is known by its subject.
    if matches!(spec.purpose, Purpose::Server | Purpose::ServerAndClient) {
        return;
    }
    let expected = resolve::subject(instance, evidence.cluster);
    let node = matches!(spec.subject, SubjectRule::Node);
    let name = cert.common_name.clone().unwrap_or_default();
    let right_name = match node && !evidence.declared() {
        true => name.strip_prefix("system:node:").is_some_and(|n| !n.is_empty()),
        false => name == expected.common_name,
    };
    let mut groups = cert.organizations.clone();
    groups.sort();
    let mut wanted = expected.organizations.clone();
    wanted.sort();
    // kubeadm 1.29 to 1.36.0 gave the apiserver's kubelet client this group.
    let older = spec.id == roles::API_TO_KUBELETS.id && groups == ["kubeadm:cluster-admins"];
    if !right_name || (groups_matter && groups != wanted && !older) {
        let wanted: Vec<String> = expected
            .organizations
            .iter()
            .map(|o| format!("O={o}"))
            .chain([format!("CN={}", expected.common_name)])
            .collect();
        let what = format!("it names {}, not {}", cert.profile.subject, wanted.join(", "));
        found.push(finding(evidence, index, Code::Identity, what));
    }
}
