//! AWS configuration and credentials files with the line of everything, read as the SDK reads them.
//!
//! Profiles of both files are merged; the credentials file wins. Lines that begin with a blank belong to the key above
//! them and carry no credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Shown in findings.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A line of a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

/// The value of a key.
#[derive(Debug, Clone)]
struct Property {
    value: String,
    location: Location,
}

/// A profile or a single sign-on session.
#[derive(Debug, Clone)]
pub(super) struct ProfileSection {
    pub(super) name: String,
    location: Location,
    properties: BTreeMap<String, Property>,
}

impl ProfileSection {
    /// The value of a key; an empty one counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(|property| property.value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The line of a key, or of the section's header if it lacks the key.
    pub(super) fn location_of(&self, key: &str) -> &Location {
        self.properties.get(key).map_or(&self.location, |property| &property.location)
    }
}

/// What is wrong with the shape of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Neither a section nor `key = value`, or a key before the first section.
    BadLine(Location),
    /// A section of the configuration file without the word `profile`.
    NoPrefix(String, Location),
    /// A section of the credentials file with the word `profile`.
    Prefix(String, Location),
    /// The same section twice in one file.
    Twice { name: String, first: Location, again: Location },
    /// `[default]` beside `[profile default]`.
    DefaultIgnored(Location),
}

/// What both files say together.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    sections: BTreeMap<SectionKey, ProfileSection>,
    pub(super) flaws: Vec<Flaw>,
}

impl Profiles {
    pub(super) fn get(&self, name: &str) -> Option<&ProfileSection> {
        self.sections.get(&(SectionKind::Profile, name.to_owned()))
    }

    /// An `[sso-session NAME]`.
    pub(super) fn session(&self, name: &str) -> Option<&ProfileSection> {
        self.sections.get(&(SectionKind::Session, name.to_owned()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Config,
    Credentials,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SectionKind {
    Profile,
    Session,
}

type SectionKey = (SectionKind, String);

pub(super) fn read(config: Option<&TextFile>, credentials: Option<&TextFile>) -> Profiles {
    let mut profiles = Profiles::default();
    for (file, origin) in [(config, Origin::Config), (credentials, Origin::Credentials)] {
        if let Some(file) = file {
            read_file(file, origin, &mut profiles);
        }
    }
    profiles
}

fn read_file(file: &TextFile, origin: Origin, profiles: &mut Profiles) {
    let path: Arc<str> = file.path.as_str().into();
    let mut seen: BTreeMap<SectionKey, Location> = BTreeMap::new();
    let prefixed_default = origin == Origin::Config && has_prefixed_default(&file.text);
    // `None`: a section that does not count. No key may come before the first section.
    let mut current: Option<SectionKey> = None;
    let mut begun = false;
    for (index, line) in file.text.lines().enumerate() {
        let location = Location { file: Arc::clone(&path), line: index + 1 };
        let trimmed = line.trim();
        let is_comment = trimmed.is_empty() || trimmed.starts_with(['#', ';']);
        let is_nested = begun && line.starts_with([' ', '\t']);
        if is_comment || is_nested {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            begun = true;
            current = if let Some((header, _)) = header.split_once(']') {
                section(header, origin, &location, prefixed_default, &mut profiles.flaws)
            } else {
                profiles.flaws.push(Flaw::BadLine(location.clone()));
                None
            };
            if let Some(key) = &current {
                enter(key, &location, &mut seen, profiles);
            }
            continue;
        }
        match trimmed.split_once('=') {
            Some((key, value)) if begun && !key.trim().is_empty() => {
                if let Some(section) = current.as_ref().and_then(|key| profiles.sections.get_mut(key)) {
                    let property = Property { value: without_comment(value).to_owned(), location };
                    section.properties.insert(key.trim().to_ascii_lowercase(), property);
                }
            }
            _ => profiles.flaws.push(Flaw::BadLine(location)),
        }
    }
}

/// The section that a header begins, or `None` if the SDK ignores it.
fn section(
    header: &str,
    origin: Origin,
    location: &Location,
    prefixed_default: bool,
    flaws: &mut Vec<Flaw>,
) -> Option<SectionKey> {
    let header = header.trim();
    let (prefix, name) = match header.split_once([' ', '\t']) {
        Some((prefix, name)) => (prefix.trim(), name.trim().trim_matches(['"', '\''])),
        None => ("", header),
    };
    match (origin, prefix) {
        (Origin::Config, "profile") | (Origin::Credentials, "") => Some((SectionKind::Profile, name.to_owned())),
        (Origin::Config, "sso-session") => Some((SectionKind::Session, name.to_owned())),
        (Origin::Config, "") if name == "default" && prefixed_default => {
            flaws.push(Flaw::DefaultIgnored(location.clone()));
            None
        }
        (Origin::Config, "") if name == "default" => Some((SectionKind::Profile, name.to_owned())),
        (Origin::Config, "") if !matches!(name, "plugins" | "preview") => {
            flaws.push(Flaw::NoPrefix(name.to_owned(), location.clone()));
            None
        }
        (Origin::Credentials, "profile") => {
            flaws.push(Flaw::Prefix(name.to_owned(), location.clone()));
            None
        }
        _ => None,
    }
}

fn enter(key: &SectionKey, location: &Location, seen: &mut BTreeMap<SectionKey, Location>, profiles: &mut Profiles) {
    if let Some(first) = seen.get(key) {
        let (first, again) = (first.clone(), location.clone());
        profiles.flaws.push(Flaw::Twice { name: key.1.clone(), first, again });
    } else {
        seen.insert(key.clone(), location.clone());
    }
    profiles.sections.entry(key.clone()).or_insert_with(|| ProfileSection {
        name: key.1.clone(),
        location: location.clone(),
        properties: BTreeMap::new(),
    });
}

fn has_prefixed_default(text: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<&str> = line.trim().trim_start_matches('[').trim_end_matches(']').split_whitespace().collect();
        line.starts_with('[') && words == ["profile", "default"]
    })
}

/// A comment at the end of a value begins with a blank before its sign.
fn without_comment(value: &str) -> &str {
    let cut = [" #", " ;", "\t#", "\t;"].iter().filter_map(|sign| value.find(sign)).min();
    value[..cut.unwrap_or(value.len())].trim()
}
