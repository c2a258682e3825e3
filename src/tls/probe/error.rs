//! Why a listener could not be read.

use std::{error::Error, fmt, io, net::SocketAddr, time::Duration};

/// Why a probe has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The connection broke.
    #[error("{target}: the connection broke before a certificate was shown")]
    Broken {
        /// The target as it was given.
        target: String,
        /// What the system says.
        source: io::Error,
    },
    /// The listener closed the connection.
    #[error("{target}: the listener closed the connection before it showed a certificate")]
    Closed {
        /// The target as it was given.
        target: String,
    },
    /// No address took the connection.
    #[error("{target}: cannot connect to {address}")]
    Connect {
        /// The target as it was given.
        target: String,
        /// The address that was tried last.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The handshake failed before a certificate was shown.
    #[error("{target}: the TLS handshake failed before a certificate was shown")]
    Handshake {
        /// The target as it was given.
        target: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The host or SNI is nothing TLS can ask for.
    #[error("{target}: `{}` is neither an address nor a DNS name", .name.escape_default())]
    Name {
        /// The target as it was given.
        target: String,
        /// The name at fault.
        name: String,
    },
    /// The listener speaks something else.
    #[error("{target}: not TLS: the answer begins with \"{begins}\"")]
    NotTls {
        /// The target as it was given.
        target: String,
        /// The first line of the answer, escaped.
        begins: String,
    },
    /// The name could not be resolved.
    #[error("{target}: cannot resolve the name")]
    Resolve {
        /// The target as it was given.
        target: String,
        /// What the system says.
        source: io::Error,
    },
    /// The time was up.
    #[error("{target}: {phase} took longer than {timeout:?}")]
    TimedOut {
        /// The target as it was given.
        target: String,
        /// What was being waited for.
        phase: Phase,
        /// The time for the whole probe.
        timeout: Duration,
    },
}

impl ProbeError {
    /// What to look at next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Broken { .. } | Self::Closed { .. } => {
                "is this the TLS port? some listeners answer only to a name they know: add ,sni=NAME"
            }
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "nothing listens there: `ss -ltnp` on that host lists what does"
                }
                _ => "check the address and the route to it",
            },
            Self::Handshake { .. } => {
                "TLS 1.2 or 1.3 with an ECDHE cipher suite is needed; some listeners answer only to \
                 a name they know: add ,sni=NAME"
            }
            Self::Name { .. } => "write HOST:PORT, or add ,sni=NAME",
            Self::NotTls { begins, .. } if begins.starts_with("HTTP/") => {
                "this listener speaks plain HTTP: nothing it serves is protected by a certificate"
            }
            Self::NotTls { .. } => "is this the TLS port of the component?",
            Self::Resolve { .. } => {
                "check the name with `getent hosts NAME`, or give the address and ,sni=NAME"
            }
            Self::TimedOut { phase, .. } => match phase {
                Phase::Resolve => "the name server does not answer: give the address and ,sni=NAME",
                Phase::Connect => "a firewall may drop the packets: check the address and the port",
                Phase::Handshake => {
                    "the listener accepts and stays silent: is it overloaded or hung?"
                }
            },
        })
    }
}

/// What a probe was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The name's addresses.
    Resolve,
    /// The TCP connection.
    Connect,
    /// The server's certificate.
    Handshake,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Handshake => "the TLS handshake",
        })
    }
}
