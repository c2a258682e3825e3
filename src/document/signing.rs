//! A request to the API's signers: `CertificateSigningRequest` of `certificates.k8s.io/v1`.
//! <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>

use super::data;
use crate::model::duration::Span;

/// Kubernetes' signer of clients of the apiserver. It signs for nobody in `system:masters`.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// The manifest: `name` is a name that an object can have, `pem` the request. Without another signer it is Kubernetes' own.
pub fn request(name: &str, pem: &[u8], validity: Span, signer: Option<&str>) -> String {
    // Other signers hold requests to all that they write.
    let (signer, usages) = match signer {
        Some(signer) => (signer, "\"digital signature\", \"client auth\""),
        None => (SIGNER, "\"client auth\""),
    };
    format!(
        "apiVersion: certificates.k8s.io/v1\n\
         kind: CertificateSigningRequest\n\
         metadata:\n  name: {name}\n\
         spec:\n  signerName: {signer}\n  expirationSeconds: {}\n  usages: [{usages}]\n  \
         request: {}\n",
        i32::try_from(validity.0).unwrap_or(i32::MAX),
        data::encode(pem).as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_what_is_asked_of_whom() {
        let text = request("certkit-alice", b"-----BEGIN", Span(28_800), None);
        for line in [
            "  name: certkit-alice",
            "  signerName: kubernetes.io/kube-apiserver-client",
            "  expirationSeconds: 28800",
            "  usages: [\"client auth\"]",
            "  request: LS0tLS1CRUdJTg==",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        // A term beyond what the API's field holds is its longest.
        assert!(
            request("x", b"", Span(i64::MAX), None).contains("expirationSeconds: 2147483647\n")
        );
        let own = request("x", b"", Span(3600), Some("example.com/x"));
        assert!(own.contains("  signerName: example.com/x\n"), "{own}");
        assert!(own.contains("  usages: [\"digital signature\", \"client auth\"]\n"), "{own}");
    }
}
