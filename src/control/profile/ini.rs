//! AWS configuration and credentials files with the line of everything, read as the SDK reads them.
//!
//! Profiles of both files are merged, the credentials file wins. Lines that begin with a blank belong to the key
//! above them and carry no credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One file as text.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Shown in findings.
    pub path: String,
    /// The whole content.
    pub text: String,
}

/// A line of a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: String,
    pub(super) place: Place,
}

/// A profile or a single sign-on session.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) keys: BTreeMap<String, Entry>,
}

impl Section {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(|entry| entry.value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where a key stands, else where the section begins.
    pub(super) fn place_of(&self, key: &str) -> &Place {
        self.keys.get(key).map_or(&self.place, |entry| &entry.place)
    }
}

/// What is wrong with the shape of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Neither a section nor `key = value`, or a key before the first section.
    Line(Place),
    /// A section of the configuration file without the word `profile`.
    NoPrefix(String, Place),
    /// A section of the credentials file with the word `profile`.
    Prefix(String, Place),
    /// The same section twice in one file.
    Twice { name: String, first: Place, again: Place },
    /// `[default]` beside `[profile default]`.
    DefaultIgnored(Place),
}

#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) profiles: BTreeMap<String, Section>,
    pub(super) sessions: BTreeMap<String, Section>,
    pub(super) flaws: Vec<Flaw>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    Credentials,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Profile,
    Session,
}

pub(super) fn read(config: Option<&ConfigFile>, credentials: Option<&ConfigFile>) -> Files {
    let mut files = Files::default();
    for (file, kind) in [(config, Kind::Config), (credentials, Kind::Credentials)] {
        if let Some(file) = file {
            read_one(file, kind, &mut files);
        }
    }
    files
}

fn read_one(file: &ConfigFile, kind: Kind, files: &mut Files) {
    let path: Arc<str> = file.path.as_str().into();
    let mut seen: BTreeMap<(Group, String), Place> = BTreeMap::new();
    let prefixed_default = kind == Kind::Config && has_prefixed_default(&file.text);
    // `None`: a section that does not count. Before the first section nothing may stand.
    let mut current: Option<(Group, String)> = None;
    let mut begun = false;
    for (index, line) in file.text.lines().enumerate() {
        let place = Place { file: Arc::clone(&path), line: index + 1 };
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) && begun {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            begun = true;
            current = if let Some((header, _)) = header.split_once(']') {
                section(header, kind, &place, prefixed_default, &mut files.flaws)
            } else {
                files.flaws.push(Flaw::Line(place.clone()));
                None
            };
            if let Some(key) = &current {
                enter(key, &place, &mut seen, files);
            }
            continue;
        }
        match trimmed.split_once('=') {
            Some((key, value)) if begun && !key.trim().is_empty() => {
                if let Some(section) = current.as_ref().and_then(|key| place_for(key, files)) {
                    let entry = Entry { value: without_comment(value), place };
                    section.keys.insert(key.trim().to_ascii_lowercase(), entry);
                }
            }
            _ => files.flaws.push(Flaw::Line(place)),
        }
    }
}

fn section(
    header: &str,
    kind: Kind,
    place: &Place,
    prefixed_default: bool,
    flaws: &mut Vec<Flaw>,
) -> Option<(Group, String)> {
    let header = header.trim();
    let (prefix, name) = match header.split_once([' ', '\t']) {
        Some((prefix, name)) => (prefix.trim(), name.trim().trim_matches(['"', '\''])),
        None => ("", header),
    };
    match (kind, prefix) {
        (Kind::Config, "profile") | (Kind::Credentials, "") => Some((Group::Profile, name.to_owned())),
        (Kind::Config, "sso-session") => Some((Group::Session, name.to_owned())),
        (Kind::Config, "") if name == "default" && prefixed_default => {
            flaws.push(Flaw::DefaultIgnored(place.clone()));
            None
        }
        (Kind::Config, "") if name == "default" => Some((Group::Profile, name.to_owned())),
        (Kind::Config, "") if !matches!(name, "plugins" | "preview") => {
            flaws.push(Flaw::NoPrefix(name.to_owned(), place.clone()));
            None
        }
        (Kind::Credentials, "profile") => {
            flaws.push(Flaw::Prefix(name.to_owned(), place.clone()));
            None
        }
        _ => None,
    }
}

fn enter(key: &(Group, String), place: &Place, seen: &mut BTreeMap<(Group, String), Place>, files: &mut Files) {
    if let Some(first) = seen.get(key) {
        let (first, again) = (first.clone(), place.clone());
        files.flaws.push(Flaw::Twice { name: key.1.clone(), first, again });
    } else {
        seen.insert(key.clone(), place.clone());
    }
    let group = if key.0 == Group::Profile { &mut files.profiles } else { &mut files.sessions };
    group.entry(key.1.clone()).or_insert_with(|| Section {
        name: key.1.clone(),
        place: place.clone(),
        keys: BTreeMap::new(),
    });
}

fn place_for<'a>(key: &(Group, String), files: &'a mut Files) -> Option<&'a mut Section> {
    match key.0 {
        Group::Profile => files.profiles.get_mut(&key.1),
        Group::Session => files.sessions.get_mut(&key.1),
    }
}

fn has_prefixed_default(text: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<&str> = line.trim().trim_start_matches('[').trim_end_matches(']').split_whitespace().collect();
        line.starts_with('[') && words == ["profile", "default"]
    })
}

/// A comment at the end of a value begins with a blank before its sign.
fn without_comment(value: &str) -> String {
    let cut = [" #", " ;", "\t#", "\t;"].iter().filter_map(|sign| value.find(sign)).min();
    value[..cut.unwrap_or(value.len())].trim().to_owned()
}
