//! Exceptions that an operator grants in the running process: no deployment, and they outlive a restart.

use std::collections::HashSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::globs::ProjectGlob;
use super::moment::{Expiry, Moment};
use super::tables::{ShownText, VersionRange};
use wheelport_index::Sha256;
use wheelport_runtime::sabotaged;

/// Exceptions at the same time at most.
const MOST: usize = 1000;
/// Exceptions that were taken back, remembered at most.
const MOST_REVOKED: usize = 10_000;
/// How long an exception is still listed after it has expired, in seconds.
const LISTED_AFTER: u64 = 30 * 86_400;
/// How long it is remembered beyond that that an exception was taken back, in seconds: clocks differ.
const REVOKED_AFTER: u64 = LISTED_AFTER + 86_400;
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
    /// The advisory that it lifts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<String>,
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
    pub advisory: Option<String>,
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

/// All granted exceptions, in one order, so that records that say the same are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GrantTable {
    granted: Vec<GrantedException>,
    /// Those that were taken back, for as long as another record may still hold them.
    #[serde(default)]
    revoked: Vec<Revocation>,
}

/// An exception that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Revocation {
    id: String,
    #[serde(with = "seconds")]
    until: Moment,
}

impl NewException {
    fn check(self, now: Moment) -> Result<GrantedException, GrantError> {
        let invalid = |what: &str, error: String| GrantError::Invalid(format!("{what}: {error}"));
        ProjectGlob::parse(&self.project).map_err(|error| invalid("project", error))?;
        if let Some(versions) = &self.versions {
            VersionRange::written(versions).map_err(|error| invalid("versions", error))?;
        }
        let advisory = self.advisory.as_deref().map(ShownText::parse).transpose();
        let advisory = advisory.map_err(|error| invalid("advisory", error))?.map(|ShownText(advisory)| advisory);
        let ShownText(reason) = ShownText::parse(&self.reason).map_err(|error| invalid("reason", error))?;
        let ShownText(by) = ShownText::parse(&self.by).map_err(|error| invalid("by", error))?;
        let Expiry(expires) = Expiry::parse(&self.expires).map_err(|error| invalid("expires", error.to_string()))?;
        if expires <= now {
            return Err(invalid("expires", "this is in the past".to_owned()));
        }
        // Also where the same is granted at the same time elsewhere, or again, these are two.
        let (time, random) = (now.to_string(), fastrand::u64(..).to_string());
        let parts = [&self.project, self.versions.as_deref().unwrap_or_default(), &reason, &time, &random];
        let mut id = Sha256::of(parts.join("\0").as_bytes()).to_string();
        id.truncate(ID_LENGTH);
        let Self { project, versions, .. } = self;
        Ok(GrantedException { id, project, versions, advisory, reason, by, expires, granted: now })
    }
}

impl GrantedException {
    /// Whether it is one that could have been granted; what other replicas share is not believed in this.
    fn is_valid(&self) -> bool {
        is_id(&self.id)
            && ProjectGlob::parse(&self.project).is_ok()
            && self.versions.as_deref().is_none_or(|versions| VersionRange::parse(versions).is_ok())
            && [&self.reason, &self.by].into_iter().chain(&self.advisory).all(|text| ShownText::parse(text).is_ok())
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl GrantTable {
    pub(super) fn granted(&self) -> &[GrantedException] {
        &self.granted
    }

    pub(super) fn read(record: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(record).map_err(io::Error::other)
    }

    pub(super) fn written(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }

    pub(super) fn add(&mut self, new: NewException, now: Moment) -> Result<GrantedException, GrantError> {
        let granted = new.check(now)?;
        self.tidy(now);
        if self.granted.len() >= MOST {
            return Err(GrantError::Invalid(format!("there are {MOST} exceptions; remove some")));
        }
        self.granted.push(granted.clone());
        self.tidy(now);
        Ok(granted)
    }

    pub(super) fn remove(&mut self, id: &str, now: Moment) -> Result<GrantedException, GrantError> {
        let found = self.granted.iter().find(|granted| granted.id == id).cloned();
        let granted = found.ok_or_else(|| GrantError::Unknown(id.to_owned()))?;
        let until = Moment(granted.expires.0.saturating_add(REVOKED_AFTER));
        self.revoked.push(Revocation { id: granted.id.clone(), until });
        self.tidy(now);
        Ok(granted)
    }

    /// Takes in what another record says. What was taken back there or here stays taken back.
    pub(super) fn merge(&mut self, theirs: Self, now: Moment) {
        for revocation in theirs.revoked {
            if is_id(&revocation.id) && !self.is_revoked(&revocation.id) {
                self.revoked.push(revocation);
            }
        }
        for granted in theirs.granted.into_iter().filter(GrantedException::is_valid) {
            if self.granted.len() < MOST && self.granted.iter().all(|known| known.id != granted.id) {
                self.granted.push(granted);
            }
        }
        self.tidy(now);
    }

    fn is_revoked(&self, id: &str) -> bool {
        self.revoked.iter().any(|revocation| revocation.id == id)
    }

    /// Leaves out what is over, and brings the rest into its order. Of what was taken back, the last is kept longest.
    fn tidy(&mut self, now: Moment) {
        let revoked: HashSet<&str> = self.revoked.iter().map(|revocation| revocation.id.as_str()).collect();
        let is_there =
            |granted: &GrantedException| !revoked.contains(granted.id.as_str()) || sabotaged("revoked-exceptions");
        self.granted.retain(|granted| is_there(granted) && granted.expires.0.saturating_add(LISTED_AFTER) > now.0);
        self.granted.sort_by(|one, other| (one.granted, &one.id).cmp(&(other.granted, &other.id)));
        self.revoked.retain(|revocation| revocation.until > now);
        self.revoked.sort_by(|one, other| (other.until, &other.id).cmp(&(one.until, &one.id)));
        self.revoked.truncate(MOST_REVOKED);
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
            advisory: None,
            reason: "a fix".to_owned(),
            by: "sec@acme".to_owned(),
            expires: expires.to_owned(),
        }
    }

    #[test]
    fn an_exception_needs_an_end_in_the_future_and_comes_back() -> Result<(), Box<dyn std::error::Error>> {
        let (mut grants, now) = (GrantTable::default(), Moment::parse("2026-01-01")?);
        for wrong in ["", "soon", "2025-12-31"] {
            assert!(matches!(grants.add(asked(wrong), now), Err(GrantError::Invalid(_))), "{wrong}");
        }
        for wrong in [
            NewException { reason: " ".to_owned(), ..asked("2026-01-02") },
            NewException { by: String::new(), ..asked("2026-01-02") },
            NewException { project: "a b".to_owned(), ..asked("2026-01-02") },
            NewException { versions: Some("2.6".to_owned()), ..asked("2026-01-02") },
            NewException { versions: Some(String::new()), ..asked("2026-01-02") },
        ] {
            assert!(grants.add(wrong, now).is_err());
        }
        let advisory = Some(" MAL-2026-1\t".to_owned());
        let granted = grants.add(NewException { advisory, ..asked("2026-01-02") }, now)?;
        assert_eq!(granted.advisory.as_deref(), Some("MAL-2026-1"), "compared as it is written there");
        let mut again = GrantTable::read(&grants.written()?)?;
        assert_eq!(again.granted(), std::slice::from_ref(&granted));
        assert!(matches!(again.remove("other", now), Err(GrantError::Unknown(_))));
        assert_eq!(again.remove(&granted.id, now)?, granted);
        Ok(())
    }

    #[test]
    fn records_that_are_merged_agree_whatever_the_order_and_what_is_taken_back_stays_so()
    -> Result<(), Box<dyn std::error::Error>> {
        let now = Moment::parse("2026-01-01")?;
        let (mut one, mut other) = (GrantTable::default(), GrantTable::default());
        let granted = one.add(asked("2026-01-02"), now)?;
        other.merge(one.clone(), now);
        let elsewhere = other.add(asked("2026-01-03"), now)?;
        assert_ne!(granted.id, elsewhere.id);
        one.remove(&granted.id, now)?;
        let mut merged = one.clone();
        merged.merge(other.clone(), now);
        other.merge(one, now);
        assert_eq!(merged, other);
        assert_eq!(merged.granted(), [elsewhere]);
        let again = merged.add(asked("2026-01-02"), now)?;
        assert!(merged.granted().contains(&again), "what was taken back can be granted again");
        merged.merge(other, Moment::parse("2026-03-01")?);
        assert_eq!(merged, GrantTable::default(), "what is over is forgotten");
        Ok(())
    }

    #[test]
    fn what_could_not_have_been_granted_is_not_taken_in() -> Result<(), Box<dyn std::error::Error>> {
        let now = Moment::parse("2026-01-01")?;
        let mut theirs = GrantTable::default();
        let granted = theirs.add(asked("2026-01-02"), now)?;
        theirs.granted = vec![
            GrantedException { id: "../../x".to_owned(), ..granted.clone() },
            GrantedException { id: "0123456789a1".to_owned(), project: "a b".to_owned(), ..granted.clone() },
            GrantedException { id: "0123456789a2".to_owned(), versions: Some("2".to_owned()), ..granted.clone() },
            GrantedException { id: "0123456789a3".to_owned(), reason: "a\nb".repeat(5000), ..granted },
        ];
        let mut here = GrantTable::default();
        here.merge(theirs, now);
        assert_eq!(here.granted(), []);
        Ok(())
    }
}
