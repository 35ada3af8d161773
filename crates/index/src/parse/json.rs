//! The JSON format (PEP 691, 700, 708, 714, 740, 792).
//!
//! Files are parsed one by one, so that a page of many thousand files is never in memory as a tree of values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use url::Url;

use super::{
    Files, MAX_DEPTH, ParseError, ParsedPage, announced, api_version, project_status, provenance, text, yanked,
};
use crate::address;
use crate::digest::Hashes;
use crate::filename::FileName;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, Yanked};

pub(super) fn read(body: &[u8], base: &Url, name: &ProjectName) -> Result<ParsedPage, ParseError> {
    if nests_too_deep(body) {
        return Err(ParseError::TooDeep);
    }
    let malformed = |error: serde_json::Error| ParseError::Json { line: error.line(), column: error.column() };
    let mut source = serde_json::Deserializer::from_slice(body);
    let draft = DraftSeed { base, name }.deserialize(&mut source).map_err(malformed)?;
    source.end().map_err(malformed)?;
    finish(draft, name)
}

/// A separate pass over the bytes is cheaper than counting while parsing, and serde's own limit is higher.
fn nests_too_deep(body: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The top level of the page, not yet interpreted.
#[derive(Default)]
struct Draft {
    files: Option<Files>,
    meta: Map<String, Value>,
    versions: Option<Vec<String>>,
    status: Value,
    extra: Map<String, Value>,
}

struct DraftSeed<'a> {
    base: &'a Url,
    name: &'a ProjectName,
}

impl<'de> DeserializeSeed<'de> for DraftSeed<'_> {
    type Value = Draft;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Draft, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DraftSeed<'_> {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object of an index page")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        let mut draft = Draft::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "files" => draft.files = Some(map.next_value_seed(FilesSeed { base: self.base, name: self.name })?),
                "meta" => {
                    if let Value::Object(meta) = map.next_value()? {
                        draft.meta = meta;
                    }
                }
                "versions" => draft.versions = versions(map.next_value()?),
                "project-status" => draft.status = map.next_value()?,
                // The name is the one that we asked for, whatever the page says.
                "name" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    draft.extra.insert(key, map.next_value()?);
                }
            }
        }
        Ok(draft)
    }
}

struct FilesSeed<'a> {
    base: &'a Url,
    name: &'a ProjectName,
}

impl<'de> DeserializeSeed<'de> for FilesSeed<'_> {
    type Value = Files;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Files, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FilesSeed<'_> {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the array of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Files, A::Error> {
        let mut files = Files::default();
        while !files.too_many {
            let Some(value) = seq.next_element::<Value>()? else { return Ok(files) };
            files.add(match value {
                Value::Object(entry) => file(entry, self.base, self.name),
                _ => None,
            });
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(files)
    }
}

fn finish(draft: Draft, name: &ProjectName) -> Result<ParsedPage, ParseError> {
    let Draft { files, mut meta, versions, status, extra } = draft;
    let api_version = match meta.shift_remove("api-version") {
        Some(Value::String(text)) => api_version(&text)?,
        Some(Value::Number(number)) => api_version(&number.to_string())?,
        _ => (1, 0),
    };
    let files = files.ok_or(ParseError::NotAnIndex("it has no `files`"))?;
    if files.too_many {
        return Err(ParseError::TooManyFiles);
    }
    let status = match &status {
        Value::Object(object) => object
            .get("status")
            .and_then(Value::as_str)
            .and_then(|status| project_status(status, object.get("reason").and_then(Value::as_str))),
        Value::String(status) => project_status(status, None),
        _ => None,
    };
    let page = Page { name: name.clone(), api_version, versions, files: files.list, status, meta_extra: meta, extra };
    Ok(ParsedPage { page, skipped: files.skipped })
}

/// The strings of the version list, without repetitions; `None` if it is not a list.
fn versions(value: Value) -> Option<Vec<String>> {
    let Value::Array(values) = value else { return None };
    let mut seen = std::collections::HashSet::new();
    Some(values.iter().filter_map(text).filter(|version| seen.insert(version.clone())).collect())
}

/// One file, or `None` if the entry names no file with an address.
fn file(entry: Map<String, Value>, base: &Url, project: &ProjectName) -> Option<File> {
    let link = entry.get("url")?.as_str()?;
    let url = address::resolve(base, link)?;
    let name = match entry.get("filename") {
        Some(value) => FileName::parse(value.as_str()?).ok()?,
        None => address::last_component(&url)?,
    };
    let (version, url) = address::locate(base, project, url, &name);
    let mut file = File {
        name,
        version,
        url,
        hashes: Hashes::default(),
        requires_python: None,
        size: None,
        upload_time: None,
        yanked: Yanked::No,
        core_metadata: CoreMetadata::Absent,
        gpg_sig: None,
        provenance: None,
        extra: Map::new(),
    };
    file.core_metadata = ["core-metadata", "dist-info-metadata", "data-dist-info-metadata"]
        .iter()
        .find_map(|key| core_metadata(entry.get(*key)?))
        .unwrap_or_default();
    for (key, value) in entry {
        set(&mut file, key, value);
    }
    Some(file)
}

/// Sets the field that one key is for, if the value has its type. The last of equal keys wins, as in most JSON parsers.
fn set(file: &mut File, key: String, value: Value) {
    match key.as_str() {
        "filename" | "url" | "core-metadata" | "dist-info-metadata" | "data-dist-info-metadata" => {}
        "hashes" => file.hashes = hashes(&value),
        "requires-python" => file.requires_python = text(&value),
        "size" => file.size = value.as_u64(),
        "upload-time" => file.upload_time = value.as_str().and_then(super::time::upload_time),
        "yanked" => {
            file.yanked = match &value {
                Value::Bool(true) => Yanked::Yes,
                Value::String(reason) => yanked(reason),
                _ => Yanked::No,
            }
        }
        "gpg-sig" => file.gpg_sig = value.as_bool(),
        "provenance" => {
            file.provenance = match &value {
                Value::Null => Some(None),
                Value::String(text) => provenance(text).map(Some),
                _ => None,
            }
        }
        _ => {
            file.extra.insert(key, value);
        }
    }
}

fn hashes(value: &Value) -> Hashes {
    let mut hashes = Hashes::default();
    for (algorithm, digest) in value.as_object().into_iter().flatten() {
        if let Some(digest) = digest.as_str() {
            hashes.insert(algorithm, digest);
        }
    }
    hashes
}

/// `None` for a meaningless value, so that the next spelling of the key counts.
fn core_metadata(value: &Value) -> Option<CoreMetadata> {
    match value {
        Value::Bool(true) => Some(CoreMetadata::Available),
        Value::Bool(false) => Some(CoreMetadata::Absent),
        Value::Object(_) => Some(announced(hashes(value))),
        _ => None,
    }
}
