//! The JSON format (PEP 691, 700, 714, 740, 792) of pages and of the project list.

use std::io;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{has_provenance, in_memory, presentable};
use crate::address::below_page;
use crate::digest::Hashes;
use crate::extra::Extra;
use crate::keys;
use crate::name::ProjectName;
use crate::page::{CoreMetadata, File, Page, ProjectList, ProjectStatus, Yanked};
use crate::version;

/// A project's page as `application/vnd.pypi.simple.v1+json`.
pub fn json(page: &Page) -> Vec<u8> {
    in_memory(|out| write_json(page, out))
}

/// Writes what [`json`] returns.
pub fn write_json(page: &Page, out: impl io::Write) -> io::Result<()> {
    Ok(serde_json::to_writer(out, &PageJson(page))?)
}

/// Writes a project list as `application/vnd.pypi.simple.v1+json`.
pub fn write_list_json(list: &ProjectList, out: impl io::Write) -> io::Result<()> {
    Ok(serde_json::to_writer(out, &ListJson(list))?)
}

/// The highest version of the simple API that this page complies with.
///
/// Each version requires what earlier ones require, and 1.1 requires the size of every file.
fn api_version(page: &Page) -> &'static str {
    if page.files.iter().any(|file| file.size.is_none()) {
        "1.0"
    } else if page.status.is_some() {
        "1.4"
    } else if has_provenance(page) {
        "1.3"
    } else if page.meta_extra.contains_key("tracks") || page.extra.contains_key("alternate-locations") {
        "1.2"
    } else {
        "1.1"
    }
}

/// Writes the keys that the model does not own.
fn write_foreign<M: SerializeMap>(map: &mut M, extra: &Extra, owned: &[&str]) -> Result<(), M::Error> {
    extra.try_for_each(|key, value| if owned.contains(&key) { Ok(()) } else { map.serialize_entry(key, value) })
}

struct PageJson<'a>(&'a Page);

impl Serialize for PageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let page = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("meta", &MetaJson(page))?;
        map.serialize_entry("name", &page.name)?;
        if let Some(status) = &page.status {
            map.serialize_entry("project-status", &StatusJson(status))?;
        }
        map.serialize_entry("versions", &version::listed(page))?;
        map.serialize_entry("files", &Each(&page.files, FileJson))?;
        write_foreign(&mut map, &page.extra, &keys::PAGE)?;
        map.end()
    }
}

struct MetaJson<'a>(&'a Page);

impl Serialize for MetaJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("api-version", api_version(self.0))?;
        write_foreign(&mut map, &self.0.meta_extra, &keys::META)?;
        map.end()
    }
}

struct StatusJson<'a>(&'a ProjectStatus);

impl Serialize for StatusJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", &self.0.status)?;
        if let Some(reason) = &self.0.reason {
            map.serialize_entry("reason", reason)?;
        }
        map.end()
    }
}

/// A list whose elements are serialised through a wrapper.
struct Each<'a, T, F>(&'a [T], F);

impl<'a, T, W: Serialize, F: Fn(&'a T) -> W> Serialize for Each<'a, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

struct FileJson<'a>(&'a File);

impl Serialize for FileJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("filename", &file.name)?;
        map.serialize_entry("url", &below_page(&file.version, &file.name))?;
        map.serialize_entry("hashes", &HashesJson(&file.hashes))?;
        if let Some(requires_python) = &file.requires_python {
            map.serialize_entry("requires-python", requires_python)?;
        }
        if let Some(size) = file.size {
            map.serialize_entry("size", &size)?;
        }
        if let Some(upload_time) = &file.upload_time {
            map.serialize_entry("upload-time", upload_time)?;
        }
        match &file.yanked {
            Yanked::No => map.serialize_entry("yanked", &false)?,
            Yanked::Yes => map.serialize_entry("yanked", &true)?,
            Yanked::Because(reason) => map.serialize_entry("yanked", reason)?,
        }
        match &file.core_metadata {
            CoreMetadata::Absent => {}
            CoreMetadata::Hashed(hashes) if presentable(hashes).next().is_some() => {
                map.serialize_entry("core-metadata", &HashesJson(hashes))?;
            }
            CoreMetadata::Available | CoreMetadata::Hashed(_) => {
                map.serialize_entry("core-metadata", &true)?;
            }
        }
        if let Some(gpg_sig) = file.gpg_sig {
            map.serialize_entry("gpg-sig", &gpg_sig)?;
        }
        if let Some(provenance) = &file.provenance {
            map.serialize_entry("provenance", provenance)?;
        }
        write_foreign(&mut map, &file.extra, &keys::FILE)?;
        map.end()
    }
}

pub(super) struct HashesJson<'a>(pub &'a Hashes);

impl Serialize for HashesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(presentable(self.0))
    }
}

struct ListJson<'a>(&'a ProjectList);

impl Serialize for ListJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("meta", &serde_json::json!({"api-version": "1.0"}))?;
        map.serialize_entry("projects", &Each(&self.0.projects, ListEntry))?;
        map.end()
    }
}

struct ListEntry<'a>(&'a ProjectName);

impl Serialize for ListEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("name", self.0)?;
        map.end()
    }
}
