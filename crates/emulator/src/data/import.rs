//! Imports: the bytes of a public file on their way to the disk, and at the same time to the client that asked first.
//!
//! An import belongs to the emulator's tasks, so a client that leaves does not end it. One import per file runs at a
//! time; whoever comes later waits for its end and is served from disk.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use url::Url;

use super::{DataPlane, metadata};
use crate::public::PublicError;
use crate::store::{AssetHashes, Came, RepositoryKey, Spooled, StoreError};
use wheelport_index::{FileName, ProjectName};

/// Pieces that wait for a slow client.
const QUEUE: usize = 16;
/// Moments of first requests that are remembered at most.
const REMEMBERED: usize = 10_000;

/// What is under way, and when cold versions were first asked for.
#[derive(Default)]
pub(super) struct Imports {
    running: Mutex<HashMap<Url, watch::Receiver<bool>>>,
    first_asked: Mutex<HashMap<(RepositoryKey, ProjectName, String), Instant>>,
}

/// A file to import.
#[derive(Clone)]
pub(super) struct Import {
    /// Where it is.
    pub source: Url,
    /// The SHA-256 the public index names.
    pub sha256: Option<String>,
    /// Repositories that record it.
    pub repositories: Vec<RepositoryKey>,
    /// The project.
    pub project: ProjectName,
    /// The version.
    pub version: String,
    /// The file name.
    pub file: FileName,
}

/// How an import begins for the one who asks.
pub(super) enum Begun {
    /// It passes its bytes on: their number where known, and the pieces.
    Streaming(Option<u64>, mpsc::Receiver<io::Result<Bytes>>),
    /// The file is on disk now, or the import failed; look again.
    Finished,
}

#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error(transparent)]
    Public(#[from] PublicError),
    #[error("the public index breaks off: {0}")]
    Broken(String),
    #[error("the bytes do not have the digest that the public index names")]
    Digest,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Imports {
    /// When a version was first asked for in a repository; this moment, if it is now.
    pub(super) fn first_asked(&self, key: &RepositoryKey, project: &ProjectName, version: &str) -> Instant {
        let mut asked = self.first_asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= REMEMBERED {
            asked.clear();
        }
        *asked.entry((key.clone(), project.clone(), version.to_owned())).or_insert_with(Instant::now)
    }
}

impl DataPlane {
    /// Begins an import and passes its bytes on, or waits for the one that runs.
    pub(super) async fn import(&self, import: Import) -> Result<Begun, PublicError> {
        let finished = {
            let mut running = self.inner.imports.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(finished) = running.get(&import.source) {
                Err(finished.clone())
            } else {
                let (finish, finished) = watch::channel(false);
                running.insert(import.source.clone(), finished);
                Ok(finish)
            }
        };
        let finish = match finished {
            Ok(finish) => finish,
            Err(mut finished) => {
                // The sender is dropped only after it said so, or with its task; both are an end.
                let _ = finished.wait_for(|done| *done).await;
                return Ok(Begun::Finished);
            }
        };
        let (opened, opening) = oneshot::channel();
        let (feed, pieces) = mpsc::channel(QUEUE);
        let plane = self.clone();
        self.inner.tasks.spawn("emulator-import", async move {
            let result = plane.run_import(&import, opened, feed).await;
            if let Err(error) = result {
                tracing::warn!(project = %import.project, file = %import.file, %error, "import failed");
            }
            let mut running = plane.inner.imports.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.remove(&import.source);
            finish.send_replace(true);
        });
        match opening.await {
            Ok(Ok(length)) => Ok(Begun::Streaming(length, pieces)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PublicError::Unreachable("the import ended early".to_owned())),
        }
    }

    /// Imports completely before it returns, for answers that need the whole file.
    pub(super) async fn import_whole(&self, import: Import) -> Result<(), PublicError> {
        if let Begun::Streaming(_, mut pieces) = self.import(import).await? {
            while let Some(piece) = pieces.recv().await {
                piece.map_err(|error| PublicError::Unreachable(error.to_string()))?;
            }
        }
        Ok(())
    }

    async fn run_import(
        &self,
        import: &Import,
        opened: oneshot::Sender<Result<Option<u64>, PublicError>>,
        feed: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), ImportError> {
        let Some(public) = &self.inner.public else {
            let _ = opened.send(Err(PublicError::Setting("there is no external connection".to_owned())));
            return Ok(());
        };
        let response = public.open(&import.source).await;
        self.shared().stats.public_requests(public.take_requests());
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let _ = opened.send(Err(error));
                return Ok(());
            }
        };
        let length = http_body::Body::size_hint(response.body()).exact();
        let _ = opened.send(Ok(length));
        let result = self.copy(import, response.into_body(), &feed).await;
        if let Err(error) = &result {
            // The client must see a broken body, never one that ends cleanly.
            let _ = feed.send(Err(io::Error::other(error.to_string()))).await;
        }
        result
    }

    /// Copies body to disk and feed. The last piece reaches the client only after the file is recorded, so a client
    /// that has everything finds the file warm.
    async fn copy(
        &self,
        import: &Import,
        mut body: hyper::body::Incoming,
        feed: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), ImportError> {
        let mut writer = self.shared().store.blobs().create().await?;
        let mut held: Option<Bytes> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ImportError::Broken(error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            writer.write(&piece).await?;
            if let Some(earlier) = held.replace(piece) {
                // A client that left does not stop the import.
                let _ = feed.send(Ok(earlier)).await;
            }
        }
        self.record(import, writer.finish().await?).await?;
        if let Some(last) = held {
            let _ = feed.send(Ok(last)).await;
        }
        Ok(())
    }

    async fn record(&self, import: &Import, spooled: Spooled) -> Result<(), ImportError> {
        if import.sha256.as_ref().is_some_and(|expected| *expected != spooled.sha256.to_string()) {
            return Err(ImportError::Digest);
        }
        let (hashes, size): (AssetHashes, u64) = (spooled.hashes.clone(), spooled.size);
        let says = metadata::of_wheel(spooled.path().to_owned(), &import.file).await;
        let metadata = says.map(|says| says.metadata);
        spooled.keep().await?;
        for repository in &import.repositories {
            let Import { project, version, file, .. } = import.clone();
            let came = Came { version, file, hashes: hashes.clone(), size, metadata: metadata.clone() };
            self.shared().store.asset_came(repository.clone(), project, came).await?;
        }
        Ok(())
    }
}
