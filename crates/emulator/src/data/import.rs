//! Imports: the bytes of a public file on their way to the disk, and at the same time to the first client that asked.
//!
//! An import belongs to the emulator's tasks, so a client that leaves does not end it. One import per file runs at a
//! time; later requests wait for its end and are served from disk.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use url::Url;

use super::wheel_metadata;
use crate::public::{PublicError, PublicIndex};
use crate::shared::EmulatorState;
use crate::store::{AssetHashes, FetchedAsset, RepositoryKey, SpooledBlob, StoreError};
use wheelport_index::{FileName, ProjectName};
use wheelport_runtime::{Joined, Role, SingleFlight, Tasks};

/// Chunks that may wait for a slow client.
const QUEUE: usize = 16;
/// First requests that are remembered at most.
const REMEMBERED: usize = 10_000;

/// Imports files from the public index. Cheap to clone.
#[derive(Clone)]
pub(super) struct Importer {
    inner: Arc<ImporterInner>,
}

struct ImporterInner {
    shared: Arc<EmulatorState>,
    public: Option<PublicIndex>,
    tasks: Tasks,
    running: SingleFlight<Url, Joined<()>>,
    /// When each cold version was first requested.
    first_requests: Mutex<HashMap<(RepositoryKey, ProjectName, String), Instant>>,
}

/// A file to import.
#[derive(Clone)]
pub(super) struct ImportJob {
    pub(super) source: Url,
    /// The SHA-256 the public index names.
    pub(super) sha256: Option<String>,
    /// The repositories that record the file.
    pub(super) repositories: Vec<RepositoryKey>,
    pub(super) project: ProjectName,
    pub(super) version: String,
    pub(super) file: FileName,
}

/// How an import begins for its caller.
pub(super) enum ImportStart {
    /// The bytes pass through to the caller: their number where known, and the chunks.
    Streaming(Option<u64>, mpsc::Receiver<io::Result<Bytes>>),
    /// The file is on disk now, or the import failed; look again.
    Finished,
}

#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error(transparent)]
    Public(#[from] PublicError),
    #[error("the public index broke off the body: {0}")]
    Broken(String),
    #[error("the bytes do not have the digest that the public index names")]
    Digest,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Importer {
    pub(super) fn new(shared: Arc<EmulatorState>, public: Option<PublicIndex>, tasks: Tasks) -> Self {
        let (running, first_requests) = (SingleFlight::default(), Mutex::default());
        Self { inner: Arc::new(ImporterInner { shared, public, tasks, running, first_requests }) }
    }

    /// When a version was first requested from a repository; now, if this is the first request.
    pub(super) fn first_request(&self, key: &RepositoryKey, project: &ProjectName, version: &str) -> Instant {
        let mut first_requests = self.inner.first_requests.lock();
        if first_requests.len() >= REMEMBERED {
            first_requests.clear();
        }
        *first_requests.entry((key.clone(), project.clone(), version.to_owned())).or_insert_with(Instant::now)
    }

    /// Starts an import and streams its bytes, or waits for the one under way.
    pub(super) async fn import(&self, job: ImportJob) -> Result<ImportStart, PublicError> {
        let (opened, opening) = oneshot::channel();
        let (feed, chunks) = mpsc::channel(QUEUE);
        let importer = self.clone();
        let (source, tasks) = (job.source.clone(), &self.inner.tasks);
        let work = move || async move { importer.run(&job, opened, feed).await };
        let (joined, role) = self.inner.running.run(source, tasks, "emulator-import", work);
        if role == Role::Follower {
            // An import that ends without an outcome has ended, too.
            let _ = joined.finished().await;
            return Ok(ImportStart::Finished);
        }
        match opening.await {
            Ok(Ok(length)) => Ok(ImportStart::Streaming(length, chunks)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PublicError::Unreachable("the import ended early".to_owned())),
        }
    }

    /// Imports the complete file before it returns, for responses that need all of it.
    pub(super) async fn import_complete(&self, job: ImportJob) -> Result<(), PublicError> {
        if let ImportStart::Streaming(_, mut chunks) = self.import(job).await? {
            while let Some(chunk) = chunks.recv().await {
                chunk.map_err(|error| PublicError::Unreachable(error.to_string()))?;
            }
        }
        Ok(())
    }

    async fn run(
        &self,
        job: &ImportJob,
        opened: oneshot::Sender<Result<Option<u64>, PublicError>>,
        feed: mpsc::Sender<io::Result<Bytes>>,
    ) {
        let response = match self.open(&job.source).await {
            Ok(response) => response,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let _ = opened.send(Ok(http_body::Body::size_hint(response.body()).exact()));
        if let Err(error) = self.copy(job, response.into_body(), &feed).await {
            tracing::warn!(project = %job.project, file = %job.file, %error, "import failed");
            // The client must see a broken body, never one that ends cleanly.
            let _ = feed.send(Err(io::Error::other(error.to_string()))).await;
        }
    }

    async fn open(&self, source: &Url) -> Result<http::Response<hyper::body::Incoming>, PublicError> {
        let Some(public) = &self.inner.public else {
            return Err(PublicError::Setting("there is no external connection".to_owned()));
        };
        let response = public.open(source).await;
        self.inner.shared.stats.public_requests(public.take_requests());
        response
    }

    /// Copies the body to disk and feed. The last chunk reaches the client only after the file is recorded, so a client
    /// that has everything finds the file warm.
    async fn copy(
        &self,
        job: &ImportJob,
        mut body: hyper::body::Incoming,
        feed: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), ImportError> {
        let mut writer = self.inner.shared.store.blobs().create().await?;
        let mut held: Option<Bytes> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ImportError::Broken(error.to_string()))?;
            let Ok(chunk) = frame.into_data() else { continue };
            writer.write(&chunk).await?;
            if let Some(earlier) = held.replace(chunk) {
                // A client that left does not stop the import.
                let _ = feed.send(Ok(earlier)).await;
            }
        }
        self.record(job, writer.finish().await?).await?;
        if let Some(last) = held {
            let _ = feed.send(Ok(last)).await;
        }
        Ok(())
    }

    async fn record(&self, job: &ImportJob, spooled: SpooledBlob) -> Result<(), ImportError> {
        if job.sha256.as_ref().is_some_and(|expected| *expected != spooled.sha256.to_string()) {
            return Err(ImportError::Digest);
        }
        let (hashes, size): (AssetHashes, u64) = (spooled.hashes.clone(), spooled.size);
        let wheel = wheel_metadata::of_wheel(spooled.path().to_owned(), &job.file).await;
        let metadata = wheel.map(|wheel| wheel.metadata);
        spooled.commit().await?;
        for repository in &job.repositories {
            let ImportJob { project, version, file, .. } = job.clone();
            let fetched = FetchedAsset { version, file, hashes: hashes.clone(), size, metadata: metadata.clone() };
            self.inner.shared.store.record_fetched(repository.clone(), project, fetched).await?;
        }
        Ok(())
    }
}
