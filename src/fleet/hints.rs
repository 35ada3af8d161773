//! What replicas tell each other, and how it is written. Names and generations only, never content and never a secret:
//! a hint that is lost, repeated or late changes when something is asked again, or how long a token that was given back
//! is still good elsewhere, and nothing else.
//!
//! ```text
//! 1 SENDER page-changed REPOSITORY PROJECT GENERATION
//! ```
//!
//! The first word is the version. What a newer replica says that an older one does not know is left out there.
//! `hint_channel.rs` sends and hears hints.

use std::fmt;

use super::repository::SharedRepository;
use wheelport_index::ProjectName;

/// The version of the text form.
const VERSION: &str = "1";
/// The longest text, in bytes: a repository, a project and some words.
const LONGEST: usize = 1024;

/// The words for what this version knows.
const KINDS: [&str; 9] =
    ["page-changed", "event", "purge", "accept", "exceptions", "events-proven", "advisories", "slow-down", "burnt"];

/// What one replica tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A page is no longer what it was: upstream has another one, or a file was published. The generation is that of
    /// the shared page, and 0 where there is none.
    PageChanged { repository: SharedRepository, project: ProjectName, generation: u64 },
    /// An event of CodeArtifact came about a project: upstream may have another page.
    Event { repository: SharedRepository, project: ProjectName },
    /// An operator wants a page forgotten.
    Purge { repository: SharedRepository, project: ProjectName },
    /// An operator accepted changed files of a project; what exactly is in the shared record.
    Accept { repository: SharedRepository, project: ProjectName },
    /// An operator granted an exception from the rules or took one back; what exactly is in the shared record.
    Exceptions,
    /// An event of CodeArtifact was right about a page of this repository: its events come.
    EventsProven { repository: SharedRepository },
    /// Advisories were renewed; what they say is in the shared copy.
    Advisories,
    /// A service throttled a request that counts against this quota.
    SlowDown { quota: QuotaName },
    /// A token that replicas mint was given back before it expired, which is at this second since the epoch. What is
    /// named is the token's number, which is good for nothing.
    Burnt { token: u128, until: u64 },
}

impl Hint {
    /// The word in texts, logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PageChanged { .. } => "page-changed",
            Self::Event { .. } => "event",
            Self::Purge { .. } => "purge",
            Self::Accept { .. } => "accept",
            Self::Exceptions => "exceptions",
            Self::EventsProven { .. } => "events-proven",
            Self::Advisories => "advisories",
            Self::SlowDown { .. } => "slow-down",
            Self::Burnt { .. } => "burnt",
        }
    }
}

/// A quota of requests that all replicas share, such as that of a region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuotaName(Box<str>);

impl QuotaName {
    /// The longest name, in bytes.
    const LONGEST: usize = 128;

    /// A name of letters, digits and `-_.:`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        ((1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(is_known)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A process among those that share, so that it knows its own hints when it hears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// The process that has drawn this number.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(hex_digits(text, 16)?, 16).ok().map(Self)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A hint and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sender: ReplicaId,
    pub hint: Hint,
}

/// A text that is no hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableHint {
    /// Of another version, or of a kind that this version does not know.
    #[error("it is of another version")]
    Unknown,
    /// Written by something else.
    #[error("it is no hint")]
    Malformed,
}

impl Message {
    /// Reads a text, which must be exactly what [`Message`]'s text form would be.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnreadableHint> {
        use UnreadableHint::{Malformed, Unknown};
        let text = bytes.get(..bytes.len().min(LONGEST + 1)).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.filter(|text| text.len() <= LONGEST).ok_or(Malformed)?;
        let mut words = text.split(' ');
        if words.next() != Some(VERSION) {
            return Err(Unknown);
        }
        let sender = words.next().and_then(ReplicaId::parse).ok_or(Malformed)?;
        let kind = words.next().ok_or(Malformed)?;
        let rest: Vec<&str> = words.collect();
        let hint = match (kind, rest.as_slice()) {
            ("page-changed", [repository, project, generation]) => {
                let (repository, project) = page(repository, project)?;
                let generation = number(generation)?;
                Hint::PageChanged { repository, project, generation }
            }
            ("event", [repository, project]) => {
                let (repository, project) = page(repository, project)?;
                Hint::Event { repository, project }
            }
            ("purge", [repository, project]) => {
                let (repository, project) = page(repository, project)?;
                Hint::Purge { repository, project }
            }
            ("accept", [repository, project]) => {
                let (repository, project) = page(repository, project)?;
                Hint::Accept { repository, project }
            }
            ("exceptions", []) => Hint::Exceptions,
            ("events-proven", [repository]) => {
                Hint::EventsProven { repository: repository.parse().map_err(|_| Malformed)? }
            }
            ("advisories", []) => Hint::Advisories,
            ("slow-down", [quota]) => Hint::SlowDown { quota: QuotaName::parse(quota).ok_or(Malformed)? },
            ("burnt", [token, until]) => {
                let token = hex_digits(token, 32).and_then(|token| u128::from_str_radix(token, 16).ok());
                Hint::Burnt { token: token.ok_or(Malformed)?, until: number(until)? }
            }
            (kind, _) if KINDS.contains(&kind) => return Err(Malformed),
            _ => return Err(Unknown),
        };
        Ok(Self { sender, hint })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} {} {}", self.sender, self.hint.as_str())?;
        match &self.hint {
            Hint::PageChanged { repository, project, generation } => write!(f, " {repository} {project} {generation}"),
            Hint::Event { repository, project }
            | Hint::Purge { repository, project }
            | Hint::Accept { repository, project } => {
                write!(f, " {repository} {project}")
            }
            Hint::Exceptions | Hint::Advisories => Ok(()),
            Hint::EventsProven { repository } => write!(f, " {repository}"),
            Hint::SlowDown { quota } => write!(f, " {}", quota.as_str()),
            Hint::Burnt { token, until } => write!(f, " {token:032x} {until}"),
        }
    }
}

/// Only names in their one spelling count.
fn page(repository: &str, project: &str) -> Result<(SharedRepository, ProjectName), UnreadableHint> {
    let repository = repository.parse().map_err(|_| UnreadableHint::Malformed)?;
    let project = ProjectName::parse(project).ok().filter(|parsed| parsed.as_str() == project);
    Ok((repository, project.ok_or(UnreadableHint::Malformed)?))
}

/// The text, if it is so many hexadecimal digits in their one spelling.
fn hex_digits(text: &str, length: usize) -> Option<&str> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && text.len() == length).then_some(text)
}

fn number(text: &str) -> Result<u64, UnreadableHint> {
    let parsed = text.parse::<u64>().map_err(|_| UnreadableHint::Malformed)?;
    if parsed.to_string() == text { Ok(parsed) } else { Err(UnreadableHint::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints() -> Vec<Hint> {
        let repository: SharedRepository = "aws/eu-central-1/111122223333/acme/python".parse().expect("a repository");
        let project = ProjectName::parse("hello-world").expect("a name");
        vec![
            Hint::PageChanged { repository: repository.clone(), project: project.clone(), generation: 17 },
            Hint::Event { repository: repository.clone(), project: project.clone() },
            Hint::Purge { repository: repository.clone(), project: project.clone() },
            Hint::Accept { repository: repository.clone(), project },
            Hint::Exceptions,
            Hint::EventsProven { repository },
            Hint::Advisories,
            Hint::SlowDown { quota: QuotaName::parse("eu-central-1").expect("a quota") },
            Hint::Burnt { token: 0xdef, until: 1_800_000_000 },
        ]
    }

    #[test]
    fn every_hint_comes_back_from_its_text() {
        let sender = ReplicaId(0xabc);
        for hint in hints() {
            let message = Message { sender, hint };
            let text = message.to_string();
            assert!(KINDS.contains(&message.hint.as_str()), "{text}");
            assert!(text.starts_with("1 0000000000000abc "), "{text}");
            assert_eq!(Message::parse(text.as_bytes()), Ok(message), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_hint_is_none() {
        use UnreadableHint::{Malformed, Unknown};
        let long = format!("1 0000000000000abc purge r {}", "a".repeat(LONGEST));
        for (text, why) in [
            ("", Unknown),
            ("2 0000000000000abc purge a/b hello", Unknown),
            ("1 0000000000000abc exception a/b hello", Unknown),
            ("1 0000000000000abc", Malformed),
            ("1 ABC purge a/b hello", Malformed),
            ("1 0000000000000ABC purge a/b hello", Malformed),
            ("1 +000000000000abc purge a/b hello", Malformed),
            ("1 0000000000000abc purge a/b Hello", Malformed),
            ("1 0000000000000abc purge a/../b hello", Malformed),
            ("1 0000000000000abc purge a//b hello", Malformed),
            ("1 0000000000000abc purge a/b hello more", Malformed),
            ("1 0000000000000abc purge a/b hello\n", Malformed),
            ("1 0000000000000abc  purge a/b hello", Unknown),
            ("1 0000000000000abc page-changed a/b hello +1", Malformed),
            ("1 0000000000000abc page-changed a/b hello 01", Malformed),
            ("1 0000000000000abc page-changed a/b hello 18446744073709551616", Malformed),
            ("1 0000000000000abc exceptions urllib3", Malformed),
            ("1 0000000000000abc events-proven", Malformed),
            ("1 0000000000000abc events-proven a//b", Malformed),
            ("1 0000000000000abc slow-down eu/1", Malformed),
            ("1 0000000000000abc burnt 00000000000000000000000000000DEF 1", Malformed),
            ("1 0000000000000abc burnt def 1", Malformed),
            ("1 0000000000000abc burnt 00000000000000000000000000000def", Malformed),
            (long.as_str(), Malformed),
        ] {
            assert_eq!(Message::parse(text.as_bytes()), Err(why), "{text}");
        }
        assert_eq!(Message::parse(&[b'1', b' ', 0xff]), Err(Malformed));
    }
}
