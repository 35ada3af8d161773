//! What records hold: a project's page, and a repository's project list.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use foldhash::quality::RandomState;
use serde::Serialize;

use super::records::Weighted;
use wheelport_index::{CoreMetadata, File, FileAddress, FileName, Hasher, Hashes, Page, ProjectList, Sha256, Yanked};

/// What one file of a page weighs in memory besides its own strings, in bytes: a rounded measurement.
const FILE_OVERHEAD: usize = 512;
/// What one string of a list of strings weighs besides its characters, in bytes.
const TEXT_OVERHEAD: usize = 64;
/// What one name of a list weighs besides its characters, in bytes.
const NAME_OVERHEAD: usize = 64;
/// What anything weighs besides its parts, in bytes.
const OVERHEAD: usize = 1024;

/// A project's page as it is served.
#[derive(Debug)]
pub struct PageContent {
    pub page: Page,
    /// The SHA-256 of the page's own serialisation: equal pages have equal digests, also after a restart.
    pub digest: Sha256,
    positions: HashMap<FileName, FileSlot, RandomState>,
}

/// Where the entry of a file is, and the digest that is looked up for every request of the file.
#[derive(Debug, Clone, Copy)]
struct FileSlot {
    index: usize,
    sha256: Option<Sha256>,
}

/// The project list of a repository.
#[derive(Debug)]
pub struct ListContent {
    pub list: ProjectList,
    /// As in [`PageContent`].
    pub digest: Sha256,
}

impl PageContent {
    pub fn new(page: Page) -> Self {
        let position =
            |(name, index): (FileName, usize)| (name, FileSlot { index, sha256: page.files[index].hashes.sha256() });
        let positions = page.index().into_iter().map(position).collect();
        Self { digest: digest(&page), positions, page }
    }

    /// The entry of a file.
    pub fn file(&self, name: &FileName) -> Option<&File> {
        self.positions.get(name).map(|position| &self.page.files[position.index])
    }

    /// The SHA-256 and the length of the file at this address below the page, where it names a SHA-256.
    pub fn proven(&self, address: &FileAddress) -> Option<(Sha256, Option<u64>)> {
        let position = self.positions.get(&address.file)?;
        let file = &self.page.files[position.index];
        (file.version == address.version).then_some((position.sha256?, file.size))
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
        page.files.iter().map(file_weight).sum::<usize>() + versions + status + extra + OVERHEAD
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

    #[test]
    fn equal_pages_have_equal_digests_and_others_have_others() {
        let name = || ProjectName::parse("hello").expect("a name");
        let page = |versions: &[&str]| {
            let versions = versions.iter().map(|&version| version.to_owned()).collect();
            PageContent::new(Page { versions: Some(versions), ..Page::empty(name()) })
        };
        assert_eq!(page(&["1.0"]).digest, page(&["1.0"]).digest);
        assert_ne!(page(&["1.0"]).digest, page(&["1.0", "2.0"]).digest);
    }
}
