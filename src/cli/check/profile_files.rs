//! Finds and reads the AWS configuration files that the profile inspection looks at.

use std::fs;
use std::path::{Path, PathBuf};

use super::profile::{Inspection, TextFile};
use super::target::Environment;
use wheelport_runtime::Clock;

/// No file that a person writes is larger.
const MAX_SIZE: u64 = 1 << 20;
const MAX_CACHED: usize = 200;

/// Gathers what an inspection needs. A missing file is not a finding.
pub(super) fn gather(profile: Option<&str>, environment: Environment<'_>, clock: &Clock) -> Inspection {
    let home = environment("HOME").or_else(|| environment("USERPROFILE")).map(PathBuf::from);
    let aws = home.map(|home| home.join(".aws"));
    let place = |variable: &str, name: &str| {
        environment(variable).map(PathBuf::from).or_else(|| aws.as_ref().map(|aws| aws.join(name)))
    };
    Inspection {
        config: place("AWS_CONFIG_FILE", "config").and_then(|path| read(&path)),
        credentials: place("AWS_SHARED_CREDENTIALS_FILE", "credentials").and_then(|path| read(&path)),
        selected: profile.map(str::to_owned).or_else(|| environment("AWS_PROFILE")).filter(|name| !name.is_empty()),
        sso_cache: aws.map(|aws| cached(&aws.join("sso").join("cache"))).unwrap_or_default(),
        now: clock.since_epoch(),
    }
}

fn read(path: &Path) -> Option<TextFile> {
    let size = fs::metadata(path).ok()?.len();
    let text = if size <= MAX_SIZE { fs::read_to_string(path).ok()? } else { return None };
    Some(TextFile { path: path.display().to_string(), text })
}

fn cached(directory: &Path) -> Vec<TextFile> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .take(MAX_CACHED)
        .filter_map(|path| read(&path))
        .collect()
}
