//! What records hold: a project's page, and a repository's project list.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use serde::Serialize;

use super::ledger::UndatedFiles;
use super::records::Weighted;
use wheelport_index::{CoreMetadata, File, FileAddress, FileName, Hasher, Hashes, Page, ProjectList, Sha256, Yanked};

/// What one file of a page weighs in memory besides its own strings, in bytes: a rounded measurement.
const FILE_OVERHEAD: usize = 320;
/// What one string of a list of strings weighs besides its characters, in bytes.
const TEXT_OVERHEAD: usize = 64;
/// What one name of a list weighs besides its characters, in bytes.
const NAME_OVERHEAD: usize = 64;
/// What anything weighs besides its parts, in bytes.
const OVERHEAD: usize = 1024;
/// What it weighs that a file without a time of upload is known since a moment, in bytes.
const UNDATED_OVERHEAD: usize = 64;

/// Files whose changed bytes are refused, with the entries as upstream lists them.
pub type RefusedFiles = HashMap<FileName, File, RandomState>;

/// A project's page as it is served.
#[derive(Debug)]
pub struct PageContent {
    pub page: Page,
    /// The SHA-256 of the page's own serialisation: equal pages have equal digests, also after a restart.
    pub digest: Sha256,
    /// Files that are served only as far as their known bytes are stored. The page names those.
    pub refused: RefusedFiles,
    /// Since when the files are known that have no time of upload.
    pub undated: UndatedFiles,
    /// Tells the contents of this process apart.
    pub id: u64,
    positions: HashMap<FileName, u32, RandomState>,
}

/// The project list of a repository.
#[derive(Debug)]
pub struct ListContent {
    pub list: ProjectList,
    /// As in [`PageContent`].
    pub digest: Sha256,
}

impl PageContent {
    pub fn new(page: Page, refused: RefusedFiles, undated: UndatedFiles) -> Self {
        static CONTENTS: AtomicU64 = AtomicU64::new(0);
        let id = CONTENTS.fetch_add(1, Ordering::Relaxed);
        let positions = page.files.iter().zip(0..).map(|(file, position)| (file.name.clone(), position)).collect();
        Self { digest: digest(&page), refused, undated, id, positions, page }
    }

    /// Whether it would be the same with these parts.
    pub fn is_same(&self, page: &Page, refused: &RefusedFiles, undated: &UndatedFiles) -> bool {
        self.page == *page && self.refused == *refused && self.undated == *undated
    }

    /// The page with its files as upstream lists them.
    pub fn as_listed(&self) -> Page {
        let mut page = self.page.clone();
        for file in &mut page.files {
            if let Some(listed) = self.refused.get(&file.name) {
                *file = listed.clone();
            }
        }
        page
    }

    /// The entry of a file as upstream lists it.
    pub fn listed_upstream(&self, name: &FileName) -> Option<&File> {
        self.refused.get(name).or_else(|| self.file(name))
    }

    /// The entry of a file.
    pub fn file(&self, name: &FileName) -> Option<&File> {
        self.positions.get(name).and_then(|position| self.page.files.get(*position as usize))
    }

    /// The SHA-256 and the length of the file at this address below the page, where it names a SHA-256 and nothing has
    /// to be decided about it.
    pub fn proven(&self, address: &FileAddress) -> Option<(Sha256, Option<u64>)> {
        let file = self.listed(address).filter(|file| !self.refused.contains_key(&file.name))?;
        Some((file.hashes.sha256()?, file.size))
    }

    /// Whether the page names no SHA-256 for some file.
    pub fn lacks_digests(&self) -> bool {
        self.page.files.iter().any(|file| file.hashes.sha256().is_none())
    }

    /// The entry of the file at this address below the page.
    pub fn listed(&self, address: &FileAddress) -> Option<&File> {
        self.file(&address.file).filter(|file| file.version == address.version)
    }
}

impl ListContent {
    pub fn new(list: ProjectList) -> Self {
        Self { digest: digest(&list), list }
    }
}

impl Weighted for PageContent {
    fn weight(&self) -> usize {
        let page = &self.page;
        let versions: usize = page.versions.iter().flatten().map(|version| TEXT_OVERHEAD + version.len()).sum();
        let status = page.status.as_ref().map_or(0, |status| status.status.len() + length(status.reason.as_ref()));
        let extra = page.extra.weight() + page.meta_extra.weight();
        let files = page.files.iter().chain(self.refused.values()).map(file_weight).sum::<usize>();
        files + versions + status + extra + self.undated.len() * UNDATED_OVERHEAD + OVERHEAD
    }
}

/// What one file of a page weighs with all of its strings.
fn file_weight(file: &File) -> usize {
    let hashes = |hashes: &Hashes| hashes.iter().map(|(name, value)| TEXT_OVERHEAD + name.len() + value.len()).sum();
    let metadata: usize = match &file.core_metadata {
        CoreMetadata::Hashed(digests) => hashes(digests),
        CoreMetadata::Absent | CoreMetadata::Available => 0,
    };
    let yanked = match &file.yanked {
        Yanked::Because(reason) => reason.len(),
        Yanked::No | Yanked::Yes => 0,
    };
    let texts = [&file.requires_python, &file.upload_time].map(|text| length(text.as_ref()));
    let provenance = length(file.provenance.as_ref().and_then(Option::as_ref));
    let address = file.version.as_str().len() + file.url.as_ref().map_or(0, |url| url.as_str().len());
    let digests: usize = hashes(&file.hashes);
    FILE_OVERHEAD
        + file.name.as_str().len() * 2
        + address
        + digests
        + metadata
        + yanked
        + texts.iter().sum::<usize>()
        + provenance
        + file.extra.weight()
}

fn length(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

impl Weighted for ListContent {
    fn weight(&self) -> usize {
        self.list.projects.iter().map(|name| NAME_OVERHEAD + name.as_str().len()).sum::<usize>() + OVERHEAD
    }
}

fn digest(document: &impl Serialize) -> Sha256 {
    struct Hashing(Hasher);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = BufWriter::with_capacity(64 << 10, Hashing(Hasher::new(None)));
    serde_json::to_writer(&mut writer, document).expect("a document of the index can be written to memory");
    let Hashing(hasher) = writer.into_inner().map_err(io::IntoInnerError::into_error).expect("hashing does not fail");
    hasher.finish().sha256
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::ProjectName;
    use wheelport_index::parse::PageFormat;

    #[test]
    fn everything_that_a_page_holds_weighs_something() -> Result<(), Box<dyn std::error::Error>> {
        let weight = |page: Page| PageContent::new(page, RefusedFiles::default(), UndatedFiles::default()).weight();
        let long = "x".repeat(10_000);
        let empty = || ProjectName::parse("hello").map(Page::empty);
        let unknown = || serde_json::from_str::<wheelport_index::Extra>(&format!(r#"{{"new": "{long}"}}"#));
        let light = weight(empty()?);
        for heavy in [
            Page { versions: Some(vec![long.clone()]), ..empty()? },
            Page { extra: unknown()?, ..empty()? },
            Page { meta_extra: unknown()?, ..empty()? },
        ] {
            assert!(weight(heavy) >= light + long.len());
        }
        let body = |rest: &str| format!(r#"{{"files": [{{"url": "1/a-1.tar.gz"{rest}}}]}}"#);
        let text = "y".repeat(1000);
        let read = |rest: &str| {
            let base = "https://index.example.org/simple/a/".parse()?;
            let name = ProjectName::parse("a")?;
            let page = wheelport_index::parse::page(PageFormat::Json, body(rest).as_bytes(), &base, &name)?.page;
            Ok::<_, Box<dyn std::error::Error>>(weight(page))
        };
        let light = read("")?;
        for key in ["requires-python", "yanked", "new", "provenance"] {
            let heavy = read(&format!(r#", "{key}": "https://index.example.org/{text}""#))?;
            assert!(heavy >= light + text.len(), "{key}");
        }
        let elsewhere = read(&format!(r#", "url": "https://index.example.org/{text}/a-1.tar.gz""#))?;
        assert!(elsewhere >= light + text.len());
        Ok(())
    }

    #[test]
    fn equal_pages_have_equal_digests_and_others_have_others() {
        let name = || ProjectName::parse("hello").expect("a name");
        let page = |versions: &[&str]| {
            let versions = versions.iter().map(|&version| version.to_owned()).collect();
            let page = Page { versions: Some(versions), ..Page::empty(name()) };
            PageContent::new(page, RefusedFiles::default(), UndatedFiles::default())
        };
        assert_eq!(page(&["1.0"]).digest, page(&["1.0"]).digest);
        assert_ne!(page(&["1.0"]).digest, page(&["1.0", "2.0"]).digest);
    }
}
