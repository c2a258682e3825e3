//! What is done about a request: it is decided, or signed once it is approved. What is signed was judged before, whoever
//! approved it, and by the version of the object that was judged.

use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{LONGEST_PAUSE, LogLevel, Session, objections_text, who};
use crate::{
    cluster::{
        docket::DocketEntry,
        object::{APPROVED, DENIED, FAILED},
        signing::SigningOrder,
    },
    model::{
        request::{CertificateRequest, RequestState, Ruling},
        timestamp::Timestamp,
    },
};

/// The reason of an approval.
const MATCHES: &str = "InventoryMatches";
/// The reason of what was signed.
const SIGNED: &str = "Signed";

/// What is done.
#[derive(Debug)]
pub(super) enum SentenceKind {
    Approve,
    Deny,
    /// The certificate is handed out, as PEM.
    Sign(String),
    /// It was approved by somebody, and is not signed.
    Refuse,
}

impl SentenceKind {
    /// As logs and metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Deny => "denied",
            Self::Sign(_) => "signed",
            Self::Refuse => "refused",
        }
    }
}

/// What is done, and why.
#[derive(Debug)]
pub(super) struct Sentence {
    pub kind: SentenceKind,
    pub reason: &'static str,
    pub message: String,
    pub code: &'static str,
    /// What else is to be logged.
    pub fields: Vec<(&'static str, String)>,
}

impl Sentence {
    /// Whether who asks gets what was asked for.
    pub fn says_yes(&self) -> bool {
        matches!(self.kind, SentenceKind::Approve | SentenceKind::Sign(_))
    }

    /// Whether it is a signer's to say, and not an approver's.
    pub fn is_signers(&self) -> bool {
        matches!(self.kind, SentenceKind::Sign(_) | SentenceKind::Refuse)
    }

    /// What the object's status is to have.
    pub fn status(&self, entry: &DocketEntry, now: Timestamp) -> Value {
        let kind = match &self.kind {
            SentenceKind::Sign(pem) => {
                return json!({"certificate": ByteString(pem.clone().into_bytes())});
            }
            SentenceKind::Approve => APPROVED,
            SentenceKind::Deny => DENIED,
            SentenceKind::Refuse => FAILED,
        };
        json!({"conditions": entry.decided(kind, self.reason, &self.message, now)})
    }
}

impl Session {
    /// What is to be done about a request that is not left. An error says why nothing can be signed now.
    pub(super) fn sentence(
        &mut self,
        request: &CertificateRequest,
        ruling: &Ruling,
    ) -> Result<Sentence, String> {
        let is_approved = request.state == RequestState::Approved;
        let (whom, ground, grant) = match ruling {
            Ruling::Approve { whom, ground, grant } => (whom, ground, grant),
            Ruling::Deny(objections) | Ruling::Leave(objections) => {
                let spec = objections.first().map(|o| o.fault.spec());
                let (reason, code) = spec.map_or(("", ""), |spec| (spec.reason, spec.name));
                // What is approved cannot be denied any more.
                let kind = if is_approved { SentenceKind::Refuse } else { SentenceKind::Deny };
                let message = objections_text(objections);
                return Ok(Sentence { kind, reason, message, code, fields: Vec::new() });
            }
        };
        let (true, Some(grant)) = (is_approved, grant) else {
            let (kind, message) = (SentenceKind::Approve, ground.clone());
            return Ok(Sentence { kind, reason: MATCHES, message, code: "", fields: Vec::new() });
        };
        let now = (self.settings.clock)();
        let Some(signer) = &self.signer else {
            return Err("this controller does not sign".to_owned());
        };
        let content = request.content.as_ref().ok();
        let groups = content.into_iter().flat_map(|content| content.organizations());
        let signed = (signer.borrow_mut())(
            &SigningOrder {
                grant,
                object: request.name.clone(),
                signer: &request.signer,
                requester: &request.username,
                whom,
                groups: groups.flatten().map(str::to_owned).collect(),
                ground,
            },
            now,
        )?;
        for warning in &signed.warnings {
            self.log(LogLevel::Warning, "signing", vec![("why", warning.clone())]);
        }
        let names: Vec<String> = grant.profile.sans.iter().map(ToString::to_string).collect();
        let message = format!(
            "{ground}; signed by {}, serial {}, until {}",
            grant.authority.id, signed.serial, signed.validity.not_after
        );
        let fields = vec![
            ("serial", signed.serial),
            ("fingerprint", signed.fingerprint),
            ("names", names.join(", ")),
            ("not_after", signed.validity.not_after.to_string()),
        ];
        let kind = SentenceKind::Sign(signed.pem);
        Ok(Sentence { kind, reason: SIGNED, message, code: "", fields })
    }

    /// A CA's files that are missing, or another certkit that holds DIR, may be another way soon.
    pub(super) fn wait_for_signer(
        &mut self,
        name: &str,
        request: &CertificateRequest,
        why: String,
    ) {
        let Some(entry) = self.docket.get_mut(name) else { return };
        entry.tries = entry.tries.saturating_add(1);
        let pause = Duration::from_secs(1 << entry.tries.min(6)).min(LONGEST_PAUSE);
        self.docket.set_due(name, Instant::now() + pause);
        let mut fields = who(request);
        fields.push(("why", why));
        self.log(LogLevel::Warning, "cannot sign", fields);
    }
}
