//! How the cluster is reached: by a kubeconfig, or from within it.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{runtime, time::timeout};

use super::Error;

/// How long one question may take. Watches have none: they end by themselves, and are begun again.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How to reach the cluster.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// A kubeconfig; without one, KUBECONFIG, `~/.kube/config`, or the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Its context, if not the current one.
    pub context: Option<String>,
}

impl Access {
    /// A client, with the credential as it is now.
    pub async fn client(&self) -> Result<Client, Error> {
        let options =
            KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(file) => {
                let wrong = |source: Box<dyn std::error::Error + Send + Sync>| Error::Kubeconfig {
                    file: file.clone(),
                    source,
                };
                let read = Kubeconfig::read_from(file).map_err(|e| wrong(e.into()))?;
                Config::from_custom_kubeconfig(read, &options).await.map_err(|e| wrong(e.into()))?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| Error::Access { source: error.into() })?,
            None => {
                Config::infer().await.map_err(|error| Error::Access { source: error.into() })?
            }
        };
        Client::try_from(config).map_err(|error| Error::Access { source: error.into() })
    }

    /// What the credential is made of, as it is now: where it changes, a new client is due. The token and the CA of a
    /// pod are read again by the client itself.
    pub fn material(&self) -> Vec<Vec<u8>> {
        let Some(file) = &self.kubeconfig else { return Vec::new() };
        let Ok(text) = fs::read(file) else { return Vec::new() };
        let mut material = vec![text];
        if let Ok(kubeconfig) = Kubeconfig::read_from(file) {
            let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
            let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
            let files = clusters.filter_map(|cluster| cluster.certificate_authority.as_ref());
            let files = files.chain(
                users.flat_map(|user| user.client_certificate.iter().chain(user.client_key.iter())),
            );
            material.extend(files.map(|file| fs::read(Path::new(file)).unwrap_or_default()));
        }
        material
    }
}

/// Runs something to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })?;
    let result = runtime.block_on(future);
    // What is left, such as a name that is still being resolved, is nobody's concern any more.
    runtime.shutdown_background();
    Ok(result)
}

/// One question to the API.
pub async fn ask<T>(
    what: &str,
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(refused(what, error)),
        Err(_) => Err(Error::Slow { what: what.to_owned(), seconds: PATIENCE.as_secs() }),
    }
}

/// What kube says of a question that failed.
fn refused(what: &str, error: kube::Error) -> Error {
    let status = match &error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        // Its own words repeat themselves.
        kube::Error::Api(status) => status.message.clone().into(),
        other => other.into(),
    };
    Error::Api { what: what.to_owned(), source, status }
}
