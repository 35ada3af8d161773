//! Reads an export: a ZIP archive of documents, a directory of them, or one JSON text. One document at a time is in
//! memory, and everything has a limit. Blocking.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::copy::CopyWriter;
use super::document::{AdvisoryKind, OsvDocument};
use super::table::AdvisoryTable;
use super::{LARGEST_DOCUMENT, LARGEST_EXPORT, LARGEST_UNPACKED, MOST_DOCUMENTS};
use wheelport_runtime::sabotaged;

/// The largest export that is one JSON text, in bytes.
const LARGEST_TEXT: u64 = 16 << 20;
/// The largest directory of an archive, in bytes.
const LARGEST_DIRECTORY: u64 = 32 << 20;
/// The end record of an archive, and the longest comment behind it, in bytes.
const END_RECORD: u64 = 22;
const LONGEST_COMMENT: u64 = 1 << 16;
/// Of so many documents one may be unreadable.
const READABLE: usize = 100;

/// Why an export is not read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no readable ZIP archive: {0}")]
    Archive(#[from] zip::result::ZipError),
    #[error("it is neither a ZIP archive nor a list of OSV documents: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has more than {MOST_DOCUMENTS} documents")]
    TooMany,
    #[error("{0} is larger than {1} bytes")]
    TooLarge(String, u64),
    #[error("it holds no advisory")]
    Empty,
    #[error("{unreadable} of its {all} documents cannot be read, {name} among them")]
    Unreadable { unreadable: usize, all: usize, name: String },
    #[error("{0} reports malware and can no longer be read")]
    LostMalware(String),
}

/// Reads an export into a copy. `known` are the advisories that are in force: where a document of malware among them
/// cannot be read any more, the export cannot be used. Returns how many documents cannot be read.
pub fn read_export<W: Write>(
    path: &Path,
    known: &AdvisoryTable,
    copy: &mut CopyWriter<W>,
) -> Result<usize, ExportError> {
    let mut intake = ExportReading { copy, known, unpacked: 0, seen: 0, unreadable: Vec::new() };
    if fs::metadata(path)?.is_dir() {
        directory(path, &mut intake)?;
    } else {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > LARGEST_EXPORT {
            return Err(ExportError::TooLarge("it".to_owned(), LARGEST_EXPORT));
        }
        let mut beginning = Vec::new();
        (&file).take(2).read_to_end(&mut beginning)?;
        file.rewind()?;
        if beginning == b"PK" { archive(file, length, &mut intake)? } else { text(file, &mut intake)? }
    }
    intake.finish()
}

/// Takes in documents, within the limits.
struct ExportReading<'a, W> {
    copy: &'a mut CopyWriter<W>,
    known: &'a AdvisoryTable,
    unpacked: u64,
    seen: usize,
    /// The first of those that cannot be read is named.
    unreadable: Vec<String>,
}

impl<W: Write> ExportReading<'_, W> {
    /// Takes in a document; its name is that of its file.
    fn take(&mut self, name: &str, source: impl Read) -> Result<(), ExportError> {
        let mut bytes = Vec::new();
        let read = source.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > LARGEST_DOCUMENT && !sabotaged("advisory-document-size") {
            return Err(ExportError::TooLarge(name.to_owned(), LARGEST_DOCUMENT));
        }
        self.unpacked += bytes.len() as u64;
        if self.unpacked > LARGEST_UNPACKED {
            return Err(ExportError::TooLarge("all documents together".to_owned(), LARGEST_UNPACKED));
        }
        self.seen += 1;
        if self.seen > MOST_DOCUMENTS && !sabotaged("advisory-documents") {
            return Err(ExportError::TooMany);
        }
        match read
            .map_err(|error| error.to_string())
            .and_then(|_| OsvDocument::parse(&bytes).map_err(|error| error.to_string()))
        {
            Ok(document) => Ok(self.copy.add(document, &bytes)?),
            Err(reason) => {
                let id = name.strip_suffix(".json").unwrap_or(name);
                if self.known.kind(id) == Some(AdvisoryKind::Malware) && !sabotaged("advisory-lost") {
                    return Err(ExportError::LostMalware(id.to_owned()));
                }
                tracing::debug!(name, reason, "a document of the advisories cannot be read");
                self.unreadable.push(name.chars().filter(|c| !c.is_control()).take(100).collect());
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<usize, ExportError> {
        let unreadable = self.unreadable.len();
        if let Some(name) = self.unreadable.first().filter(|_| unreadable * READABLE > self.seen) {
            return Err(ExportError::Unreadable { unreadable, all: self.seen, name: name.clone() });
        }
        if self.copy.is_empty() && !sabotaged("advisory-empty") { Err(ExportError::Empty) } else { Ok(unreadable) }
    }
}

fn is_document(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "json") && !name.starts_with('.')
}

fn archive<W: Write>(mut file: File, length: u64, intake: &mut ExportReading<'_, W>) -> Result<(), ExportError> {
    within_directory_limit(&mut file, length)?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file))?;
    if archive.len() > MOST_DOCUMENTS {
        return Err(ExportError::TooMany);
    }
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let name = entry.name()?.rsplit('/').next().unwrap_or_default().to_owned();
        if entry.is_file() && is_document(&name) {
            intake.take(&name, entry)?;
        }
    }
    Ok(())
}

/// The directory of an archive is held in memory while it is read, so its end record is looked at first.
fn within_directory_limit(file: &mut File, length: u64) -> Result<(), ExportError> {
    let tail = length.min(END_RECORD + LONGEST_COMMENT);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut end = Vec::new();
    file.take(tail).read_to_end(&mut end)?;
    file.rewind()?;
    let at = end.windows(4).rposition(|window| window == b"PK\x05\x06");
    let record = at.and_then(|at| end.get(at..at + 16)).ok_or_else(|| io::Error::other("it has no end record"))?;
    let (entries, directory) = (&record[10..12], &record[12..16]);
    if entries == [0xff, 0xff] {
        return Err(ExportError::TooMany);
    }
    let directory = directory.try_into().map_or(u64::MAX, |bytes| u64::from(u32::from_le_bytes(bytes)));
    if directory > LARGEST_DIRECTORY {
        return Err(ExportError::TooLarge("the directory of the archive".to_owned(), LARGEST_DIRECTORY));
    }
    Ok(())
}

/// A directory of documents, and of directories of them.
fn directory<W: Write>(root: &Path, intake: &mut ExportReading<'_, W>) -> Result<(), ExportError> {
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory)? {
            paths.push(entry?.path());
            if paths.len() + waiting.len() > MOST_DOCUMENTS {
                return Err(ExportError::TooMany);
            }
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A mounted `ConfigMap` has its files twice, once behind a name that begins with a dot.
            if name.starts_with('.') {
                continue;
            }
            if fs::metadata(&path)?.is_dir() {
                waiting.push(path);
            } else if is_document(&name) {
                intake.take(&name, File::open(&path)?)?;
            }
        }
    }
    Ok(())
}

/// One document, a list of them, or an object that has them as `vulns`.
fn text<W: Write>(file: File, intake: &mut ExportReading<'_, W>) -> Result<(), ExportError> {
    let mut bytes = Vec::new();
    file.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(ExportError::TooLarge("a text".to_owned(), LARGEST_TEXT));
    }
    let documents = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice::<Vec<Box<RawValue>>>(&bytes)?,
        _ => match serde_json::from_slice::<Named>(&bytes)?.vulns {
            Some(documents) => documents,
            None => return intake.take("the document", bytes.as_slice()),
        },
    };
    for (number, document) in documents.iter().enumerate() {
        intake.take(&format!("document {}", number + 1), document.get().as_bytes())?;
    }
    Ok(())
}

/// A list under a name, as the API of OSV has it.
#[derive(Deserialize)]
struct Named {
    vulns: Option<Vec<Box<RawValue>>>,
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
