//! A project for people: its releases, the files of one of them, what is decided about each and why, and what its core
//! metadata says.
//!
//! Reads what a client would read, in the same ways: the page, and the core metadata of one wheel. Where the metadata
//! cannot be had in time, the view says so and has the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::file_report::FileReport;
use super::{Error, MetadataService, PageService, PageView, Route, Served, ShownPage};
use crate::cache::{Blobs, CachedMetadata};
use crate::policy::{Grounds, PackageOrigin};
use wheelport_index::{
    File, FileAddress, FileKind, FileName, ProjectName, ProjectStatus, Release, Releases, VersionSegment, Yanked,
};
use wheelport_runtime::{Waits, blocking};

/// How long a view waits for core metadata.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// When it waits no more, whatever it has waited for before: it is shown without.
const LONGEST: Duration = Duration::from_secs(10);
/// Files of one release that are shown.
const MOST_FILES: usize = 1000;
/// Releases that are shown.
const MOST_RELEASES: usize = 10_000;

/// A project, and one of its releases.
pub struct ProjectOverview {
    pub project: ProjectName,
    /// What the index says of the project.
    pub status: Option<ProjectStatus>,
    /// The newest first.
    pub releases: Vec<ReleaseView>,
    /// Releases beyond the most that are shown.
    pub further_releases: usize,
    /// The version that an installer would choose.
    pub newest: Option<String>,
    /// The release whose files are shown; none where there is none.
    pub chosen: Option<usize>,
    /// Of the chosen release.
    pub files: Vec<FileView>,
    /// Files beyond the most that are shown.
    pub further_files: usize,
    /// Where the chosen release comes from, where that is known.
    pub origin: Option<PackageOrigin>,
    pub metadata: MetadataView,
    pub served: Served,
}

/// A version of a project.
pub struct ReleaseView {
    pub version: String,
    /// When its first file was uploaded, as the index says.
    pub uploaded: Option<String>,
    pub files: usize,
    /// Whether an installer takes it without being asked for pre-releases.
    pub is_final: bool,
    /// Whether all of its files are yanked, and a reason.
    pub yanked: Option<Yanked>,
    /// Why rules refuse the first of the files that they refuse.
    pub refused: Option<Grounds>,
    /// How many files rules refuse.
    pub refused_files: usize,
}

/// A file of the chosen release.
pub struct FileView {
    pub file: File,
    /// The link from the directory of all project pages.
    pub path: String,
    pub is_stored: bool,
    /// Why a rule refuses it.
    pub refused: Option<Grounds>,
    /// What is decided about it, where there are rules.
    pub report: Option<FileReport>,
}

/// The core metadata of the chosen release.
pub enum MetadataView {
    Known(CachedMetadata),
    /// None of the files is a wheel.
    NoWheel,
    /// Rules refuse all wheels.
    Refused,
    /// It cannot be had now.
    Unavailable(Error),
}

/// Views of projects. Cheap to clone.
#[derive(Clone)]
pub struct ProjectViews {
    pub(super) pages: PageService,
    pub(super) metadata: MetadataService,
    pub(super) blobs: Blobs,
}

/// What the page says.
struct Outline {
    view: ProjectOverview,
    /// The wheel whose metadata is read.
    wheel: Option<FileAddress>,
    segment: Option<VersionSegment>,
}

impl ProjectViews {
    /// A project and one of its versions, or the one that an installer would choose.
    pub async fn get(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        version: Option<VersionSegment>,
    ) -> Result<ProjectOverview, Error> {
        let began = Instant::now();
        let PageView { shown, served, .. } = self.pages.get(route, project).wait().await?;
        let (outlined, blobs, wanted) = (shown.clone(), self.blobs.clone(), version.clone());
        let outline = blocking(move || outline(&outlined, &blobs, wanted.as_ref(), served)).await?;
        let Some(Outline { mut view, wheel, segment }) = outline else {
            return Err(missing(route, project, &shown, version));
        };
        if view.files.is_empty()
            && let Some(blocked) = shown.hidden(route, None)
        {
            return Err(blocked);
        }
        let judge = self.pages.judge();
        let reports = async {
            if judge.policy().is_empty() {
                return Ok(Vec::new());
            }
            judge.report(route, &shown.content, judge.policy().rules()).await
        };
        let origin = judge.ask_origin(route, project, segment.as_ref());
        let (reports, origin, metadata) = tokio::join!(reports, origin, self.metadata(route, &view, wheel, began));
        view.explain(reports?);
        view.origin = origin;
        view.metadata = metadata;
        Ok(view)
    }

    async fn metadata(
        &self,
        route: &Arc<Route>,
        view: &ProjectOverview,
        wheel: Option<FileAddress>,
        began: Instant,
    ) -> MetadataView {
        let Some(wheel) = wheel else {
            let has_wheel = view.files.iter().any(|file| file.file.name.kind() == FileKind::Wheel);
            return if has_wheel { MetadataView::Refused } else { MetadataView::NoWheel };
        };
        let until = (began + LONGEST).min(Instant::now() + METADATA_TIMEOUT);
        let reading = tokio::time::timeout_at(until, self.metadata.get(route, &wheel, None).wait());
        match Waits::note("metadata", reading).await {
            Ok(Ok(found)) => MetadataView::Known(found.metadata),
            Ok(Err(error)) => MetadataView::Unavailable(error),
            Err(_) => MetadataView::Unavailable(Error::timed_out()),
        }
    }
}

impl ProjectOverview {
    /// Adds what is decided about the files, and why. What the view does not show of a page is not told either.
    fn explain(&mut self, reports: Vec<FileReport>) {
        let mut reports: HashMap<String, FileReport> =
            reports.into_iter().map(|report| (report.file.clone(), report)).collect();
        for file in &mut self.files {
            file.report = reports.remove(file.file.name.as_str());
        }
    }
}

/// Why there is nothing to view.
fn missing(route: &Route, project: &ProjectName, shown: &ShownPage, version: Option<VersionSegment>) -> Error {
    match (shown.hidden(route, version.as_ref()), version) {
        (Some(blocked), _) => blocked,
        (None, Some(version)) => Error::NoSuchVersion { project: project.clone(), version },
        (None, None) => Error::NoSuchProject { route: Arc::clone(&route.name), project: project.clone() },
    }
}

/// What a page says; none where it does not have the version. Blocking.
fn outline(shown: &ShownPage, blobs: &Blobs, version: Option<&VersionSegment>, served: Served) -> Option<Outline> {
    let page = shown.page();
    let releases = Releases::of(&page).newest_first();
    let chosen = match version {
        Some(version) => Some(releases.find(version.as_str())?),
        None => releases.newest(),
    };
    let release = chosen.map(|chosen| &releases.0[chosen]);
    let files: &[&File] = release.map_or(&[], |release| &release.files);
    let view_file = |file: &&File| {
        let file = shown.listed(&file.name).unwrap_or(file).clone();
        let address = address(&page.name, &file);
        FileView {
            path: address.relative(),
            is_stored: file.hashes.sha256().is_some_and(|sha256| blobs.has(sha256)),
            refused: shown.grounds(&file.name).cloned(),
            report: None,
            file,
        }
    };
    let shown_releases = MOST_RELEASES.max(chosen.map_or(0, |chosen| chosen + 1));
    let view = ProjectOverview {
        project: page.name.clone(),
        status: page.status.clone(),
        releases: releases.0.iter().take(shown_releases).map(|release| view_release(shown, release)).collect(),
        further_releases: releases.0.len().saturating_sub(shown_releases),
        newest: releases.newest().map(|newest| releases.0[newest].version.to_owned()),
        chosen,
        files: files.iter().take(MOST_FILES).map(view_file).collect(),
        further_files: files.len().saturating_sub(MOST_FILES),
        origin: None,
        metadata: MetadataView::NoWheel,
        served,
    };
    let wheel = wheel(shown, files).map(|file| address(&page.name, file));
    let segment = files.first().map(|file| file.version.clone());
    Some(Outline { view, wheel, segment })
}

fn address(project: &ProjectName, file: &File) -> FileAddress {
    FileAddress { project: project.clone(), version: file.version.clone(), file: file.name.clone() }
}

/// The wheel whose metadata is read: one for any platform, else the smallest.
fn wheel<'a>(shown: &ShownPage, files: &[&'a File]) -> Option<&'a File> {
    let readable = files.iter().filter(|file| {
        let is_wheel = file.name.kind() == FileKind::Wheel && FileName::distribution(&file.name).is_some();
        is_wheel && shown.grounds(&file.name).is_none()
    });
    readable.min_by_key(|file| (!file.name.as_str().ends_with("-any.whl"), file.size)).copied()
}

fn view_release(shown: &ShownPage, release: &Release<'_>) -> ReleaseView {
    let listed = || release.files.iter().map(|file| shown.listed(&file.name).unwrap_or(file));
    let is_yanked = !release.files.is_empty() && listed().all(|file| !file.yanked.is_no());
    let reason = listed().map(|file| &file.yanked).max_by_key(|yanked| matches!(yanked, Yanked::Because(_)));
    let refused = || release.files.iter().filter_map(|file| shown.grounds(&file.name));
    ReleaseView {
        version: release.version.to_owned(),
        uploaded: release.uploaded().map(str::to_owned),
        files: release.files.len(),
        is_final: release.is_final(),
        yanked: reason.cloned().filter(|_| is_yanked),
        refused: refused().next().cloned(),
        refused_files: refused().count(),
    }
}
