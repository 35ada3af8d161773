//! Core metadata out of a wheel (PEP 427, PEP 658), and its header fields.
//!
//! Blocking and bounded: the caller runs it on a thread that may block. The bytes come back unmodified, because clients
//! compare them with a digest, and installers compare them with the wheel's own copy. Whether they fit the file name is
//! for the clients to judge: each has its own way with a wheel whose name or version differs.

use std::ops::Range;
use std::str;

use crate::archive::{ArchiveError, Directory, Member, ReadAt, unpacked};
use crate::filename::{Distribution, FileKind, FileName};
use crate::name::ProjectName;
use crate::sabotage::sabotaged;
use crate::version::VersionKey;

/// The largest `METADATA` that is read, in bytes.
pub(crate) const MAX_METADATA: u64 = 16 << 20;

/// The longest header before a member's bytes that is expected, without the name, in bytes: the fixed part and some
/// extra fields. One that is longer may be there, but what is read then does not suffice.
const LONGEST_HEADER: u64 = 30 + 256;

const METADATA_FILE: &str = "METADATA";
const DIST_INFO: &str = ".dist-info";

/// Why no core metadata can be taken from a wheel.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// The name is not `{name}-{version}[-{build}]-{python}-{abi}-{platform}.whl`.
    #[error("{0} is not the file name of a wheel")]
    NotAWheel(FileName),
    #[error("the wheel cannot be read: {0}")]
    Archive(#[from] ArchiveError),
    /// There is no `*.dist-info/METADATA`.
    #[error("the wheel has no `.dist-info/METADATA`")]
    Missing,
    /// More than one directory could be meant, or one is spelled in several ways.
    #[error("the wheel has several `.dist-info` directories with METADATA that could be its own")]
    Ambiguous,
}

impl WheelError {
    /// Whether the wheel itself may be a good one.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Archive(ArchiveError::Read(_)))
    }
}

/// The bytes of `METADATA` in the wheel that is called `name`.
///
/// Its directory is the one that agrees with the file name after normalisation, or else the only one. Of several
/// entries with one name the last one counts, as in Python's `zipfile`: that is the one that pip reads, and the one
/// that is left when an installer has unpacked them all.
pub fn core_metadata(file: impl ReadAt, name: &FileName) -> Result<Vec<u8>, WheelError> {
    let (directory, member, expected) = find_metadata(&file, name)?;
    let metadata = directory.read(&file, &member, MAX_METADATA)?;
    // Without the guard, it has to agree with the file name.
    if sabotaged("odd-metadata") && metadata_headers(&metadata).version.as_deref() != Some(&expected.version) {
        return Err(WheelError::Missing);
    }
    Ok(metadata)
}

/// Where the directory of a wheel begins, which reaches to the wheel's end. Its end is all that is read.
pub fn directory_start(file: impl ReadAt) -> Result<u64, WheelError> {
    Ok(Directory::find(&file)?.start)
}

/// The part of a wheel that `METADATA` is in, with its header. Only the directory is read.
pub fn metadata_part(file: impl ReadAt, name: &FileName) -> Result<Range<u64>, WheelError> {
    let (directory, member, _) = find_metadata(&file, name)?;
    let outside = || ArchiveError::Broken("its metadata is outside");
    let start = directory.absolute(member.header).ok_or_else(outside)?;
    let header = LONGEST_HEADER + member.raw_name.len() as u64;
    let end = start.saturating_add(header).saturating_add(member.compressed).min(directory.start);
    Ok(start..end)
}

fn find_metadata(file: &impl ReadAt, name: &FileName) -> Result<(Directory, Member, Distribution), WheelError> {
    let Some(expected) = name.distribution().filter(|distribution| distribution.kind == FileKind::Wheel) else {
        return Err(WheelError::NotAWheel(name.clone()));
    };
    let directory = Directory::find(file)?;
    let (mut agreeing, mut others) = (Choice::default(), Choice::default());
    let mut is_disguised = false;
    directory.scan(file, |entry| {
        let Some(dist_info) = dist_info(entry.name()) else {
            // It would replace the other one when an installer unpacks it.
            let is_metadata = entry.name().ends_with(METADATA_FILE.as_bytes()) && !sabotaged("disguised-entry");
            is_disguised |= is_metadata && dist_info(&unpacked(entry.name())).is_some();
            return Ok(());
        };
        let choice = if names(dist_info, &expected) { &mut agreeing } else { &mut others };
        choice.add(entry.member()?);
        Ok(())
    })?;
    match (agreeing, others) {
        _ if is_disguised => Err(WheelError::Ambiguous),
        (Choice::One(member), _) | (Choice::None, Choice::One(member)) => Ok((directory, member, expected)),
        (Choice::None, Choice::None) => Err(WheelError::Missing),
        _ => Err(WheelError::Ambiguous),
    }
}

/// The member that was looked for, if it is one.
#[derive(Debug, Default)]
pub(crate) enum Choice {
    #[default]
    None,
    One(Member),
    /// Members of different names.
    Several,
}

impl Choice {
    /// Adds a member; the last one of a name counts.
    pub(crate) fn add(&mut self, member: Member) {
        *self = match self {
            Self::One(before) if before.name() != member.name() => Self::Several,
            Self::One(_) if sabotaged("last-entry") => return,
            Self::None | Self::One(_) => Self::One(member),
            Self::Several => Self::Several,
        };
    }
}

/// `{name}-{version}` of `{name}-{version}.dist-info/METADATA`.
fn dist_info(path: &[u8]) -> Option<&str> {
    let (directory, file) = str::from_utf8(path).ok()?.split_once('/')?;
    directory.strip_suffix(DIST_INFO).filter(|_| file == METADATA_FILE)
}

/// Whether `{name}-{version}` of a `.dist-info` directory means this distribution.
fn names(directory: &str, expected: &Distribution) -> bool {
    directory.split_once('-').is_some_and(|(project, version)| {
        ProjectName::parse(project).is_ok_and(|project| project == expected.project)
            && VersionKey::of(version) == VersionKey::of(&expected.version)
    })
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
    pub author: Option<String>,
    /// One or more addresses as in mail headers.
    pub author_email: Option<String>,
    pub maintainer: Option<String>,
    pub maintainer_email: Option<String>,
    /// `label, address` each.
    pub project_urls: Vec<String>,
    pub description_content_type: Option<String>,
    pub keywords: Option<String>,
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
            "author" => &mut self.author,
            "author-email" => &mut self.author_email,
            "maintainer" => &mut self.maintainer,
            "maintainer-email" => &mut self.maintainer_email,
            "description-content-type" => &mut self.description_content_type,
            "keywords" => &mut self.keywords,
            "requires-python" => &mut self.requires_python,
            "requires-dist" => return self.requires_dist.push(value),
            "provides-extra" => return self.provides_extra.push(value),
            "project-url" => return self.project_urls.push(value),
            _ => return,
        };
        single.get_or_insert(value);
    }
}

/// The description in core metadata: what follows the header, or the field of older versions, whose lines begin with
/// white space or a bar. Empty if there is none.
pub fn description(metadata: &[u8]) -> String {
    const FIELD: &str = "description:";
    let text = String::from_utf8_lossy(metadata).replace("\r\n", "\n");
    let (header, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    if !body.trim().is_empty() {
        return body.trim_matches('\n').to_owned();
    }
    let is_field = |line: &&str| line.get(..FIELD.len()).is_some_and(|name| name.eq_ignore_ascii_case(FIELD));
    let mut lines = header.lines().skip_while(|line| !is_field(line));
    let Some(first) = lines.next() else { return String::new() };
    let mut description = first[FIELD.len()..].trim_start().to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        let unfolded = line.strip_prefix("       |").or_else(|| line.strip_prefix("        "));
        description.push('\n');
        description.push_str(unfolded.unwrap_or_else(|| line.trim_start()));
    }
    description
}

/// The licence expression (SPDX) of core metadata, if it has one at its beginning.
pub fn licence_expression(metadata: &[u8]) -> Option<String> {
    metadata_headers(&metadata[..metadata.len().min(REQUIREMENTS_WITHIN)]).license_expression
}

/// How much of core metadata is searched for requirements, in bytes.
const REQUIREMENTS_WITHIN: usize = 64 << 10;
/// The most requirements that are returned.
const MAX_REQUIREMENTS: usize = 64;

/// Which requirements are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredBy {
    /// Those without a marker.
    EveryInstallation,
    /// Those whose marker speaks of platforms only, too.
    AnyPlatform,
}

/// The projects that a distribution with this core metadata needs: those that a `Requires-Dist` names without an
/// address of their own (PEP 508). The metadata may be hostile, so the function reads only its beginning and returns
/// only the first of them.
pub fn requirements(metadata: &[u8], of: RequiredBy) -> Vec<ProjectName> {
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
            && is_meant(&requirement, of)
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

fn is_meant(requirement: &str, of: RequiredBy) -> bool {
    let (named, marker) = requirement.split_once(';').unwrap_or((requirement, ""));
    let speaks_of = |word| marker.contains(word);
    let of_platforms = || ["sys_platform", "platform_", "os_name"].into_iter().any(speaks_of);
    let of_others = || ["extra", "python_version", "python_full_version"].into_iter().any(speaks_of);
    !named.contains('@') && (marker.is_empty() || of == RequiredBy::AnyPlatform && of_platforms() && !of_others())
}

#[cfg(test)]
mod tests;
