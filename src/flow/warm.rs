//! Fetching what a lock file names before a client asks for it: through the ordinary flow, so every file is requested
//! once, verified and stored as it would be for a client, and waits behind the clients that ask for something now.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Flow, OpenFile, Route};
use crate::cache::DownloadFailure;
use wheelport_index::{Algorithm, File, FileAddress, FileName, Hashes, ProjectName};

/// How often a file is tried, where upstream does not respond.
const ATTEMPTS: u32 = 3;
/// How long a pause before the next attempt may be, whatever upstream asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long one file may take from upstream's response to its last byte.
const FILE_LIMIT: Duration = Duration::from_mins(30);

/// What a lock file names of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmItem {
    pub project: ProjectName,
    /// The file; without it, the listed files with one of the digests.
    pub file: Option<FileName>,
    pub digests: Vec<WarmDigest>,
}

/// A digest, written `sha256:0123…` in lock files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmDigest {
    algorithm: Box<str>,
    hex: String,
}

impl WarmDigest {
    /// `None` where the algorithm is not known, or the digits are not those of one of its digests.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, hex) = text.split_once(':')?;
        let (algorithm, hex) = (Algorithm::from_name(name)?, hex.to_ascii_lowercase());
        let is_digest = hex.len() == algorithm.hex_length() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| Self { algorithm: name.into(), hex })
    }

    /// Whether the index names the same; `None` where it names none of this kind.
    pub(super) fn agrees_with(&self, hashes: &Hashes) -> Option<bool> {
        hashes.get(&self.algorithm).map(|listed| listed.eq_ignore_ascii_case(&self.hex))
    }
}

/// What became of one file.
#[derive(Debug)]
pub struct Warmed {
    /// Its name; that of the project where no file was found.
    pub name: String,
    pub outcome: Result<WarmSuccess, WarmFailure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmSuccess {
    Fetched,
    /// It was here.
    Stored,
}

impl WarmSuccess {
    /// The word in responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Stored => "stored",
        }
    }
}

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub enum WarmFailure {
    #[error("the index does not list it")]
    NotListed,
    #[error("the index lists no file with one of its digests")]
    NoSuchDigest,
    #[error("the index names another digest than the lock file")]
    OtherBytes,
    #[error("the cache cannot take it")]
    NotStorable,
    #[error(transparent)]
    Upstream(#[from] Error),
}

impl Flow {
    /// Sees to it that what an item names is stored.
    pub async fn warm(&self, route: &Arc<Route>, item: &WarmItem) -> Vec<Warmed> {
        let name = item.file.as_ref().map_or_else(|| item.project.to_string(), ToString::to_string);
        let failed = |failure| vec![Warmed { name: name.clone(), outcome: Err(failure) }];
        let page = match repeated(|| self.pages.get(route, &item.project).wait()).await {
            Ok(page) => page,
            Err(Error::NoSuchProject { .. }) => return failed(WarmFailure::NotListed),
            Err(error) => return failed(error.into()),
        };
        let wanted = match chosen(item, &page.shown.content.page.files) {
            Ok(wanted) => wanted,
            Err(failure) => return failed(failure),
        };
        let mut warmed = Vec::with_capacity(wanted.len());
        for file in wanted {
            let (project, version) = (item.project.clone(), file.version.clone());
            let address = FileAddress { project, version, file: file.name.clone() };
            warmed.push(Warmed { name: file.name.to_string(), outcome: self.warm_file(route, &address).await });
        }
        warmed
    }

    async fn warm_file(&self, route: &Arc<Route>, address: &FileAddress) -> Result<WarmSuccess, WarmFailure> {
        match repeated(|| self.files.open(route, address, |_| true).wait()).await? {
            OpenFile::Stored(_) | OpenFile::Described { .. } => Ok(WarmSuccess::Stored),
            OpenFile::Bypass { .. } => Err(WarmFailure::NotStorable),
            OpenFile::Growing { mut download, .. } => {
                match tokio::time::timeout(FILE_LIMIT, download.verified()).await {
                    Ok(Ok(_)) => Ok(WarmSuccess::Fetched),
                    Ok(Err(DownloadFailure::Upstream(error))) => Err(error.into()),
                    Ok(Err(DownloadFailure::Storage)) => Err(WarmFailure::NotStorable),
                    Ok(Err(_)) => Err(Error::internal("a download ended without an outcome").into()),
                    Err(_) => Err(Error::timed_out().into()),
                }
            }
        }
    }
}

/// The listed files that an item names.
fn chosen<'a>(item: &WarmItem, listed: &'a [File]) -> Result<Vec<&'a File>, WarmFailure> {
    let Some(name) = &item.file else {
        let is_named = |file: &&File| item.digests.iter().any(|digest| digest.agrees_with(&file.hashes) == Some(true));
        let found: Vec<&File> = listed.iter().filter(is_named).collect();
        return if found.is_empty() { Err(WarmFailure::NoSuchDigest) } else { Ok(found) };
    };
    let file = listed.iter().find(|file| file.name == *name).ok_or(WarmFailure::NotListed)?;
    let verdicts: Vec<bool> = item.digests.iter().filter_map(|digest| digest.agrees_with(&file.hashes)).collect();
    if verdicts.is_empty() || verdicts.contains(&true) { Ok(vec![file]) } else { Err(WarmFailure::OtherBytes) }
}

/// Tries again while upstream does not respond, after the pause that is asked for.
pub(super) async fn repeated<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut number = 1;
    loop {
        match attempt().await {
            Err(Error::Unavailable { retry_after, .. }) if number < ATTEMPTS => {
                number += 1;
                tokio::time::sleep(retry_after.min(LONGEST_PAUSE)).await;
            }
            outcome => return outcome,
        }
    }
}
