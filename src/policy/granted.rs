//! Exceptions that an operator grants in the running process: no deployment, and they outlive a restart.

use std::io;

use serde::{Deserialize, Serialize};

use super::globs::ProjectGlob;
use super::moment::{Expiry, Moment};
use super::tables::{ShownText, VersionRange};
use wheelport_index::Sha256;

/// Exceptions at the same time at most.
const MOST: usize = 1000;
/// How long an exception is still listed after it has expired, in seconds.
const LISTED_AFTER: u64 = 30 * 86_400;
/// Digits of an id.
const ID_LENGTH: usize = 12;

/// An exception as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedException {
    pub id: String,
    /// A glob over project names.
    pub project: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<String>,
    pub reason: String,
    pub by: String,
    #[serde(with = "seconds")]
    pub expires: Moment,
    #[serde(with = "seconds")]
    pub granted: Moment,
}

/// An exception that is asked for, as text.
#[derive(Debug, Clone, Deserialize)]
pub struct NewException {
    pub project: String,
    pub versions: Option<String>,
    pub reason: String,
    pub by: String,
    pub expires: String,
}

/// Why an exception is not granted or not removed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("{0}")]
    Invalid(String),
    #[error("there is no exception `{0}`")]
    Unknown(String),
    #[error("it could not be recorded: {0}")]
    Storage(#[from] io::Error),
}

/// Where granted exceptions are kept.
pub trait GrantStore: Send + Sync + 'static {
    /// What was saved last, if anything was. Blocking.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Blocking. It outlives a crash when this returns.
    fn save(&self, record: &[u8]) -> io::Result<()>;
}

/// All granted exceptions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Grants(pub Vec<GrantedException>);

impl NewException {
    fn check(self, now: Moment) -> Result<GrantedException, GrantError> {
        let invalid = |what: &str, error: String| GrantError::Invalid(format!("{what}: {error}"));
        ProjectGlob::parse(&self.project).map_err(|error| invalid("project", error))?;
        if let Some(versions) = &self.versions {
            VersionRange::parse(versions).map_err(|error| invalid("versions", error))?;
        }
        let ShownText(reason) = ShownText::parse(&self.reason).map_err(|error| invalid("reason", error))?;
        let ShownText(by) = ShownText::parse(&self.by).map_err(|error| invalid("by", error))?;
        let Expiry(expires) = Expiry::parse(&self.expires).map_err(|error| invalid("expires", error.to_string()))?;
        if expires <= now {
            return Err(invalid("expires", "this is in the past".to_owned()));
        }
        let parts = [&self.project, self.versions.as_deref().unwrap_or_default(), &reason, &now.to_string()];
        let mut id = Sha256::of(parts.join("\0").as_bytes()).to_string();
        id.truncate(ID_LENGTH);
        Ok(GrantedException { id, project: self.project, versions: self.versions, reason, by, expires, granted: now })
    }
}

impl Grants {
    pub(super) fn read(record: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(record).map_err(io::Error::other)
    }

    pub(super) fn written(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }

    pub(super) fn add(&mut self, new: NewException, now: Moment) -> Result<GrantedException, GrantError> {
        let granted = new.check(now)?;
        self.0.retain(|old| old.id != granted.id && old.expires.0 + LISTED_AFTER > now.0);
        if self.0.len() >= MOST {
            return Err(GrantError::Invalid(format!("there are {MOST} exceptions; remove some")));
        }
        self.0.push(granted.clone());
        Ok(granted)
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<GrantedException, GrantError> {
        let position = self.0.iter().position(|granted| granted.id == id);
        position.map(|position| self.0.remove(position)).ok_or_else(|| GrantError::Unknown(id.to_owned()))
    }
}

mod seconds {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Moment;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with this shape")]
    pub(super) fn serialize<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(moment.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        u64::deserialize(deserializer).map(Moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(expires: &str) -> NewException {
        NewException {
            project: "urllib3".to_owned(),
            versions: Some("==2.6.3".to_owned()),
            reason: "a fix".to_owned(),
            by: "sec@acme".to_owned(),
            expires: expires.to_owned(),
        }
    }

    #[test]
    fn an_exception_needs_an_end_in_the_future_and_comes_back() -> Result<(), Box<dyn std::error::Error>> {
        let (mut grants, now) = (Grants::default(), Moment::parse("2026-01-01")?);
        for wrong in ["", "soon", "2025-12-31"] {
            assert!(matches!(grants.add(asked(wrong), now), Err(GrantError::Invalid(_))), "{wrong}");
        }
        for wrong in [
            NewException { reason: " ".to_owned(), ..asked("2026-01-02") },
            NewException { by: String::new(), ..asked("2026-01-02") },
            NewException { project: "a b".to_owned(), ..asked("2026-01-02") },
            NewException { versions: Some("2.6".to_owned()), ..asked("2026-01-02") },
        ] {
            assert!(grants.add(wrong, now).is_err());
        }
        let granted = grants.add(asked("2026-01-02"), now)?;
        let mut again = Grants::read(&grants.written()?)?;
        assert_eq!(again.0, std::slice::from_ref(&granted));
        assert!(matches!(again.remove("other"), Err(GrantError::Unknown(_))));
        assert_eq!(again.remove(&granted.id)?, granted);
        Ok(())
    }
}
