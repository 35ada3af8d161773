//! Where rules come from: the configuration file and a directory of files. Reading is blocking.
//!
//! The directory may be a mounted `ConfigMap`: its files are symbolic links that are swapped. So files are told by what
//! they hold and by nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::granted::GrantedException;
use super::rules::{Misfit, RuleSet, RuleSetBuilder};
use super::tables::{ConfiguredRules, PolicyTable, RuleFile};
use wheelport_index::Sha256;

/// The largest file of rules, in bytes.
const LARGEST_FILE: u64 = 4 << 20;
/// Files of rules at most.
const MOST_FILES: usize = 1000;

/// What the policy is made from.
#[derive(Debug, Clone, Default)]
pub struct PolicySettings {
    /// The `[policy]` table.
    pub table: PolicyTable,
    /// The configuration file, which may hold rules too.
    pub file: Option<PathBuf>,
    /// The names of the routes.
    pub routes: Vec<Arc<str>>,
}

/// Why there are no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFileError {
    #[error("{path}{}: {text}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Malformed { path: String, line: Option<usize>, text: String },
    #[error("{path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// The texts of all rules, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleTexts {
    configured: Option<(PathBuf, String)>,
    files: Vec<(PathBuf, String)>,
}

impl RuleTexts {
    /// Reads all files.
    pub(super) fn read(settings: &PolicySettings) -> Result<Self, RuleFileError> {
        let configured = settings.file.as_ref().map(|path| Ok((path.clone(), read_file(path)?))).transpose()?;
        let files = match &settings.table.directory {
            None => Vec::new(),
            Some(directory) => rule_files(directory)?
                .into_iter()
                .map(|path| read_file(&path).map(|text| (path, text)))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { configured, files })
    }

    /// The same with another text in place of the files of the directory.
    pub(super) fn with_candidate(&self, text: &str) -> Self {
        Self { configured: self.configured.clone(), files: vec![(PathBuf::from("the given rules"), text.to_owned())] }
    }

    /// Of all texts and of what else makes a difference.
    fn digest(&self, settings: &PolicySettings, granted: &[GrantedException]) -> Sha256 {
        let mut parts: Vec<String> = settings.table.private.iter().map(|glob| glob.0.glob().to_owned()).collect();
        parts.extend(granted.iter().map(|granted| granted.id.clone()));
        let texts = self.configured.iter().chain(&self.files);
        parts.extend(texts.map(|(_, text)| Sha256::of(text.as_bytes()).to_string()));
        Sha256::of(parts.join("\0").as_bytes())
    }

    /// Compiles them.
    pub(super) fn compile(
        &self,
        settings: &PolicySettings,
        granted: &[GrantedException],
    ) -> Result<RuleSet, RuleFileError> {
        let mut builder = RuleSetBuilder::new(&settings.routes);
        if let Some((path, text)) = &self.configured {
            let ConfiguredRules { rule, exception, freeze } = parse(path, text)?;
            let place = |misfit| malformed(path, text, misfit);
            rule.into_iter().try_for_each(|table| builder.rule(table)).map_err(place)?;
            exception.into_iter().try_for_each(|table| builder.exception(table)).map_err(place)?;
            freeze.into_iter().try_for_each(|table| builder.freeze(table)).map_err(place)?;
        }
        for (path, text) in &self.files {
            let RuleFile { rule, exception } = parse(path, text)?;
            let place = |misfit| malformed(path, text, misfit);
            rule.into_iter().try_for_each(|table| builder.rule(table)).map_err(place)?;
            exception.into_iter().try_for_each(|table| builder.exception(table)).map_err(place)?;
        }
        let together = |misfit: Misfit| RuleFileError::Malformed {
            path: "the rules together".to_owned(),
            line: None,
            text: misfit.text,
        };
        granted.iter().try_for_each(|granted| builder.granted(granted)).map_err(together)?;
        builder.build(&settings.table.private, self.digest(settings, granted)).map_err(together)
    }
}

impl PolicySettings {
    /// Reads and compiles the rules. Blocking.
    pub fn read(&self) -> Result<RuleSet, RuleFileError> {
        RuleTexts::read(self)?.compile(self, &[])
    }
}

fn parse<T: for<'de> serde::Deserialize<'de>>(path: &Path, text: &str) -> Result<T, RuleFileError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let misfit = Misfit { at: error.span().map(|span| span.start), text: error.message().to_owned() };
        malformed(path, text, misfit)
    })
}

fn malformed(path: &Path, text: &str, misfit: Misfit) -> RuleFileError {
    let line = misfit.at.and_then(|at| text.get(..at)).map(|before| before.matches('\n').count() + 1);
    RuleFileError::Malformed { path: path.display().to_string(), line, text: misfit.text }
}

fn unreadable(path: &Path, error: &io::Error) -> RuleFileError {
    RuleFileError::Unreadable { path: path.display().to_string(), reason: error.to_string() }
}

fn read_file(path: &Path) -> Result<String, RuleFileError> {
    let failed = |error: io::Error| unreadable(path, &error);
    let file = fs::File::open(path).map_err(failed)?;
    let text = io::read_to_string(io::Read::take(file, LARGEST_FILE + 1)).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(failed(io::Error::other(format!("it is larger than {LARGEST_FILE} bytes"))));
    }
    Ok(text)
}

/// The files of a directory, by name.
fn rule_files(directory: &Path) -> Result<Vec<PathBuf>, RuleFileError> {
    let failed = |error: io::Error| unreadable(directory, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.len() > MOST_FILES {
        return Err(failed(io::Error::other(format!("it has more than {MOST_FILES} files"))));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[path = "sources_tests.rs"]
pub(super) mod tests;
