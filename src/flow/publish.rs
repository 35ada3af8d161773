//! Publishing an upload that has arrived: check it, send it, and before its publisher hears of a success make it
//! visible here.
//!
//! ```text
//! publish ─► check ─► one at a time per file name ─► known already? ─► send ─► accepted ─► visible ─► answer
//!                                                                       │ refused, unknown: look ─► same bytes there
//! ```
//!
//! All of it runs as a task of ours. A publisher that leaves, or that is told to come back because it takes long, stops
//! nothing; its retry with the same bytes joins what is under way, or finds it done.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::audit::Attempt;
use super::refusal::refused;
use super::upload::{Publication, Received};
use super::{Flow, Route, Waiter, blocking, unavailable};
use crate::cache::{PageRecord, RepositoryId, Sidecar, Spooled, Stamp};
use crate::error::{Cause, Error};
use crate::upstream::{FileRequest, PublishError, PublishRequest, UpstreamError};
use wheelport_index::wheel::metadata_headers;
use wheelport_index::{Algorithm, CoreMetadata, File, FileAddress, FileKind, FileName, Hashes, Page, Sha256, Yanked};
use wheelport_index::{Hasher, UploadForm};

/// How long a publisher waits after its last byte; some give up after 10 s.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(9);
/// What upstream's page says is believed for so long when a file seems to be there already.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long an upload waits for the repository's address to become known, as it may at the start.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(5);
/// The age of a page that was never fetched: older than any page that may be served.
const LONG_AGO: Duration = Duration::from_hours(24 * 365);

/// One upload at a time per repository and file name.
pub(super) type FlightKey = (RepositoryId, FileName);

/// An upload under way.
#[derive(Clone)]
pub(super) struct UnderWay {
    sha256: Sha256,
    outcome: Waiter<Publication>,
}

/// An upload that was checked.
struct Upload {
    form: UploadForm,
    spooled: Spooled,
    metadata: Vec<u8>,
    content_type: HeaderValue,
    _place: OwnedSemaphorePermit,
}

/// What is to be found under the name of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Same,
    Other,
    Nothing,
    /// Upstream cannot be asked.
    Unclear,
}

impl Flow {
    /// Publishes a received upload. `Ok` says that the file is in the repository, and that the next reader finds it.
    ///
    /// What takes longer than a publisher waits ends in [`Cause::OutcomeUnknown`] for the publisher and goes on.
    pub async fn publish(
        &self,
        route: &Arc<Route>,
        received: Received,
        attempt: Attempt,
    ) -> Result<Publication, Error> {
        let until = Instant::now() + ANSWER_WITHIN;
        let (sender, waiter) = watch::channel(None);
        let (flow, route) = (self.clone(), Arc::clone(route));
        self.shared.tasks.spawn("publish", async move {
            let outcome = match check(received).await {
                Ok(upload) => flow.one_at_a_time(&route, upload).await,
                Err(error) => Err(error),
            };
            attempt.finish(&outcome);
            sender.send_replace(Some(outcome));
        });
        match tokio::time::timeout_at(until, ended(waiter)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(unavailable(Cause::OutcomeUnknown)),
        }
    }

    /// Publishes, or joins who is publishing the same bytes, or waits for who is publishing other bytes under the same
    /// name: of those, one wins.
    async fn one_at_a_time(&self, route: &Arc<Route>, upload: Upload) -> Result<Publication, Error> {
        let key: FlightKey = (route.repository.clone(), upload.form.file.clone());
        let (file, sha256) = (upload.form.file.clone(), upload.spooled.digests.sha256);
        let mut upload = Some(upload);
        loop {
            let (flow, leading) = (self.clone(), Arc::clone(route));
            let (under_way, _) = self.shared.publishes.join(key.clone(), &self.shared.tasks, "publish", || {
                let upload = upload.take().expect("who has led returns");
                let (sender, outcome) = watch::channel(None);
                (UnderWay { sha256, outcome }, async move {
                    let outcome = flow.lead(&leading, upload).await;
                    sender.send_replace(Some(outcome));
                })
            });
            let outcome = ended(under_way.outcome).await;
            if under_way.sha256 == sha256 {
                return outcome;
            }
            if let Ok(_) | Err(Error::FileExists { .. }) = outcome {
                return Err(Error::FileExists { file });
            }
            // The other one failed; its place is free in a moment.
            tokio::task::yield_now().await;
        }
    }

    async fn lead(&self, route: &Arc<Route>, upload: Upload) -> Result<Publication, Error> {
        let publication = self.deliver(route, &upload).await?;
        self.make_visible(route, upload).await?;
        Ok(publication)
    }

    /// Gets the file into the repository, or finds it there.
    async fn deliver(&self, route: &Arc<Route>, upload: &Upload) -> Result<Publication, Error> {
        if self.is_known(route, upload).await {
            return Ok(Publication::Unchanged);
        }
        // While nothing was sent the outcome is certain, and the publisher shall hear that within its patience.
        let known = tokio::time::timeout(ENDPOINT_PATIENCE, route.publisher()).await;
        let upstream = known.map_err(|_| unavailable(Cause::Connect))??;
        let mut repeated = false;
        loop {
            let request = PublishRequest {
                content_type: upload.content_type.clone(),
                length: upload.spooled.form_length,
                open: &|| upload.spooled.form(),
            };
            let error = match upstream.publish(request).await {
                Ok(()) => return Ok(Publication::Published),
                Err(error) => error,
            };
            let UploadForm { project, version, file, .. } = &upload.form;
            tracing::warn!(route = %route.name, %project, %file, %error, "an upload was not accepted");
            let in_doubt = match &error {
                PublishError::Unknown(_) => true,
                PublishError::Conflict { .. } | PublishError::Denied { .. } | PublishError::Refused { .. } => false,
                _ => return Err(refused(&error, project, version.as_str(), &route.label)),
            };
            match self.look(route, upload).await {
                Found::Same if in_doubt => return Ok(Publication::Published),
                Found::Same => return Ok(Publication::Unchanged),
                Found::Other => return Err(Error::FileExists { file: file.clone() }),
                // It is not there, so the same bytes may be offered again; the repository takes a file once.
                Found::Nothing if in_doubt && !repeated => repeated = true,
                Found::Nothing | Found::Unclear => {
                    return Err(refused(&error, project, version.as_str(), &route.label));
                }
            }
        }
    }

    /// Whether the page that is held lists exactly this file, and upstream says so too when it is asked again. What is
    /// listed only because it was published here a moment ago may have been deleted since, so it has to be at its address.
    async fn is_known(&self, route: &Arc<Route>, upload: &Upload) -> bool {
        let project = &upload.form.project;
        let held = self.held_page(route, project).await;
        if !held.is_some_and(|held| on_page(&held, upload) == Found::Same) {
            return false;
        }
        let again = self.page_younger_than(route, project, LOOK_AGAIN_AFTER).await;
        if !again.is_ok_and(|again| on_page(&again.record, upload) == Found::Same) {
            return false;
        }
        let (flow, key) = (self.clone(), route.key(project));
        match blocking(move || flow.shared.published.has(&key)).await {
            Ok(true) => self.is_at_address(route, upload).await,
            Ok(false) => true,
            Err(_) => false,
        }
    }

    async fn is_at_address(&self, route: &Arc<Route>, upload: &Upload) -> bool {
        let Ok(upstream) = route.upstream().await else { return false };
        let request = FileRequest { address: upload.address(), url: None, resume: None, listed: false };
        // The head of the answer is enough; dropping the rest ends the transfer.
        upstream.file(request).await.is_ok_and(|reply| reply.length == Some(upload.spooled.content_length))
    }

    /// Looks what is in the repository under the name of an upload: on a new page, and where that does not list it, at
    /// the file's own address, because a page may be late.
    async fn look(&self, route: &Arc<Route>, upload: &Upload) -> Found {
        let listed = match self.page_younger_than(route, &upload.form.project, Duration::ZERO).await {
            Ok(answer) => on_page(&answer.record, upload),
            Err(Error::NoSuchProject { .. }) => Found::Nothing,
            Err(_) => Found::Unclear,
        };
        match listed {
            Found::Nothing => self.at_address(route, upload).await,
            found => found,
        }
    }

    async fn at_address(&self, route: &Arc<Route>, upload: &Upload) -> Found {
        let request = FileRequest { address: upload.address(), url: None, resume: None, listed: false };
        let Ok(upstream) = route.upstream().await else { return Found::Unclear };
        let mut reply = match upstream.file(request).await {
            Ok(reply) => reply,
            Err(UpstreamError::NotFound) => return Found::Nothing,
            Err(_) => return Found::Unclear,
        };
        if reply.length.is_some_and(|length| length != upload.spooled.content_length) {
            return Found::Other;
        }
        let mut hasher = Hasher::new(None);
        while let Some(piece) = reply.body.next().await {
            match piece {
                Ok(piece) => hasher.update(&piece),
                Err(_) => return Found::Unclear,
            }
        }
        if hasher.finish().sha256 == upload.spooled.digests.sha256 { Found::Same } else { Found::Other }
    }

    /// Puts an accepted file into the cache, and its entry onto its page. What cannot be kept is fetched later.
    async fn make_visible(&self, route: &Arc<Route>, upload: Upload) -> Result<(), Error> {
        let key = route.key(&upload.form.project);
        // Brings a persisted page into memory, so that it is this one that gets the entry.
        let _ = self.held_page(route, &upload.form.project).await;
        let flow = self.clone();
        blocking(move || {
            let shared = &flow.shared;
            let entry = upload.entry(shared.clock.now());
            let sha256 = upload.spooled.digests.sha256;
            if upload.form.kind == FileKind::Wheel
                && let Err(error) = shared.sidecars.put(sha256, &Sidecar::present(upload.metadata.into()))
            {
                tracing::warn!(%error, "the core metadata of a published file could not be kept");
            }
            if let Err(error) = upload.spooled.keep() {
                tracing::warn!(%error, file = %entry.name, "a published file could not be kept");
            }
            if let Err(error) = shared.published.add(&key, entry) {
                tracing::warn!(%error, "a published file is remembered until the next start only");
            }
            shared.pages.clear_note(&key);
            let long_ago = Stamp::aged(LONG_AGO);
            match shared.pages.get(&key) {
                Some(held) => flow.show(&key, held.content.page.clone(), held.fetched, held.persisted),
                // A page that is long out of date: the next reader asks upstream, and sees this file in any case.
                None => flow.show(&key, Page::empty(key.project.clone()), long_ago, long_ago),
            };
        })
        .await
    }
}

/// Waits for an outcome, however long it takes.
async fn ended(mut waiter: Waiter<Publication>) -> Result<Publication, Error> {
    match waiter.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(Error::Internal)),
        Err(_leader_died) => Err(Error::Internal),
    }
}

/// Compares what the form says with the file that arrived, and with what the file says of itself.
async fn check(received: Received) -> Result<Upload, Error> {
    let Received { form, spooled, content_type, place } = received;
    blocking(move || {
        form.check_digests(&spooled.digests)?;
        let content = spooled.content().map_err(|error| {
            tracing::error!(%error, "a spooled upload cannot be read");
            unavailable(Cause::Storage)
        })?;
        let metadata = form.check_content(content)?;
        Ok(Upload { form, spooled, metadata, content_type, _place: place })
    })
    .await?
}

/// What a page says about the name of an upload.
fn on_page(record: &PageRecord, upload: &Upload) -> Found {
    let Some(file) = record.content.file(&upload.form.file) else { return Found::Nothing };
    let digests = &upload.spooled.digests;
    let same = match file.hashes.strongest() {
        _ if file.hashes.sha256().is_some() => file.hashes.sha256() == Some(digests.sha256),
        Some((Algorithm::Md5, value)) => value == digests.md5,
        Some((Algorithm::Blake2b256, value)) => value == digests.blake2b_256,
        // Only its bytes can tell.
        _ => return Found::Nothing,
    };
    if same { Found::Same } else { Found::Other }
}

impl Upload {
    fn address(&self) -> FileAddress {
        FileAddress {
            project: self.form.project.clone(),
            version: self.form.version.clone(),
            file: self.form.file.clone(),
        }
    }

    /// The entry of the file on its page, until upstream has its own.
    fn entry(&self, now: std::time::SystemTime) -> File {
        let mut hashes = Hashes::default();
        hashes.insert("sha256", &self.spooled.digests.sha256.to_string());
        File {
            name: self.form.file.clone(),
            version: self.form.version.clone(),
            url: None,
            hashes,
            requires_python: metadata_headers(&self.metadata).requires_python,
            size: Some(self.spooled.content_length),
            upload_time: Some(humantime::format_rfc3339_micros(now).to_string()),
            yanked: Yanked::No,
            core_metadata: CoreMetadata::Absent,
            gpg_sig: None,
            provenance: None,
            extra: serde_json::Map::new(),
        }
    }
}
