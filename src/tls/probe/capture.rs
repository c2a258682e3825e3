//! A client that looks and does not judge.

use std::sync::{Mutex, PoisonError};

use rustls::{
    DigitallySignedStruct, Error, NamedGroup, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{ActiveKeyExchange, CryptoProvider, SupportedKxGroup},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

/// Keeps what the server shows of itself and asks of us.
#[derive(Debug, Default)]
pub struct Capture {
    chain: Mutex<Option<Vec<Vec<u8>>>>,
    request: Mutex<Option<Vec<Vec<u8>>>>,
}

impl Capture {
    /// The server's certificates, if it showed any.
    pub fn chain(&self) -> Option<Vec<Vec<u8>>> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The issuers the server accepts, if it asked for a client certificate.
    pub fn request(&self) -> Option<Vec<Vec<u8>>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// ring's algorithms, and P-521 in name: servers choose a P-521 certificate only for clients that
/// list the curve (RFC 8422, section 5.1), and to read the certificate its arithmetic is not needed.
pub fn provider() -> CryptoProvider {
    let mut provider = (*super::super::provider()).clone();
    provider.kx_groups.push(&P521InName);
    provider
}

#[derive(Debug)]
struct P521InName;

impl SupportedKxGroup for P521InName {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General("the listener insists on a key exchange over P-521".into()))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain =
            std::iter::once(end_entity).chain(intermediates).map(|c| c.as_ref().to_vec()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Everything there is: the server picks its certificate by this list.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            // rsa_pss_pss_sha256, sha384 and sha512 (RFC 8446, section 4.2.3): keys that are for PSS only.
            SignatureScheme::from(0x0809),
            SignatureScheme::from(0x080a),
            SignatureScheme::from(0x080b),
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ML_DSA_44,
            SignatureScheme::ML_DSA_65,
            SignatureScheme::ML_DSA_87,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}

impl ResolvesClientCert for Capture {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<std::sync::Arc<CertifiedKey>> {
        let issuers = root_hint_subjects.iter().map(|name| name.to_vec()).collect();
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(issuers);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
