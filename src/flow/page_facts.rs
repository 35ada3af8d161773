//! What is known of the files of a page, as decisions look at it.

use crate::cache::{CoreMetadataRecord, MetadataStore, PageContent};
use crate::policy::{FileFacts, Moment, NamedVersions, ProjectRules};
use wheelport_index::{File, FileName, ProjectName, VersionSegment, wheel};

use super::origins::ProjectOrigins;
use super::release_dates::ReleaseDates;

/// Where the facts are.
pub(super) struct PageFacts<'a> {
    pub content: &'a PageContent,
    pub origins: Option<&'a ProjectOrigins>,
    pub metadata: &'a MetadataStore,
}

impl PageFacts<'_> {
    /// Gathers the facts of all files of a page. Blocking.
    pub(super) fn each(&self, rules: &ProjectRules<'_>, mut visit: impl FnMut(&File, &FileFacts<'_>)) {
        let Self { content, origins, .. } = self;
        let page = &content.page;
        let dates = rules.needs_release_dates().then(|| ReleaseDates::of(&page.files));
        let mut versions = VersionsOfFiles::default();
        for file in &page.files {
            let since = content.undated.get(&file.name);
            let licence = if rules.needs_licence() { self.licence(file) } else { None };
            let facts = FileFacts {
                versions: if rules.needs_versions() { versions.of(file, &page.name) } else { NamedVersions::default() },
                kind: file.name.kind(),
                origin: origins.and_then(|origins| origins.of(&file.version)),
                sha256: file.hashes.sha256(),
                uploaded: uploaded(file),
                known_since: since.map(|since| Moment(since.at)),
                came_later: since.is_some_and(|since| since.came_later),
                release_began: dates.as_ref().and_then(|dates| dates.began(file)),
                licence: licence.as_deref(),
            };
            visit(file, &facts);
        }
    }

    /// The licence expression of a wheel whose core metadata is held. Blocking.
    fn licence(&self, file: &File) -> Option<String> {
        let sha256 = file.hashes.sha256()?;
        let store = self.metadata;
        match store.in_memory(sha256).or_else(|| store.get(sha256))? {
            CoreMetadataRecord::Present(metadata) => wheel::licence_expression(&metadata.bytes),
            CoreMetadataRecord::Absent => None,
        }
    }
}

/// When a file was uploaded, as the index says.
pub(super) fn uploaded(file: &File) -> Option<Moment> {
    Moment::parse(file.upload_time.as_deref()?).ok()
}

/// The versions of files, of which many in a row are of one version.
#[derive(Default)]
struct VersionsOfFiles {
    last: Option<(VersionSegment, String, NamedVersions)>,
}

impl VersionsOfFiles {
    fn of(&mut self, file: &File, project: &ProjectName) -> NamedVersions {
        let named = FileName::version_of(&file.name, project).unwrap_or_default();
        if let Some((segment, name, versions)) = &self.last
            && (segment, name) == (&file.version, &named)
        {
            return versions.clone();
        }
        let texts = [file.version.as_str(), named.as_str()].into_iter().filter(|text| !text.is_empty());
        let versions = NamedVersions::of(texts);
        self.last = Some((file.version.clone(), named, versions.clone()));
        versions
    }
}
