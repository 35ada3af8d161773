//! A page as one route shows it: what the rules, or a date, leave of it. Pure.
//!
//! Made once for a page, a revision of the rules and the time until which nothing changes by itself. Whatever leads to
//! a file asks the same rulings, so the page and the file never say different things.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::error::{BlockedFile, Error};
use super::{Route, Served};
use crate::cache::{FetchedAt, PageContent};
use crate::policy::{Grounds, Moment};
use wheelport_index::{File, FileAddress, FileName, Page, ProjectStatus, Sha256, VersionSegment, Yanked, retain_files};
use wheelport_runtime::sabotaged;

/// What a ruling weighs in memory, in bytes.
const WEIGHT: u32 = 256;

/// A page, and how the response came about.
pub struct PageView {
    pub shown: ShownPage,
    pub fetched: FetchedAt,
    pub served: Served,
}

/// A page as it is shown. Cheap to clone.
#[derive(Clone)]
pub struct ShownPage {
    pub(super) content: Arc<PageContent>,
    /// None where everything is shown.
    pub(super) rulings: Option<Arc<Rulings>>,
}

/// What becomes of the files of a page.
#[derive(Debug)]
pub(super) struct Rulings {
    /// The rules under which it was found out.
    pub revision: u64,
    /// When another decision may be due.
    pub until: Option<Moment>,
    /// Whether it is for an index as of a date.
    pub is_dated: bool,
    /// The files with which something is the matter.
    files: HashMap<FileName, FileRuling, RandomState>,
    /// Of the page as it is shown.
    digest: Sha256,
}

/// What is the matter with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileRuling {
    /// It came later than the date of the index.
    Later,
    /// Listed as yanked, and refused.
    Explained(Grounds),
    /// Not listed, and refused.
    Hidden(Grounds),
    /// Served, while these rules look on.
    Audited(Vec<Arc<str>>),
}

impl FileRuling {
    fn is_listed(&self) -> bool {
        matches!(self, Self::Explained(_) | Self::Audited(_))
    }
}

impl Rulings {
    pub(super) fn new(
        content: &PageContent,
        files: Vec<(FileName, FileRuling)>,
        revision: u64,
        is_dated: bool,
    ) -> Self {
        let digest = digest(content, &files);
        Self { revision, until: None, is_dated, files: files.into_iter().collect(), digest }
    }

    pub(super) fn of(&self, file: &FileName) -> Option<&FileRuling> {
        self.files.get(file)
    }

    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX / WEIGHT).saturating_add(1).saturating_mul(WEIGHT)
    }
}

/// The same for pages that are shown alike, whatever the rules are called that lead to it.
fn digest(content: &PageContent, files: &[(FileName, FileRuling)]) -> Sha256 {
    let mut text = content.digest.to_string();
    for (file, ruling) in files {
        let _ = match ruling {
            FileRuling::Later => write!(text, "\n{file}\0later"),
            FileRuling::Hidden(_) => write!(text, "\n{file}\0hidden"),
            FileRuling::Explained(grounds) => write!(text, "\n{file}\0{}", explanation(grounds)),
            FileRuling::Audited(_) => Ok(()),
        };
    }
    let is_unchanged = files.iter().all(|(_, ruling)| matches!(ruling, FileRuling::Audited(_)));
    if is_unchanged || sabotaged("policy-digest") {
        return content.digest;
    }
    Sha256::of(text.as_bytes())
}

/// What a page says of a file that is refused.
fn explanation(grounds: &Grounds) -> String {
    match &grounds.help {
        Some(help) => format!("{grounds} {help}"),
        None => grounds.to_string(),
    }
}

impl ShownPage {
    /// The same for pages that are shown alike, also after a restart.
    pub fn digest(&self) -> Sha256 {
        self.rulings.as_ref().map_or(self.content.digest, |rulings| rulings.digest)
    }

    /// How many files upstream lists.
    pub fn files(&self) -> usize {
        self.content.page.files.len()
    }

    /// Whether it is of an index as of a date.
    pub fn is_dated(&self) -> bool {
        self.rulings.as_ref().is_some_and(|rulings| rulings.is_dated)
    }

    /// The SHA-256 and the length of the file at this address, where nothing has to be decided about it.
    pub(super) fn proven(&self, address: &FileAddress) -> Option<(Sha256, Option<u64>)> {
        let is_plain = self.rulings.as_ref().is_none_or(|rulings| rulings.of(&address.file).is_none());
        if is_plain || sabotaged("policy-warm-file") { self.content.proven(address) } else { None }
    }

    /// The page itself. What is shown of it is a copy only where that differs.
    pub fn page(&self) -> Cow<'_, Page> {
        let page = &self.content.page;
        let changes =
            |rulings: &&Arc<Rulings>| rulings.files.values().any(|ruling| !matches!(ruling, FileRuling::Audited(_)));
        let Some(rulings) = self.rulings.as_ref().filter(changes) else { return Cow::Borrowed(page) };
        let mut shown = page.clone();
        let is_shown = |file: &File| rulings.of(&file.name).is_none_or(FileRuling::is_listed);
        retain_files(&mut shown, is_shown);
        for file in &mut shown.files {
            if let Some(FileRuling::Explained(grounds)) = rulings.of(&file.name) {
                file.yanked = Yanked::Because(explanation(grounds));
            }
        }
        if shown.files.is_empty()
            && let Some(grounds) = page.files.iter().find_map(|file| match rulings.of(&file.name) {
                Some(FileRuling::Hidden(grounds)) => Some(grounds),
                _ => None,
            })
        {
            shown.status = Some(ProjectStatus::quarantined(explanation(grounds)));
        }
        Cow::Owned(shown)
    }

    /// The entry of a file without what rules add to it.
    pub(super) fn listed(&self, file: &FileName) -> Option<&File> {
        self.content.file(file)
    }

    /// Why a rule refuses a file, if one does.
    pub(super) fn grounds(&self, file: &FileName) -> Option<&Grounds> {
        match self.rulings.as_ref()?.of(file)? {
            FileRuling::Explained(grounds) | FileRuling::Hidden(grounds) => Some(grounds),
            FileRuling::Later | FileRuling::Audited(_) => None,
        }
    }

    /// Why the files of a version, or of all, are not shown, where a rule hides them.
    pub fn hidden(&self, route: &Route, version: Option<&VersionSegment>) -> Option<Error> {
        let rulings = self.rulings.as_ref()?;
        let of_version = |file: &&File| version.is_none_or(|version| file.version == *version);
        self.content.page.files.iter().filter(of_version).find_map(|file| match rulings.of(&file.name)? {
            FileRuling::Hidden(grounds) => {
                let project = self.content.page.name.clone();
                let address = FileAddress { project, version: file.version.clone(), file: file.name.clone() };
                Some(BlockedFile::error(&route.name, &address, grounds))
            }
            _ => None,
        })
    }
}
