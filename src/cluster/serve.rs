//! `/healthz`, `/readyz` and `/metrics`, over TLS with a certificate from files that are read again when they change.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{Error, metrics::Tallies};
use crate::{
    pki::pem,
    tls::handshake::{Identity, Server, ServerSide},
};

/// How long one conversation may take, and how many there may be at once.
const PATIENCE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 64;
/// How long the loop that decides may be silent before it is taken to be stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Where to listen, and with what.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// The certificate's file, leaf first.
    pub certificate: PathBuf,
    /// The key's.
    pub key: PathBuf,
}

/// What is told to who asks.
pub struct Bulletin {
    pub tallies: Tallies,
    /// Metrics of what carries certificates, ready to be sent: no copy is made for whoever asks.
    carried: Bytes,
    trust: Bytes,
    /// When the loop that decides last went round.
    pub alive: Instant,
}

impl Bulletin {
    /// With nothing on it yet.
    pub fn new() -> Self {
        Self {
            tallies: Tallies::default(),
            carried: Bytes::new(),
            trust: Bytes::new(),
            alive: Instant::now(),
        }
    }

    /// Puts up metrics of what carries certificates.
    pub fn put_carried(&mut self, metrics: String) {
        self.carried = Bytes::from(metrics);
    }

    /// And of what is published.
    pub fn put_trust(&mut self, metrics: String) {
        self.trust = Bytes::from(metrics);
    }
}

pub type Board = Arc<Mutex<Bulletin>>;

/// What is on the board; who panicked while writing on it left numbers, and they still count.
pub fn with_board<T>(board: &Board, look: impl FnOnce(&mut Bulletin) -> T) -> T {
    look(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Listens; what is wrong with address or files is told now.
pub async fn listen(listening: &Listening) -> Result<(TcpListener, ServingCert), Error> {
    let address = listening.address.to_string();
    let wrong = |source| Error::Listen { address: address.clone(), source };
    let cert = ServingCert::read(listening).map_err(wrong)?;
    let listener = TcpListener::bind(listening.address).await.map_err(|e| wrong(e.into()))?;
    Ok((listener, cert))
}

/// The certificate as it was last read.
pub struct ServingCert {
    files: [PathBuf; 2],
    read: [Vec<u8>; 2],
    looked: Instant,
    acceptor: TlsAcceptor,
}

type Wrong = Box<dyn std::error::Error + Send + Sync>;

impl ServingCert {
    fn read(listening: &Listening) -> Result<Self, Wrong> {
        let files = [listening.certificate.clone(), listening.key.clone()];
        let read = Self::octets(&files)?;
        let acceptor = Self::acceptor(&read)?;
        Ok(Self { files, read, looked: Instant::now(), acceptor })
    }

    fn octets(files: &[PathBuf; 2]) -> Result<[Vec<u8>; 2], Wrong> {
        let read = |file: &PathBuf| fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
        Ok([read(&files[0])?, read(&files[1])?])
    }

    fn acceptor([certificate, key]: &[Vec<u8>; 2]) -> Result<TlsAcceptor, Wrong> {
        let chain = pem::certificates(certificate)?;
        let key = pem::first_key(key)?.ok_or("there is no private key")?;
        let identity = Identity::new(&chain, &key.der)?;
        let server = Server::new(&ServerSide {
            identity: &identity,
            client_trust: None,
            client_required: false,
            rule: None,
            client_address: None,
        })?;
        Ok(TlsAcceptor::from(server.live()))
    }

    /// What to answer with now. Between the change of one file and of the other, the old pair.
    fn current(&mut self) -> TlsAcceptor {
        let now = Instant::now();
        if now.duration_since(self.looked) >= Duration::from_secs(1) {
            self.looked = now;
            if let Ok(read) = Self::octets(&self.files)
                && read != self.read
                && let Ok(acceptor) = Self::acceptor(&read)
            {
                (self.read, self.acceptor) = (read, acceptor);
            }
        }
        self.acceptor.clone()
    }
}

/// Answers for as long as it is polled.
pub async fn serve(listener: TcpListener, mut cert: ServingCert, board: Board) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // The semaphore is never closed: waiting for a place cannot fail.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely: others will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, board) = (cert.current(), board.clone());
        tokio::spawn(async move {
            // Whoever breaks off or is too slow is told nothing.
            let _ = timeout(PATIENCE, converse(stream, acceptor, board)).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, board: Board) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &board);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).max_buf_size(16 << 10);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// An answer in parts, none of which is copied.
struct Parts(VecDeque<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

fn answer(method: &Method, path: &str, board: &Board) -> Response<Parts> {
    let mut parts = VecDeque::new();
    let (status, text) = if method != Method::GET && method != Method::HEAD {
        (StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned())
    } else {
        with_board(board, |told| match path {
            "/healthz" | "/livez" if told.alive.elapsed() < STUCK => {
                (StatusCode::OK, "ok\n".to_owned())
            }
            "/healthz" | "/livez" => (StatusCode::INTERNAL_SERVER_ERROR, "stuck\n".to_owned()),
            "/readyz" if told.tallies.ready => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the requests, the nodes or certkit.yaml have not been read yet\n".to_owned(),
            ),
            "/metrics" => {
                parts.extend([told.trust.clone(), told.carried.clone()]);
                (StatusCode::OK, told.tallies.render())
            }
            _ => (StatusCode::NOT_FOUND, "/healthz /readyz /metrics\n".to_owned()),
        })
    };
    parts.push_front(Bytes::from(text));
    parts.retain(|part| !part.is_empty());
    let mut response = Response::new(Parts(parts));
    *response.status_mut() = status;
    let kind = match path {
        "/metrics" => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
