//! A client that makes a new TLS connection for every request and reads its credentials anew for each.

use std::{
    error::Error,
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// How long a request may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a client shows and trusts, and where it has it from.
#[derive(Clone)]
pub enum Credentials {
    /// PEM files.
    Files { cert: PathBuf, key: PathBuf, trusted: PathBuf },
    /// A kubeconfig, embedding them or naming files as the host of this tree sees them.
    Kubeconfig { file: PathBuf, tree: PathBuf },
}

impl Credentials {
    /// Reads them as they are now.
    pub fn read(&self) -> Result<ClientConfig, Box<dyn Error>> {
        let [cert, key, trusted] = match self {
            Self::Files { cert, key, trusted } => [cert, key, trusted].map(fs::read),
            Self::Kubeconfig { file, tree } => {
                let text = fs::read_to_string(file)?;
                ["client-certificate", "client-key", "certificate-authority"]
                    .map(|field| from_kubeconfig(&text, field, tree))
            }
        };
        let chain = CertificateDer::pem_slice_iter(&cert?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&key?)?;
        Ok(trusting(&trusted?)?.with_client_auth_cert(chain, key)?)
    }
}

/// A client that trusts these certificates, PEM, and shows none.
pub fn without_certificate(trusted: &[u8]) -> Result<ClientConfig, Box<dyn Error>> {
    Ok(trusting(trusted)?.with_no_client_auth())
}

fn trusting(
    trusted: &[u8],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for trusted in CertificateDer::pem_slice_iter(trusted) {
        roots.add(trusted?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// What `FIELD-data` holds or `FIELD` names.
fn from_kubeconfig(text: &str, field: &str, tree: &Path) -> io::Result<Vec<u8>> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        line.map(|value| value.trim().trim_matches('"').to_owned())
    };
    if let Some(data) = value(&format!("{field}-data")) {
        return STANDARD.decode(data).map_err(io::Error::other);
    }
    let path = value(field).ok_or_else(|| io::Error::other(format!("no {field}")))?;
    fs::read(match path.strip_prefix(super::cluster::HOST_DIR) {
        Some(rest) => tree.join(rest.trim_start_matches('/')),
        None => path.into(),
    })
}

/// One request on a connection of its own: the whole answer, which must say 200 or 201.
pub fn request(config: &Arc<ClientConfig>, to: SocketAddr, text: &str) -> io::Result<String> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::from(to.ip()))
        .map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    match ["200", "201"].contains(&status) {
        true => Ok(answer),
        false => Err(io::Error::other(format!("answered {answer:?}"))),
    }
}

/// A handshake and nothing else.
pub fn handshake(config: &Arc<ClientConfig>, to: SocketAddr) -> io::Result<()> {
    let mut socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut connection = ClientConnection::new(Arc::clone(config), ServerName::from(to.ip()))
        .map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(())
}

/// What clients did and what went wrong.
#[derive(Default)]
pub struct Tally {
    done: AtomicUsize,
    again: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Tally {
    /// Counts a request that was made.
    pub fn count<T>(&self, result: Result<T, impl ToString>) {
        match result {
            Ok(_) => _ = self.done.fetch_add(1, Ordering::Relaxed),
            Err(error) => self.failed.lock().expect("no panic holds it").push(error.to_string()),
        }
    }

    /// Counts a request that is made once more.
    pub fn count_again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were made once more.
    pub fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// How many succeeded.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// What those said that did not.
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().expect("no panic holds it").clone()
    }
}
