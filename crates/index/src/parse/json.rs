//! The JSON format (PEP 691, 700, 708, 714, 740, 792).
//!
//! Values are borrowed as text from the response and read one by one, so a page is never in memory as a tree of values:
//! a tree of small values takes fifty times the memory of their text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

use super::{
    Files, MAX_DEPTH, MAX_VERSIONS, ParseError, ParsedPage, UnknownKeys, announced, api_version, is_short,
    project_status, provenance, yanked,
};
use crate::address;
use crate::digest::Hashes;
use crate::extra::{ExtraBuilder, Key};
use crate::filename::FileName;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, ProjectStatus, Yanked};
use crate::sabotage::sabotaged;

pub(super) fn read(body: &[u8], base: &Url, name: &ProjectName) -> Result<ParsedPage, ParseError> {
    if nests_too_deep(body) && !sabotaged("nesting") {
        return Err(ParseError::TooDeep);
    }
    let malformed = |error: serde_json::Error| ParseError::Json { line: error.line(), column: error.column() };
    let mut source = serde_json::Deserializer::from_slice(body);
    let mut reader = JsonReader { base, name, unknown: UnknownKeys::default() };
    let draft = reader.deserialize(&mut source).map_err(malformed)?;
    source.end().map_err(malformed)?;
    reader.finish(draft)
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

/// What is needed to read every part of a page.
struct JsonReader<'a> {
    base: &'a Url,
    name: &'a ProjectName,
    unknown: UnknownKeys,
}

/// The top level of the page, not yet interpreted.
#[derive(Default)]
struct Draft<'de> {
    files: Option<Files>,
    meta: Option<&'de RawValue>,
    versions: Option<&'de RawValue>,
    status: Option<&'de RawValue>,
    extra: ExtraBuilder,
}

impl<'de> DeserializeSeed<'de> for &mut JsonReader<'_> {
    type Value = Draft<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Draft<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut JsonReader<'_> {
    type Value = Draft<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object of an index page")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft<'de>, A::Error> {
        let mut draft = Draft::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "files" => draft.files = Some(map.next_value_seed(FilesSeed(self))?),
                "meta" => draft.meta = Some(map.next_value()?),
                "versions" => draft.versions = Some(map.next_value()?),
                "project-status" => draft.status = Some(map.next_value()?),
                // The name is the one that we asked for, whatever the page says.
                "name" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => self.unknown.add(&mut draft.extra, &key, map.next_value::<&RawValue>()?.get()),
            }
        }
        Ok(draft)
    }
}

struct FilesSeed<'a, 'b>(&'a mut JsonReader<'b>);

impl<'de> DeserializeSeed<'de> for FilesSeed<'_, '_> {
    type Value = Files;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Files, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FilesSeed<'_, '_> {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the array of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Files, A::Error> {
        let mut files = Files::default();
        while !files.too_many {
            let Some(entry) = seq.next_element::<&RawValue>()? else { return Ok(files) };
            files.add(self.0.file(entry));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(files)
    }
}

impl JsonReader<'_> {
    fn finish(mut self, draft: Draft<'_>) -> Result<ParsedPage, ParseError> {
        let files = draft.files.ok_or(ParseError::NotAnIndex("it has no `files`"))?;
        if files.too_many {
            return Err(ParseError::TooManyFiles);
        }
        let skipped = files.skipped;
        let (mut version, mut meta_extra) = (None, ExtraBuilder::default());
        if let Some(meta) = draft.meta {
            for_each_key(meta, |key, value| match key {
                "api-version" => version = Some(value),
                _ => self.unknown.add(&mut meta_extra, key, value.get()),
            });
        }
        // A string as it should be, or a number.
        let version = version.map(|value| text(value).unwrap_or(Cow::Borrowed(value.get())));
        let page = Page {
            name: self.name.clone(),
            api_version: version.map_or(Ok((1, 0)), |version| api_version(&version))?,
            versions: draft.versions.map_or(Ok(None), versions)?,
            files: files.finished(),
            status: draft.status.and_then(status),
            meta_extra: meta_extra.finish(),
            extra: draft.extra.finish(),
        };
        Ok(ParsedPage { page, skipped, unknown_left_out: self.unknown.left_out })
    }

    /// One file, or `None` if the entry names no file with an address.
    fn file(&mut self, entry: &RawValue) -> Option<File> {
        let (mut link, mut name, mut extra) = (None, None, ExtraBuilder::default());
        let mut fields = Fields::default();
        let is_entry = for_each_key(entry, |key, value| match key {
            "url" => link = text(value),
            "filename" => name = Some(text(value)),
            _ if fields.set(key, value) => {}
            _ => self.unknown.add(&mut extra, key, value.get()),
        });
        let url = address::resolve(self.base, &link.filter(|_| is_entry)?)?;
        let name = match name {
            Some(name) => FileName::parse(&name?).ok()?,
            None => address::last_component(&url)?,
        };
        let (version, url) = address::locate(self.base, self.name, url, &name);
        let core_metadata = fields.core_metadata.iter().flatten().find_map(|value| core_metadata(value));
        Some(File {
            name,
            version,
            url: url.map(Box::new),
            hashes: fields.hashes,
            requires_python: fields.requires_python,
            size: fields.size,
            upload_time: fields.upload_time,
            yanked: fields.yanked,
            core_metadata: core_metadata.unwrap_or_default(),
            gpg_sig: fields.gpg_sig,
            provenance: fields.provenance,
            extra: extra.finish(),
        })
    }
}

/// What a file's entry says beyond name and address.
#[derive(Default)]
struct Fields<'de> {
    hashes: Hashes,
    requires_python: Option<String>,
    size: Option<u64>,
    upload_time: Option<String>,
    yanked: Yanked,
    /// By the spellings of the key; the first that has a meaning counts.
    core_metadata: [Option<&'de RawValue>; 3],
    gpg_sig: Option<bool>,
    #[expect(clippy::option_option, reason = "as in `File`")]
    provenance: Option<Option<String>>,
}

impl<'de> Fields<'de> {
    /// Sets the field that a key is for, if the value has its type; returns whether the key is known. The last of equal
    /// keys wins, as in most JSON parsers.
    fn set(&mut self, key: &str, value: &'de RawValue) -> bool {
        match key {
            "core-metadata" => self.core_metadata[0] = Some(value),
            "dist-info-metadata" => self.core_metadata[1] = Some(value),
            "data-dist-info-metadata" => self.core_metadata[2] = Some(value),
            "hashes" => self.hashes = hashes(value),
            "requires-python" => self.requires_python = short_text(value),
            "size" => self.size = serde_json::from_str(value.get()).ok(),
            "upload-time" => self.upload_time = text(value).and_then(|text| super::time::upload_time(&text)),
            "yanked" => self.yanked = yank_mark(value),
            "gpg-sig" => self.gpg_sig = serde_json::from_str(value.get()).ok(),
            "provenance" if value.get() == "null" => self.provenance = Some(None),
            "provenance" => self.provenance = short_text(value).and_then(|text| provenance(&text)).map(Some),
            _ => return false,
        }
        true
    }
}

/// The content of a string, borrowed where it has no escapes; `None` for other values.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Key<'_>>(value.get()).ok().map(|Key(text)| text)
}

/// The content of a string that is neither empty nor longer than any that HTML could carry.
fn short_text(value: &RawValue) -> Option<String> {
    text(value).filter(|text| !text.is_empty() && is_short(text)).map(Cow::into_owned)
}

/// Calls `visit` for every key of an object, and returns whether it is one; one with a key that is no text is not.
fn for_each_key<'de>(object: &'de RawValue, visit: impl FnMut(&str, &'de RawValue)) -> bool {
    struct EachKey<F>(F);
    impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for EachKey<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Key(key)) = map.next_key()? {
                (self.0)(&key, map.next_value()?);
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(object.get()).deserialize_map(EachKey(visit)).is_ok()
}

/// The strings of the version list, without repetitions; `None` if it is not a list.
fn versions(value: &RawValue) -> Result<Option<Vec<String>>, ParseError> {
    struct Versions(HashSet<Box<str>>);
    impl<'de> Visitor<'de> for Versions {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while list.len() <= MAX_VERSIONS
                && let Some(value) = seq.next_element::<&RawValue>()?
            {
                list.extend(short_text(value).filter(|version| self.0.insert(version.as_str().into())));
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(list)
        }
    }
    let list = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Versions(HashSet::new())).ok();
    match list {
        Some(list) if list.len() > MAX_VERSIONS => Err(ParseError::TooManyVersions),
        list => Ok(list),
    }
}

/// The status as an object, or as one string.
fn status(value: &RawValue) -> Option<ProjectStatus> {
    let (mut status, mut reason) = (text(value), None);
    for_each_key(value, |key, value| match key {
        "status" => status = text(value),
        "reason" => reason = text(value),
        _ => {}
    });
    project_status(&status?, reason.as_deref())
}

/// The yank mark: a reason, or what is true in the sense of Python (PEP 691). An empty reason is not.
fn yank_mark(value: &RawValue) -> Yanked {
    match (text(value), value.get()) {
        (Some(reason), _) if reason.is_empty() && !sabotaged("empty-reason") => Yanked::No,
        (Some(reason), _) => yanked(&reason),
        (None, "false" | "null" | "{}") => Yanked::No,
        (None, other) if other.parse() == Ok(0.0) || serde_json::from_str::<[(); 0]>(other).is_ok() => Yanked::No,
        (None, _) => Yanked::Yes,
    }
}

fn hashes(value: &RawValue) -> Hashes {
    let mut hashes = Hashes::default();
    for_each_key(value, |algorithm, digest| {
        if let Some(digest) = text(digest) {
            hashes.insert(algorithm, &digest);
        }
    });
    hashes
}

/// `None` for a meaningless value, so that the next spelling of the key counts.
fn core_metadata(value: &RawValue) -> Option<CoreMetadata> {
    match value.get() {
        "true" => Some(CoreMetadata::Available),
        "false" => Some(CoreMetadata::Absent),
        object if object.starts_with('{') => Some(announced(hashes(value))),
        _ => None,
    }
}
