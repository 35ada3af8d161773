//! Core metadata out of a wheel (PEP 427, PEP 658), and its header fields.
//!
//! Blocking and bounded: the caller runs it on a thread that may block. The bytes come back unmodified, because clients
//! compare them with a digest, and installers compare them with the wheel's own copy. We extract no metadata from an
//! ambiguous wheel; clients then read the wheel itself.

use std::io::{ErrorKind, Read, Seek};
use std::str;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::excerpt::excerpt;
use crate::filename::{Distribution, FileKind, FileName};
use crate::name::ProjectName;
use crate::version::VersionKey;

/// The largest `METADATA` that is read, in bytes.
const MAX_METADATA: u64 = 16 << 20;
/// How many times larger than its compressed form `METADATA` may be; above this it is a decompression bomb. Deflate
/// cannot exceed about 1030, and prose stays below 20.
const MAX_RATIO: u64 = 200;
/// The most entries of a wheel.
const MAX_ENTRIES: usize = 200_000;

const METADATA_FILE: &str = "METADATA";
const DIST_INFO: &str = ".dist-info";

/// Why no core metadata can be taken from a wheel.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// The name is not `{name}-{version}[-{build}]-{python}-{abi}-{platform}.whl`.
    #[error("{0} is not the file name of a wheel")]
    NotAWheel(FileName),
    /// The file cannot be read.
    #[error("the wheel cannot be read")]
    Read(#[source] std::io::Error),
    /// Not a ZIP archive, or a broken one.
    #[error("the wheel is not a readable ZIP archive: {0}")]
    Archive(String),
    #[error("the wheel has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// There is no `*.dist-info/METADATA`.
    #[error("the wheel has no `.dist-info/METADATA`")]
    Missing,
    /// More than one entry could be meant.
    #[error("the wheel has several entries that could be its metadata")]
    Ambiguous,
    #[error("the metadata of the wheel is encrypted")]
    Encrypted,
    /// The metadata is too large, in itself or compared with its compressed form.
    #[error(
        "the metadata of the wheel is larger than {MAX_METADATA} bytes, or implausibly larger than its compressed form"
    )]
    TooLarge,
    /// The metadata is for another project or version than the file name.
    #[error("the metadata of the wheel names {found:?} as its {field}; its file name says {expected:?}")]
    Disagrees {
        /// `Name` or `Version`.
        field: &'static str,
        /// What the file name says.
        expected: String,
        /// What the metadata says; empty if it has no such field.
        found: String,
    },
}

impl From<ZipError> for WheelError {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(source) => Self::Read(source),
            other => Self::Archive(excerpt(&other.to_string())),
        }
    }
}

/// The bytes of `METADATA` in the wheel that is called `name`.
///
/// Its directory is the one that agrees with the file name after normalisation. A single `.dist-info` directory of
/// another name will do as well, if the metadata itself agrees.
pub fn core_metadata(file: impl Read + Seek, name: &FileName) -> Result<Vec<u8>, WheelError> {
    let Some(expected) = name.distribution().filter(|distribution| distribution.kind == FileKind::Wheel) else {
        return Err(WheelError::NotAWheel(name.clone()));
    };
    let mut archive = ZipArchive::new(file)?;
    if archive.len() > MAX_ENTRIES {
        return Err(WheelError::TooManyEntries);
    }
    let position = locate(&archive, &expected)?;
    let bytes = read_entry(&mut archive, position)?;
    agree(&bytes, &expected)?;
    Ok(bytes)
}

/// The position of the one entry that is the wheel's metadata.
fn locate<R>(archive: &ZipArchive<R>, expected: &Distribution) -> Result<usize, WheelError>
where
    R: Read + Seek,
{
    let directories: Vec<(usize, &str)> = archive
        .file_names_raw()
        .enumerate()
        .filter_map(|(position, raw)| {
            let (directory, file) = str::from_utf8(raw).ok()?.split_once('/')?;
            let directory = directory.strip_suffix(DIST_INFO)?;
            (file == METADATA_FILE).then_some((position, directory))
        })
        .collect();
    let mut agreeing = directories.iter().filter(|(_, directory)| names(directory, expected));
    let position = match (agreeing.next(), agreeing.next(), directories.as_slice()) {
        (Some((position, _)), None, _) | (None, None, [(position, _)]) => *position,
        (None, None, []) => return Err(WheelError::Missing),
        _ => return Err(WheelError::Ambiguous),
    };
    // Of two entries with one name, the archive shows one; another reader may take the other one.
    if archive.has_duplicate_names() {
        return Err(WheelError::Ambiguous);
    }
    Ok(position)
}

/// Whether `{name}-{version}` of a `.dist-info` directory means this distribution.
fn names(directory: &str, expected: &Distribution) -> bool {
    directory.split_once('-').is_some_and(|(project, version)| {
        ProjectName::parse(project).is_ok_and(|project| project == expected.project)
            && VersionKey::of(version) == VersionKey::of(&expected.version)
    })
}

fn read_entry<R: Read + Seek>(archive: &mut ZipArchive<R>, position: usize) -> Result<Vec<u8>, WheelError> {
    let entry = archive.by_index_raw(position)?;
    if entry.encrypted() {
        return Err(WheelError::Encrypted);
    }
    // The sizes are only what the archive claims. They allow an early refusal; the limit on the reader is what
    // protects.
    let (size, compressed) = (entry.size(), entry.compressed_size());
    let limit = MAX_METADATA.min(compressed.max(1).saturating_mul(MAX_RATIO));
    if size > limit {
        return Err(WheelError::TooLarge);
    }
    drop(entry);
    let mut bytes = Vec::new();
    archive.by_index(position)?.take(limit + 1).read_to_end(&mut bytes).map_err(|error| match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            WheelError::Archive(excerpt(&error.to_string()))
        }
        _ => WheelError::Read(error),
    })?;
    if bytes.len() as u64 > limit {
        return Err(WheelError::TooLarge);
    }
    Ok(bytes)
}

fn agree(metadata: &[u8], expected: &Distribution) -> Result<(), WheelError> {
    let fields = metadata_headers(metadata);
    let name = fields.name.unwrap_or_default();
    if ProjectName::parse(&name).ok().as_ref() != Some(&expected.project) {
        let expected = expected.project.to_string();
        return Err(WheelError::Disagrees { field: "Name", expected, found: name });
    }
    let version = fields.version.unwrap_or_default();
    if VersionKey::of(&version) != VersionKey::of(&expected.version) {
        let expected = expected.version.clone();
        return Err(WheelError::Disagrees { field: "Version", expected, found: version });
    }
    Ok(())
}

/// The fields of core metadata that we use. Of a field that may occur once, the first one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreFields {
    pub metadata_version: Option<String>,
    /// Not normalised.
    pub name: Option<String>,
    /// Not normalised.
    pub version: Option<String>,
    pub summary: Option<String>,
    pub home_page: Option<String>,
    pub license_expression: Option<String>,
    pub license: Option<String>,
    pub requires_python: Option<String>,
    pub requires_dist: Vec<String>,
    pub provides_extra: Vec<String>,
}

/// Parses the header fields of core metadata: lines of `Name: value`, continued by lines that begin with white space,
/// up to the first empty line. Unknown fields and malformed lines are ignored.
pub fn metadata_headers(metadata: &[u8]) -> CoreFields {
    let mut fields = CoreFields::default();
    let mut current: Option<(String, String)> = None;
    for line in metadata.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = &mut current {
                value.push('\n');
                value.push_str(line.trim());
            }
            continue;
        }
        fields.set(current.take());
        current = line.split_once(':').map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()));
    }
    fields.set(current);
    fields
}

impl CoreFields {
    fn set(&mut self, header: Option<(String, String)>) {
        let Some((key, value)) = header else { return };
        let single = match key.as_str() {
            "metadata-version" => &mut self.metadata_version,
            "name" => &mut self.name,
            "version" => &mut self.version,
            "summary" => &mut self.summary,
            "home-page" => &mut self.home_page,
            "license-expression" => &mut self.license_expression,
            "license" => &mut self.license,
            "requires-python" => &mut self.requires_python,
            "requires-dist" => return self.requires_dist.push(value),
            "provides-extra" => return self.provides_extra.push(value),
            _ => return,
        };
        single.get_or_insert(value);
    }
}

/// How much of core metadata is searched for requirements, in bytes.
const REQUIREMENTS_WITHIN: usize = 64 << 10;
/// The most requirements that are returned.
const MAX_REQUIREMENTS: usize = 64;

/// The projects that every installation of a distribution with this core metadata needs: those that a `Requires-Dist`
/// names without a marker and without an address of their own (PEP 508). The metadata may be hostile, so the function
/// reads only its beginning and returns only the first of them.
pub fn unconditional_requirements(metadata: &[u8]) -> Vec<ProjectName> {
    let prefix = match metadata.get(..REQUIREMENTS_WITHIN) {
        None => metadata,
        // The last line may be incomplete.
        Some(cut) => &cut[..cut.iter().rposition(|byte| *byte == b'\n').unwrap_or(0)],
    };
    let mut projects = Vec::new();
    for requirement in metadata_headers(prefix).requires_dist {
        let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'));
        let name = ProjectName::parse(&requirement[..end.unwrap_or(requirement.len())]);
        if let Ok(name) = name
            && !requirement.contains([';', '@'])
            && !projects.contains(&name)
        {
            projects.push(name);
        }
        if projects.len() == MAX_REQUIREMENTS {
            break;
        }
    }
    projects
}

#[cfg(test)]
mod tests;
