//! Receiving an upload: the file goes to disk as it comes, is hashed on the way, and checked at its end.
//!
//! ```text
//! receive ─► take … take ─► finish ─► publish: digests, the file's own metadata ─► (publish.rs)
//! ```
//!
//! Memory holds one batch and the few fields that decide something, however large the file is; the other fields go to
//! disk as well. The form for upstream is written from what was read here, with a boundary of ours, so that the
//! repository cannot read it differently. Nothing of an upload is visible before upstream has accepted it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Cause, Error, unavailable};
use crate::cache::{Disk, Spool, SpoolError, SpoolSpace, Spooled};
use wheelport_index::{FormEvent, FormFields, FormParser, FormPart, FormWriter, ProjectName, UploadForm};
use wheelport_runtime::{FairLimiter, FairPermit, HumanDuration, Permits, Size, Waits, blocking, sabotaged};

/// What boundaries and heads of a form may take besides the contents of its fields, in bytes.
const FRAMING: u64 = 1 << 20;
/// Uploads that wait for their turn at most.
const MAX_QUEUE: usize = 1000;

/// The `[upload]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UploadSettings {
    /// The largest file.
    pub max_file_size: Size,
    /// What all other fields of a form may have together.
    pub max_fields_size: Size,
    /// Fields of a form at most.
    pub max_fields: usize,
    /// Uploads received at once; more wait, fairly between clients.
    pub max_at_once: usize,
    /// What all uploads may take of the cache directory together.
    pub spool_max: Size,
    /// The longest silence of a publisher.
    pub stall_timeout: HumanDuration,
    /// The fewest bytes per second that a publisher must send, measured over [`UploadSettings::stall_timeout`].
    pub min_rate: Size,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            // What CodeArtifact takes, unless the quota is raised.
            max_file_size: Size::gib(5),
            max_fields_size: Size::mib(4),
            max_fields: 2000,
            max_at_once: 16,
            spool_max: Size::gib(10),
            stall_timeout: HumanDuration::secs(30),
            min_rate: Size(1024),
        }
    }
}

impl UploadSettings {
    /// A limit that no upload is within.
    pub fn zero(&self) -> Option<&'static str> {
        let limits = [
            ("[upload] max_file_size", self.max_file_size.bytes() == 0),
            ("[upload] max_fields_size", self.max_fields_size.bytes() == 0),
            ("[upload] max_fields", self.max_fields == 0),
            ("[upload] max_at_once", self.max_at_once == 0),
            ("[upload] spool_max", self.spool_max.bytes() == 0),
            ("[upload] stall_timeout", self.stall_timeout.get().is_zero()),
        ];
        limits.into_iter().find(|(_, is_zero)| *is_zero).map(|(name, _)| name)
    }

    /// The largest file that can be received, in bytes.
    fn largest_file(&self) -> u64 {
        self.max_file_size.bytes().min(self.spool_max.bytes())
    }

    /// The largest form.
    pub fn max_form_size(&self) -> u64 {
        self.largest_file().saturating_add(self.max_fields_size.bytes()).saturating_add(FRAMING)
    }

    /// The error for a form that is larger.
    pub fn too_large(&self) -> Error {
        Error::UploadTooLarge { what: "a file", limit: self.largest_file() }
    }
}

/// How publishing ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The repository has accepted the file.
    Published,
    /// The repository had it already, byte for byte.
    Unchanged,
}

impl Publication {
    /// The log label, and the word that the publisher sees.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An upload that is arriving. Dropping it leaves nothing behind.
pub struct Receiving {
    parser: FormParser,
    reader: FormReader,
    /// The bytes of the form so far.
    length: u64,
    permit: FairPermit,
}

/// An upload that has arrived complete.
pub struct Arrived {
    fields: FormFields,
    pub(super) spooled: Spooled,
    writer: FormWriter,
    permit: FairPermit,
}

/// An upload that has arrived complete, with a form that keeps the rules.
pub struct Received {
    pub(super) form: UploadForm,
    pub(super) spooled: Spooled,
    pub(super) writer: FormWriter,
    pub(super) permit: FairPermit,
}

struct FormReader {
    settings: UploadSettings,
    spool: Spool,
    writer: FormWriter,
    fields: FormFields,
    part: Option<CurrentPart>,
    count: usize,
    text: u64,
}

/// The part that is being read.
enum CurrentPart {
    Content,
    /// A field that decides something.
    Field {
        name: String,
        value: Vec<u8>,
    },
    /// A field that is passed on as it is.
    Passed,
    Ignored,
}

/// Receives uploads into temporary files.
pub(super) struct UploadReceiver {
    disk: Arc<Disk>,
    settings: UploadSettings,
    /// Permits for uploads that are received at the same time.
    permits: Arc<FairLimiter<Permits>>,
    space: Arc<SpoolSpace>,
}

impl UploadReceiver {
    pub(super) fn new(disk: Arc<Disk>, settings: UploadSettings) -> Self {
        let permits = if sabotaged("upload-share") { Permits::new } else { Permits::shared };
        let permits = FairLimiter::new(permits(settings.max_at_once.max(1)), MAX_QUEUE);
        let space = SpoolSpace::new(settings.spool_max.bytes());
        Self { disk, settings, permits: Arc::new(permits), space }
    }

    /// The bounds of uploads.
    pub(super) fn settings(&self) -> &UploadSettings {
        &self.settings
    }

    /// Bytes of uploads on disk.
    pub(super) fn spooled(&self) -> u64 {
        self.space.used()
    }

    /// Begins to receive a form of this content type, as soon as it is its turn. Nothing of it is read before that.
    pub(super) async fn receive(&self, content_type: &HeaderValue, deadline: Instant) -> Result<Receiving, Error> {
        let text = content_type.to_str().unwrap_or_default();
        let parser = FormParser::new(text)?;
        let deadline = if sabotaged("upload-queue") { Instant::now() } else { deadline };
        let permit = Waits::note("turn", FairPermit::acquire(&self.permits, deadline)).await;
        let permit = permit.map_err(|_| unavailable(Cause::Busy))?;
        let (disk, space) = (Arc::clone(&self.disk), Arc::clone(&self.space));
        let spool = blocking(move || Spool::begin(&disk, &space)).await?;
        let spool = spool.map_err(|error| cannot_spool(&error.into()))?;
        let (settings, writer, fields) = (self.settings.clone(), FormWriter::new(random()), FormFields::default());
        let reader = FormReader { settings, spool, writer, fields, part: None, count: 0, text: 0 };
        Ok(Receiving { parser, reader, length: 0, permit })
    }
}

/// Bits that no publisher can guess: the standard library's hashers have secret random keys.
fn random() -> u128 {
    let half = || if sabotaged("boundary") { 7 } else { u128::from(RandomState::new().build_hasher().finish()) };
    half() << 64 | half()
}

fn cannot_spool(error: &SpoolError) -> Error {
    tracing::error!(%error, "an upload cannot be spooled");
    match error {
        SpoolError::Full => unavailable(Cause::Busy),
        SpoolError::Storage(_) => unavailable(Cause::Storage),
    }
}

impl Receiving {
    /// Takes the next bytes of the form, and says whether they are good. What is known of the upload is so in any case.
    pub async fn take(self, batch: Vec<Bytes>) -> Result<(Self, Result<(), Error>), Error> {
        let taken = blocking(move || {
            let mut receiving = self;
            let outcome = batch.iter().try_for_each(|chunk| receiving.chunk(chunk));
            (receiving, outcome)
        });
        Ok(taken.await?)
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let reader = &mut self.reader;
        self.length += chunk.len() as u64;
        if self.length > reader.settings.max_form_size() {
            return Err(reader.settings.too_large());
        }
        self.parser.feed(chunk, &mut |event| reader.event(event))
    }

    /// The project, as soon as the form has named one.
    pub fn project(&self) -> Option<ProjectName> {
        self.fields().project()
    }

    /// The fields that have arrived.
    pub(super) fn fields(&self) -> &FormFields {
        &self.reader.fields
    }

    /// Everything has arrived: the form must be complete.
    pub fn finish(self) -> Result<Arrived, Error> {
        self.parser.finish()?;
        let FormReader { spool, fields, writer, .. } = self.reader;
        Ok(Arrived { fields, spooled: spool.finish(), writer, permit: self.permit })
    }
}

impl Arrived {
    /// The form must keep the rules.
    pub fn check(self) -> Result<Received, Error> {
        let Self { fields, spooled, writer, permit } = self;
        Ok(Received { form: fields.check()?, spooled, writer, permit })
    }
}

impl Received {
    /// What the form says.
    pub fn form(&self) -> &UploadForm {
        &self.form
    }
}

impl FormReader {
    fn event(&mut self, event: FormEvent<'_>) -> Result<(), Error> {
        match event {
            FormEvent::Begin(part) => self.begin(part),
            FormEvent::Data(data) => self.data(data),
            FormEvent::End => match self.part.take() {
                Some(CurrentPart::Field { name, value }) => {
                    if sabotaged("canonical-form") {
                        self.pass(&self.writer.field(&name, &String::from_utf8_lossy(&value)))?;
                    }
                    Ok(self.fields.put(&name, value)?)
                }
                Some(CurrentPart::Passed) => self.pass(self.writer.end()),
                _ => Ok(()),
            },
        }
    }

    fn begin(&mut self, part: FormPart) -> Result<(), Error> {
        self.count += 1;
        if self.count > self.settings.max_fields && !sabotaged("field-count") {
            let reason = format!("the form has more than {} fields", self.settings.max_fields);
            return Err(Error::UploadRefused { reason });
        }
        self.part = Some(if FormFields::wants(&part.name)? {
            CurrentPart::Field { name: part.name, value: Vec::new() }
        } else if part.name == "content" {
            self.fields.content(part.file_name)?;
            CurrentPart::Content
        } else if part.name.eq_ignore_ascii_case("_charset_") {
            // It would say how to read the others (RFC 7578), which are UTF-8.
            CurrentPart::Ignored
        } else {
            self.pass(&self.writer.begin(&part))?;
            CurrentPart::Passed
        });
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.spool.write_fields(bytes).map_err(|error| cannot_spool(&error))
    }

    fn data(&mut self, data: &[u8]) -> Result<(), Error> {
        let size = data.len() as u64;
        if let Some(CurrentPart::Content) = self.part {
            if self.spool.content_length() + size > self.settings.largest_file() && !sabotaged("file-size") {
                return Err(self.settings.too_large());
            }
            return self.spool.write_content(data).map_err(|error| cannot_spool(&error));
        }
        self.text += size;
        if self.text > self.settings.max_fields_size.bytes() && !sabotaged("fields-size") {
            let limit = self.settings.max_fields_size.bytes();
            return Err(Error::UploadTooLarge { what: "the fields of a form", limit });
        }
        match &mut self.part {
            Some(CurrentPart::Field { value, .. }) => value.extend_from_slice(data),
            Some(CurrentPart::Passed) => return self.pass(data),
            _ => {}
        }
        Ok(())
    }
}
