//! Publishing an upload that has arrived: check it, send it, and make it visible here before its publisher hears of a
//! success.
//!
//! ```text
//! publish ─► check ─► one at a time per file name ─► known already? ─► send ─► accepted ─► visible ─► response
//!                                                                       │ refused, unknown: look ─► same bytes there
//! ```
//!
//! All of it is one background task with one outcome. A publisher that disconnects, or that is told to come back
//! because it takes long, cancels nothing; its retry with the same bytes joins what is under way, or finds it done.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::audit::Attempt;
use super::canary::Verdict;
use super::publish_refusal::refused;
use super::shared_uploads::SharedUploads;
use super::upload::{Publication, Received, Receiving, UploadReceiver, UploadSettings};
use super::{Cause, Error, PageService, Route, unavailable};
use crate::cache::{CoreMetadataRecord, Disk, MetadataStore, PageContent, RepositoryId, Spooled};
use crate::upstream::{FileRequest, FormSection, PublishError, PublishRequest, UpstreamError};
use wheelport_index::wheel::metadata_headers;
use wheelport_index::{Algorithm, CoreMetadata, File, FileAddress, FileKind, FileName, Hashes, Sha256, Yanked};
use wheelport_index::{FormPart, FormWriter, Hasher, UploadForm};
use wheelport_runtime::{
    Clock, Entered, FairPermit, JoinError, Joined, SingleFlight, Tasks, Waits, blocking, sabotaged,
};

/// How long a publisher waits after its last byte; some give up after 10 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long upstream's page is believed when a file seems to be there already.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long an upload waits at least for the repository's address to become known, and for its turn to be sent.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(5);

/// One upload at a time per repository and file name.
type UploadKey = (RepositoryId, FileName);
/// What came of an upload, with the SHA-256 of its file.
type Delivered = (Sha256, Result<Publication, Error>);

/// Publishes into all routes. Cheap to clone.
#[derive(Clone)]
pub struct PublishService {
    inner: Arc<PublishInner>,
}

struct PublishInner {
    pages: PageService,
    metadata: MetadataStore,
    shared: SharedUploads,
    receiver: UploadReceiver,
    clock: Clock,
    deliveries: SingleFlight<UploadKey, Joined<Delivered>>,
    tasks: Tasks,
}

/// An upload that was checked.
struct CheckedUpload {
    form: UploadForm,
    spooled: Spooled,
    metadata: Vec<u8>,
    writer: FormWriter,
    /// When its publisher gets a response, whatever it is.
    deadline: Instant,
    _permit: FairPermit,
}

/// What the repository has under the name of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Same,
    Other,
    Nothing,
    /// Upstream cannot be asked.
    Unclear,
}

impl PublishService {
    pub(super) fn new(
        pages: PageService,
        metadata: MetadataStore,
        shared: SharedUploads,
        disk: Arc<Disk>,
        settings: UploadSettings,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        let (receiver, deliveries) = (UploadReceiver::new(disk, settings), SingleFlight::default());
        Self { inner: Arc::new(PublishInner { pages, metadata, shared, receiver, clock, deliveries, tasks }) }
    }

    /// The bounds of uploads.
    pub fn settings(&self) -> &UploadSettings {
        self.inner.receiver.settings()
    }

    /// Begins to receive a form of this content type, whose request came at `began`. If too many are being received, it
    /// waits for its turn as long as its publisher does.
    pub async fn receive(&self, content_type: &HeaderValue, began: Instant) -> Result<Receiving, Error> {
        self.inner.receiver.receive(content_type, began + RESPONSE_TIMEOUT).await
    }

    /// Bytes of uploads on disk, for metrics.
    pub(super) fn spooled(&self) -> u64 {
        self.inner.receiver.spooled()
    }

    /// Publishes a received upload, whose last byte was sent at `sent` or after it. `Ok` says that the file is in the
    /// repository, and that the next reader finds it.
    ///
    /// What takes longer than a publisher waits ends in [`Cause::OutcomeUnknown`] for the publisher and goes on.
    pub async fn publish(
        &self,
        route: &Arc<Route>,
        received: Received,
        sent: Instant,
        attempt: Attempt,
    ) -> Result<Publication, Error> {
        let deadline = sent + RESPONSE_TIMEOUT;
        let (service, route) = (self.clone(), Arc::clone(route));
        let published = self.inner.tasks.run("publish", async move {
            let outcome = match check(received, deadline).await {
                Ok(upload) => service.one_at_a_time(&route, upload).await,
                Err(error) => Err(error),
            };
            attempt.finish(&outcome);
            outcome
        });
        let wait = deadline.saturating_duration_since(Instant::now());
        let publishing = published.within(if sabotaged("publisher-wait") { Duration::MAX } else { wait });
        match Waits::note("publishing", publishing).await {
            Ok(outcome) => outcome,
            Err(JoinError::Elapsed) => Err(unavailable(Cause::OutcomeUnknown)),
            Err(lost @ JoinError::Lost) => Err(lost.into()),
        }
    }

    /// Publishes, or joins the upload of the same bytes, or waits for an upload of other bytes under the same name: of
    /// those, one wins.
    async fn one_at_a_time(&self, route: &Arc<Route>, upload: CheckedUpload) -> Result<Publication, Error> {
        if sabotaged("one-delivery") {
            return self.deliver_and_show(route, upload).await;
        }
        let key: UploadKey = (route.repository.clone(), upload.form.file.clone());
        let sha256 = upload.spooled.digests.sha256;
        loop {
            let other = match self.inner.deliveries.enter(key.clone()) {
                Entered::Leader(leader) => {
                    let outcome = self.deliver_and_show(route, upload).await;
                    leader.finish((sha256, outcome.clone()));
                    return outcome;
                }
                Entered::Follower(other) => other.finished().await?,
            };
            match other {
                (digest, outcome) if digest == sha256 => return outcome,
                (_, Ok(_) | Err(Error::FileExists { .. })) => return Err(Error::FileExists { file: key.1 }),
                // The other upload failed, and the name is free again.
                (_, Err(_)) => {}
            }
        }
    }

    async fn deliver_and_show(&self, route: &Arc<Route>, upload: CheckedUpload) -> Result<Publication, Error> {
        let sharing = self.inner.shared.offer(&upload.spooled);
        let publication = self.deliver(route, &upload).await?;
        sharing.wait().await;
        self.make_visible(route, upload).await?;
        Ok(publication)
    }

    /// Gets the file into the repository, or finds it there.
    async fn deliver(&self, route: &Arc<Route>, upload: &CheckedUpload) -> Result<Publication, Error> {
        if self.is_known(route, upload).await {
            return Ok(Publication::Unchanged);
        }
        // While nothing was sent the outcome is certain, and the publisher should hear that before it gives up.
        let known = tokio::time::timeout(ENDPOINT_TIMEOUT, route.publisher()).await;
        let upstream = known.map_err(|_| unavailable(Cause::Connect))??;
        let content_type = HeaderValue::try_from(upload.writer.content_type());
        let content_type = content_type.map_err(|_| Error::internal("a content type cannot be sent"))?;
        let mut repeated = false;
        loop {
            let patience = if sabotaged("publisher-patience") { Duration::from_mins(2) } else { ENDPOINT_TIMEOUT };
            let deadline = upload.deadline.max(Instant::now() + patience);
            let request = PublishRequest {
                content_type: content_type.clone(),
                length: upload.form_length(),
                deadline,
                open: &|| upload.form_sections(),
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
                _ => return Err(refused(&error, project, version.as_str())),
            };
            let existing = if sabotaged("doubt") { Existing::Nothing } else { self.look(route, upload).await };
            match existing {
                Existing::Same if in_doubt => return Ok(Publication::Published),
                Existing::Same => return Ok(Publication::Unchanged),
                Existing::Other => return Err(Error::FileExists { file: file.clone() }),
                // It is not there, so the same bytes may be offered again; the repository takes a file once.
                Existing::Nothing if in_doubt && !repeated => repeated = true,
                Existing::Nothing | Existing::Unclear => {
                    return Err(refused(&error, project, version.as_str()));
                }
            }
        }
    }

    /// Whether the held page lists exactly this file, and upstream says so too when it is asked again. A file that is
    /// listed only because it was published here a moment ago may have been deleted since, so it must be there.
    async fn is_known(&self, route: &Arc<Route>, upload: &CheckedUpload) -> bool {
        let project = &upload.form.project;
        let held = self.inner.pages.held(route, project).await;
        if !held.is_some_and(|held| on_page(&held.content, upload) == Existing::Same) {
            return false;
        }
        let again = self.inner.pages.younger_than(route, project, LOOK_AGAIN_AFTER).await;
        if !again.is_ok_and(|again| on_page(&again.content, upload) == Existing::Same) {
            return false;
        }
        let (pages, key) = (self.inner.pages.clone(), route.key(project));
        match blocking(move || pages.has_published(&key)).await {
            Ok(true) => self.is_at_address(route, upload).await,
            Ok(false) => true,
            Err(_) => false,
        }
    }

    async fn is_at_address(&self, route: &Arc<Route>, upload: &CheckedUpload) -> bool {
        let Ok(upstream) = route.upstream().await else { return false };
        let request = FileRequest { address: upload.address(), url: None, resume: None, listed: false, brief: true };
        // The headers of the response are enough; dropping the rest ends the transfer.
        upstream.file(request).await.is_ok_and(|reply| reply.length == Some(upload.spooled.content_length))
    }

    /// Looks what is in the repository under the name of an upload: on a new page, and where that does not list it, at
    /// the file's own address, because a page may be late.
    async fn look(&self, route: &Arc<Route>, upload: &CheckedUpload) -> Existing {
        let listed = match self.inner.pages.younger_than(route, &upload.form.project, Duration::ZERO).await {
            Ok(view) => on_page(&view.content, upload),
            Err(Error::NoSuchProject { .. }) => Existing::Nothing,
            Err(_) => Existing::Unclear,
        };
        match listed {
            Existing::Nothing => self.at_address(route, upload).await,
            found => found,
        }
    }

    async fn at_address(&self, route: &Arc<Route>, upload: &CheckedUpload) -> Existing {
        let request = FileRequest { address: upload.address(), url: None, resume: None, listed: false, brief: true };
        let Ok(upstream) = route.upstream().await else { return Existing::Unclear };
        let mut reply = match upstream.file(request).await {
            Ok(reply) => reply,
            Err(UpstreamError::NotFound(missing)) => {
                let verdict = self.inner.pages.settle_file(route, &missing).await;
                return if verdict == Verdict::Absent { Existing::Nothing } else { Existing::Unclear };
            }
            Err(_) => return Existing::Unclear,
        };
        if reply.length.is_some_and(|length| length != upload.spooled.content_length) {
            return Existing::Other;
        }
        let mut hasher = Hasher::new(None);
        while let Some(chunk) = reply.body.next().await {
            match chunk {
                Ok(chunk) => hasher.update(&chunk),
                Err(_) => return Existing::Unclear,
            }
        }
        if hasher.finish().sha256 == upload.spooled.digests.sha256 { Existing::Same } else { Existing::Other }
    }

    /// Puts an accepted file into the cache, and its entry onto its page. What cannot be stored is fetched later.
    async fn make_visible(&self, route: &Arc<Route>, upload: CheckedUpload) -> Result<(), Error> {
        let key = route.key(&upload.form.project);
        // Brings a persisted page into memory, so that this page gets the entry.
        let _ = self.inner.pages.held(route, &upload.form.project).await;
        let (service, project) = (self.clone(), upload.form.project.clone());
        let made = blocking(move || {
            let inner = &service.inner;
            let entry = upload.entry(inner.clock.now());
            let sha256 = upload.spooled.digests.sha256;
            if upload.form.kind == FileKind::Wheel {
                let record = CoreMetadataRecord::present(upload.metadata.into());
                inner.shared.offer_metadata(sha256, &record);
                if let Err(error) = inner.metadata.put(sha256, &record) {
                    tracing::warn!(%error, "the core metadata of a published file could not be recorded");
                }
            }
            if let Err(error) = upload.spooled.commit() {
                tracing::warn!(%error, file = %entry.name, "a published file could not be stored");
            }
            inner.pages.judge().origins().forget(&key);
            inner.pages.list_published(&key, entry.clone());
            entry
        });
        let entry = made.await?;
        self.inner.pages.share_published(route, &project, entry).await;
        Ok(())
    }
}

/// Compares what the form says with the file that arrived, and with what the file says of itself.
async fn check(received: Received, deadline: Instant) -> Result<CheckedUpload, Error> {
    let Received { form, spooled, writer, permit } = received;
    blocking(move || {
        if !sabotaged("form-digests") {
            form.check_digests(&spooled.digests)?;
        }
        let content = spooled.content().map_err(|error| {
            tracing::error!(%error, "a spooled upload cannot be read");
            unavailable(Cause::Storage)
        })?;
        let metadata = form.check_content(content)?;
        Ok(CheckedUpload { form, spooled, metadata, writer, deadline, _permit: permit })
    })
    .await?
}

/// What a page says about the name of an upload.
fn on_page(page: &PageContent, upload: &CheckedUpload) -> Existing {
    let Some(file) = page.listed_upstream(&upload.form.file) else { return Existing::Nothing };
    let digests = &upload.spooled.digests;
    let same = match file.hashes.strongest() {
        _ if file.hashes.sha256().is_some() => file.hashes.sha256() == Some(digests.sha256),
        Some((Algorithm::Md5, value)) => value == digests.md5,
        Some((Algorithm::Blake2b256, value)) => value == digests.blake2b_256,
        // Only its bytes can tell.
        _ => return Existing::Nothing,
    };
    if same { Existing::Same } else { Existing::Other }
}

impl CheckedUpload {
    /// The form for upstream without what is on disk: what was read of it, the beginning of the file, and the end.
    fn framing(&self) -> [Vec<u8>; 3] {
        let Self { form, writer, .. } = self;
        let content = FormPart { name: "content".to_owned(), file_name: Some(form.file.to_string()) };
        [form.write(writer), writer.begin(&content), [writer.end(), &writer.finish()].concat()]
    }

    fn form_length(&self) -> u64 {
        let framing: usize = self.framing().iter().map(Vec::len).sum();
        framing as u64 + self.spooled.fields_length + self.spooled.content_length
    }

    fn form_sections(&self) -> io::Result<Vec<FormSection>> {
        let [head, content, end] = self.framing().map(|bytes| FormSection::Bytes(bytes.into()));
        let (fields, file) = (self.spooled.fields()?, self.spooled.content()?);
        Ok(vec![head, FormSection::File(fields), content, FormSection::File(file), end])
    }

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
            extra: wheelport_index::Extra::default(),
        }
    }
}
