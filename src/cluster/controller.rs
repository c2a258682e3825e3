//! Requests decided as they come, for as long as this runs.
//!
//! One loop on one thread. It knows every request and every node by watching them, decides on the requests that are due,
//! and has a bounded number of decisions on their way. A decision names the version of the request that it is about, so
//! that the API takes none twice, whoever else decides: another replica, or a person.

mod events;
mod patrol;
mod pods;
mod session;
mod trust;

use std::{
    fmt,
    rc::Rc,
    sync::{Arc, Mutex},
};

use tokio::signal::unix::{SignalKind, signal};

pub use super::serve::Listening;
use super::{
    Access, Error,
    connection::block_on,
    serve::{self, Bulletin},
    signing::CertificateSigner,
};
use crate::model::{
    cluster::Cluster,
    request::{NodeRegister, RequestPolicy},
    timestamp::Timestamp,
};
pub use patrol::{PatrolSettings, Patrolled};
use session::{Ending, Session};
pub use trust::TrustSettings;

/// Reads certkit.yaml, as it is now; nothing where it is what it was.
pub type DeclarationReader = Box<dyn FnMut() -> Result<Option<Cluster>, String>>;
/// Takes a line of the log.
pub type LogSink = Arc<dyn Fn(&LogLine)>;

/// What the controller is to do.
pub struct Settings {
    /// How to reach the cluster.
    pub access: Access,
    /// What reads certkit.yaml, if that is asked.
    pub declared: Option<DeclarationReader>,
    /// Whether Node objects are asked.
    pub live: bool,
    /// What is held against every request.
    pub policy: RequestPolicy,
    /// The Lease that one of several replicas holds.
    pub lease: LeaseName,
    /// What this replica is called.
    pub identity: String,
    /// Where metrics and health are served, if anywhere.
    pub listening: Option<Listening>,
    /// What else that carries certificates is looked at, if anything.
    pub patrol: Option<Rc<PatrolSettings>>,
    /// What of CAs is published for programs in the cluster, if anything.
    pub trust: Option<Rc<TrustSettings>>,
    /// Whether it only says what it would do.
    pub dry_run: bool,
    /// What signs for certkit's own signers, if that is done here.
    pub signing: Option<CertificateSigner>,
    /// What time it is.
    pub clock: fn() -> Timestamp,
    /// Where its log goes.
    pub log: LogSink,
}

/// Where a Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// What happened.
    pub message: &'static str,
    /// To what, and how.
    pub fields: Vec<(&'static str, String)>,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// It is as it should be.
    Info,
    /// Somebody should look at it.
    Warning,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
        })
    }
}

/// Runs until a signal says to stop.
pub fn run(settings: Settings) -> Result<(), Error> {
    block_on(until_stopped(settings))?
}

async fn until_stopped(settings: Settings) -> Result<(), Error> {
    let board = Arc::new(Mutex::new(Bulletin::new()));
    let caught = |source| Error::Runtime { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(caught)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(caught)?;
    if let Some(listening) = &settings.listening {
        let (listener, cert) = serve::listen(listening).await?;
        tokio::spawn(serve::serve(listener, cert, board.clone()));
    }
    let mut session = Session::new(settings, board).await?;
    loop {
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        match session.run(stop).await {
            Ending::Stopped(signal) => {
                session.finish(signal).await;
                return Ok(());
            }
            Ending::OtherCredential => session.reconnect().await,
        }
    }
}

/// What is declared, if it can be read and was.
pub(super) fn register(
    reader: &mut DeclarationReader,
    known: &mut Option<Cluster>,
) -> Result<Option<NodeRegister>, String> {
    let read = reader()?.filter(|cluster| known.as_ref() != Some(cluster));
    let Some(cluster) = read else { return Ok(None) };
    let register = NodeRegister::declared(&cluster);
    *known = Some(cluster);
    Ok(Some(register))
}
