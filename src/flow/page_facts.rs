//! What is known of the files of a page, as decisions look at it.

use std::borrow::Cow;

use crate::cache::{Blobs, CoreMetadataRecord, KnownSince, MetadataStore, PageContent};
use crate::policy::{FileFacts, Moment, NamedVersions, OfKind, ProjectRules};
use wheelport_index::{File, FileAddress, FileName, Sha256, VersionSegment, wheel};
use wheelport_runtime::sabotaged;

use super::Route;
use super::intake::ProjectIntake;
use super::linked_digest::link_key;
use super::origins::ProjectOrigins;
use super::release_dates::ReleaseDates;

/// Where the facts are.
pub(super) struct PageFacts<'a> {
    pub route: &'a Route,
    pub content: &'a PageContent,
    pub origins: Option<&'a ProjectOrigins>,
    pub intake: Option<&'a ProjectIntake>,
    pub metadata: &'a MetadataStore,
    pub blobs: &'a Blobs,
}

impl PageFacts<'_> {
    /// Gathers the facts of all files of a page, each with the rules that may be about it. Blocking.
    ///
    /// Of many rules, few are about a page, and fewer about one of its versions. That is found out once, so that the
    /// work does not grow with the product of rules and files.
    pub(super) fn each(
        &self,
        rules: &ProjectRules<'_>,
        mut visit: impl FnMut(&File, &FileFacts<'_>, &ProjectRules<'_>),
    ) {
        let Self { content, origins, .. } = self;
        let page = &content.page;
        let (by_file, needs_versions, needs_digest) = (rules.by_file(), rules.needs_versions(), rules.needs_digest());
        let dates = rules.needs_release_dates().then(|| ReleaseDates::of(&page.files));
        let mut last = None::<OneVersion<'_, '_, '_>>;
        for file in &page.files {
            let named = if needs_versions { FileName::version_of(&file.name, &page.name) } else { None };
            let named = named.unwrap_or_default();
            let known = last.take().filter(|last| !needs_versions || last.is_of(file, named));
            let OneVersion { versions, rules: of_kinds, .. } =
                last.insert(known.unwrap_or_else(|| OneVersion::new(file, named, needs_versions)));
            let kind = file.name.kind();
            let sha256 = file.hashes.sha256().or_else(|| if needs_digest { self.linked(file) } else { None });
            let of_bytes = by_file.names(sha256).then(|| by_file.about(versions, sha256, kind));
            let of_kind = &mut of_kinds[kind as usize];
            let rules = match &of_bytes {
                Some(rules) => rules,
                None => of_kind.get_or_insert_with(|| by_file.about(versions, None, kind)),
            };
            let since = content.undated.get(&file.name);
            let licence = if rules.needs_licence() { self.licence(file) } else { None };
            let facts = FileFacts {
                versions: Cow::Borrowed(versions),
                kind,
                origin: origins.and_then(|origins| origins.of(&file.version)),
                sha256,
                uploaded: uploaded(file),
                known_since: since.map(|since| Moment(since.at)),
                taken_in: since.and_then(|since| self.taken_in(file, *since)),
                came_later: since.is_some_and(|since| since.came_later),
                release_began: dates.as_ref().and_then(|dates| dates.began(file)),
                licence: licence.as_deref(),
            };
            visit(file, &facts, rules);
        }
    }

    /// Versions whose time of intake may bear on a decision, or on an index as of a date.
    pub(super) fn wanting_intake(
        content: &PageContent,
        rules: &ProjectRules<'_>,
        as_of: Option<Moment>,
        now: Moment,
    ) -> Vec<VersionSegment> {
        let is_open = |since: &KnownSince| {
            let at = Moment(since.at);
            proves_intake(*since) && (as_of.is_some_and(|as_of| at > as_of) || rules.may_depend_on_age(at, now))
        };
        let open = content.undated.iter().filter(|(_, since)| is_open(since));
        open.filter_map(|(file, _)| content.file(file)).map(|file| file.version.clone()).collect()
    }

    /// The digest that was recorded when a file was fetched of which the page names another one. Blocking.
    fn linked(&self, file: &File) -> Option<Sha256> {
        let project = self.content.page.name.clone();
        let address = FileAddress { project, version: file.version.clone(), file: file.name.clone() };
        let key = link_key(self.route, &address, &file.hashes)?;
        if sabotaged("linked-digest") { None } else { self.blobs.linked(key) }
    }

    /// When the repository took the version of a file in, where that says something of the file.
    fn taken_in(&self, file: &File, since: KnownSince) -> Option<Moment> {
        self.intake?.of(&file.version).filter(|_| proves_intake(since))
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

/// Whether a file is as old as its version in the repository. One that was added later is not, however old that is.
pub(super) fn proves_intake(since: KnownSince) -> bool {
    since.on_first_page || sabotaged("intake-first-page")
}

/// When a file was uploaded, as the index says.
pub(super) fn uploaded(file: &File) -> Option<Moment> {
    Moment::parse(file.upload_time.as_deref()?).ok()
}

/// A version of which many files in a row are, with the rules that may be about those of each kind, but for rules that
/// name digests.
struct OneVersion<'f, 'b, 'r> {
    segment: &'f VersionSegment,
    /// The version in the name of the file.
    named: &'f str,
    versions: NamedVersions,
    rules: OfKind<Option<Cow<'b, ProjectRules<'r>>>>,
}

impl<'f> OneVersion<'f, '_, '_> {
    fn new(file: &'f File, named: &'f str, needs_versions: bool) -> Self {
        let versions = if needs_versions {
            let texts = [file.version.as_str(), named];
            NamedVersions::of(texts.into_iter().filter(|text| !text.is_empty()))
        } else {
            NamedVersions::none()
        };
        Self { segment: &file.version, named, versions, rules: Default::default() }
    }

    fn is_of(&self, file: &File, named: &str) -> bool {
        *self.segment == file.version && self.named == named
    }
}
