//! The step about advisories: whether their source can be reached and read, what it has, and how old that is.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;
use url::Url;

use super::report::Finding;
use crate::advisories::{
    AdvisorySettings, AdvisorySource, AdvisoryTable, CopyHeader, CopyWriter, LARGEST_EXPORT, read_export,
};
use crate::upstream::{Client, ClientSettings, FetchedDocument};
use wheelport_runtime::{Clock, blocking};

const STEP: &str = "advisories";
/// Exports are made several times a day.
const OLD: Duration = Duration::from_hours(48);

/// An export that can be read, and when it was made.
struct CheckedExport {
    path: PathBuf,
    made: Option<SystemTime>,
    _scratch: Option<NamedTempFile>,
}

/// Reads the whole export, and keeps nothing of it.
pub(super) async fn step(settings: &AdvisorySettings, upstream: &ClientSettings, clock: &Clock) -> Option<Finding> {
    let source = settings.source.as_ref()?;
    let reading = tokio::time::timeout(settings.timeout.get(), read(source, upstream));
    let read = reading.await.unwrap_or_else(|_| Err("it takes too long".to_owned()));
    Some(match read {
        Ok((table, unreadable, made)) => {
            let age = made.and_then(|made| clock.now().duration_since(made).ok());
            judge(source, &table, unreadable, age)
        }
        Err(reason) => Finding::fail(
            STEP,
            format!("{source}: {reason}"),
            "name an export of OSV (a ZIP archive of JSON documents, or a directory of them) in `[advisories] source`, \
             and let this process read it; until then the last good copy stays in force",
        ),
    })
}

fn judge(source: &AdvisorySource, table: &AdvisoryTable, unreadable: usize, age: Option<Duration>) -> Finding {
    let hours = age.map(|age| format!(", made {} h ago", age.as_secs() / 3600)).unwrap_or_default();
    let (advisories, malware) = (table.len(), table.malware());
    let summary = format!("{source} has {advisories} advisories, {malware} of them about malware{hours}");
    if age.is_some_and(|age| age > OLD) {
        return Finding::warn(STEP, summary, "renew the export: malware is often reported within hours");
    }
    if malware == 0 {
        return Finding::warn(STEP, summary, "use an export that reports malware: ids that begin with MAL-");
    }
    let details = if unreadable > 0 { vec![format!("{unreadable} documents cannot be read")] } else { Vec::new() };
    Finding::ok(STEP, summary).with_details(details)
}

async fn read(
    source: &AdvisorySource,
    upstream: &ClientSettings,
) -> Result<(AdvisoryTable, usize, Option<SystemTime>), String> {
    let export = match source {
        AdvisorySource::Path(path) => {
            let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
            CheckedExport { path: path.clone(), made: metadata.modified().ok(), _scratch: None }
        }
        AdvisorySource::Url(url) => fetch(url, upstream).await?,
    };
    let path = export.path.clone();
    let read = blocking(move || gather(&path)).await.map_err(|panicked| panicked.to_string())?;
    let (table, unreadable) = read.map_err(|error| error.to_string())?;
    Ok((table, unreadable, export.made))
}

fn gather(path: &Path) -> Result<(AdvisoryTable, usize), crate::advisories::ExportError> {
    let mut copy = CopyWriter::new(io::sink(), &CopyHeader::default())?;
    let unreadable = read_export(path, &AdvisoryTable::default(), &mut copy)?;
    Ok((copy.finish()?.1, unreadable))
}

async fn fetch(url: &Url, upstream: &ClientSettings) -> Result<CheckedExport, String> {
    let client = Client::new(upstream.clone()).map_err(|error| error.to_string())?;
    let FetchedDocument::Arriving(mut body) = client.fetch(url, None, LARGEST_EXPORT).await? else {
        return Err("it says that nothing has changed".to_owned());
    };
    let mut scratch = NamedTempFile::new().map_err(|error| error.to_string())?;
    while let Some(bytes) = body.next().await? {
        scratch.write_all(&bytes).map_err(|error| error.to_string())?;
    }
    Ok(CheckedExport { path: scratch.path().to_owned(), made: body.modified, _scratch: Some(scratch) })
}

#[cfg(test)]
mod tests {
    use super::super::report::StepStatus;
    use super::*;

    #[tokio::test]
    async fn a_source_is_read_as_a_whole_and_judged_by_what_it_has() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("osv.json");
        let (clock, upstream) = (Clock::system(), ClientSettings::default());
        let settings = |path: &Path| AdvisorySettings {
            source: Some(AdvisorySource::Path(path.to_owned())),
            ..AdvisorySettings::default()
        };
        for (text, status, words) in [
            (r#"[{"id": "MAL-1"}, {"id": "GHSA-1"}]"#, StepStatus::Ok, "2 advisories, 1 of them about malware"),
            (r#"[{"id": "GHSA-1"}]"#, StepStatus::Warn, "1 advisories, 0 of them"),
            ("[]", StepStatus::Fail, "it holds no advisory"),
            ("<html>", StepStatus::Fail, "neither a ZIP archive nor"),
        ] {
            std::fs::write(&path, text)?;
            let finding = step(&settings(&path), &upstream, &clock).await.ok_or(io::ErrorKind::NotFound)?;
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.summary.contains(words), "{finding:?}");
        }
        std::fs::write(&path, r#"{"id": "MAL-1"}"#)?;
        let old = Clock::system();
        old.shift(72 * 3600);
        let finding = step(&settings(&path), &upstream, &old).await.ok_or(io::ErrorKind::NotFound)?;
        assert!(finding.status == StepStatus::Warn && finding.summary.contains("made 72 h ago"), "{finding:?}");
        let gone = step(&settings(&dir.path().join("gone")), &upstream, &clock).await.ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(gone.status, StepStatus::Fail);
        assert!(step(&AdvisorySettings::default(), &upstream, &clock).await.is_none());
        Ok(())
    }
}
