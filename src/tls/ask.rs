//! One question to a server that speaks HTTP over TLS, and its answer: whether it is well. The server is verified, and
//! shown a certificate, as a component of the cluster would.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use super::handshake::Client;

/// More of an answer than anybody who is well says.
const LIMIT: u64 = 64 << 10;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP's status, as 200.
    pub status: u16,
    /// What follows the header.
    pub body: String,
}

/// Why a server said nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("nothing answers at {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The conversation broke off: a handshake that failed, or an answer that did not come.
    #[error("{address} does not answer")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Something was said that is no HTTP.
    #[error("{address} does not speak HTTP")]
    NotHttp {
        /// Where.
        address: SocketAddr,
    },
}

impl AskError {
    /// Whether nobody is there at all.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// Gets `path`, within `timeout` for connecting and as much for each step after it.
pub fn ask(
    client: &Client,
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Result<HttpAnswer, AskError> {
    let start = Instant::now();
    let socket = TcpStream::connect_timeout(&address, timeout)
        .map_err(|source| AskError::Connect { address, source })?;
    let broken = |source| AskError::Broken { address, source };
    socket.set_read_timeout(Some(timeout)).map_err(broken)?;
    socket.set_write_timeout(Some(timeout)).map_err(broken)?;
    let (config, name) = client.live();
    let connection = ClientConnection::new(config, name)
        .map_err(|error| broken(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let mut stream = StreamOwned::new(connection, socket);
    // HTTP/1.0: the answer ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            // Many servers close without a farewell.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(source) => return Err(broken(source)),
        }
        if answer.len() as u64 > LIMIT || start.elapsed() > timeout * 3 {
            break;
        }
    }
    parse(&answer).ok_or(AskError::NotHttp { address })
}

fn parse(answer: &[u8]) -> Option<HttpAnswer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok()?;
    is_http.then(|| HttpAnswer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer =
            parse(b"HTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\n{\"health\":\"false\"}");
        let wanted = HttpAnswer { status: 503, body: "{\"health\":\"false\"}".into() };
        assert_eq!(answer, Some(wanted));
        for bad in ["", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
