//! The notices there are, and what each of them says. Pure.
//!
//! A notice names routes, projects and files; it holds no address, no account and no text that another service wrote.

use std::sync::Arc;
use std::time::Duration;

use wheelport_index::{FileName, ProjectName, Sha256, VersionSegment};
use wheelport_runtime::sabotaged;

/// How much of a digest tells subjects apart, in hexadecimal digits.
const FINGERPRINT: usize = 32;

/// Something that operators should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The repository lists other bytes under the name of a file than when it was first seen.
    ChangedFile {
        /// A route that shows the repository.
        route: Arc<str>,
        project: ProjectName,
        file: FileName,
        /// The digests, as far as they are known.
        was: String,
        now: String,
        /// Whether the new bytes are refused until an operator accepts them.
        is_refused: bool,
    },
    /// Upstream denies the role of a route to read; nothing of the route is served.
    RouteClosed {
        route: Arc<str>,
    },
    RouteReopened {
        route: Arc<str>,
    },
    /// No new token can be had.
    TokenFailing {
        /// The routes that use it.
        routes: Vec<Arc<str>>,
        /// The class of the last failure.
        cause: &'static str,
        /// Failures in a row.
        failures: u32,
        /// What is left of the token there is.
        left: Option<Duration>,
    },
    TokenRecovered {
        routes: Vec<Arc<str>>,
    },
    /// A file was asked for that an advisory calls malware.
    MalwareRefused {
        route: Arc<str>,
        project: ProjectName,
        version: VersionSegment,
        file: FileName,
        advisory: Arc<str>,
        /// The id of the request.
        request: String,
    },
    /// Advisories are old, because their source cannot be read.
    FeedStale {
        /// How old they are; none if there never were any.
        age: Option<Duration>,
    },
    FeedRecovered,
    /// A certificate of the listener ends soon, or has ended.
    CertificateEnds {
        /// The names in it.
        names: String,
        left: Option<Duration>,
    },
    CertificateRenewed {
        names: String,
    },
    /// The keys of an issuer cannot be fetched, and those there are get old.
    IssuerKeysStale {
        issuer: Arc<str>,
        age: Option<Duration>,
    },
    IssuerKeysRecovered {
        issuer: Arc<str>,
    },
    /// An operator tries whether notices arrive.
    Test,
}

/// What a notice is about, as far as it is about something of the kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NoticeFacts<'a> {
    pub route: Option<&'a str>,
    pub project: Option<&'a str>,
    pub version: Option<String>,
    pub file: Option<&'a str>,
    pub request: Option<&'a str>,
}

impl Notice {
    /// The type, which receivers match on, and the metric label.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ChangedFile { .. } => "changed-file",
            Self::RouteClosed { .. } => "route-closed",
            Self::RouteReopened { .. } => "route-reopened",
            Self::TokenFailing { .. } => "token-failing",
            Self::TokenRecovered { .. } => "token-recovered",
            Self::MalwareRefused { .. } => "malware-refused",
            Self::FeedStale { .. } => "feed-stale",
            Self::FeedRecovered => "feed-recovered",
            Self::CertificateEnds { .. } => "certificate-ends",
            Self::CertificateRenewed { .. } => "certificate-renewed",
            Self::IssuerKeysStale { .. } => "issuer-keys-stale",
            Self::IssuerKeysRecovered { .. } => "issuer-keys-recovered",
            Self::Test => "test",
        }
    }

    pub fn facts(&self) -> NoticeFacts<'_> {
        match self {
            Self::ChangedFile { route, project, file, .. } => NoticeFacts {
                route: Some(route),
                project: Some(project.as_str()),
                version: file.version_of(project).map(str::to_owned),
                file: Some(file.as_str()),
                request: None,
            },
            Self::MalwareRefused { route, project, version, file, request, .. } => NoticeFacts {
                route: Some(route),
                project: Some(project.as_str()),
                version: Some(version.as_str().to_owned()),
                file: Some(file.as_str()),
                request: Some(request),
            },
            Self::RouteClosed { route } | Self::RouteReopened { route } => {
                NoticeFacts { route: Some(route), ..NoticeFacts::default() }
            }
            Self::TokenFailing { routes, .. } | Self::TokenRecovered { routes } => {
                NoticeFacts { route: routes.first().map(AsRef::as_ref), ..NoticeFacts::default() }
            }
            _ => NoticeFacts::default(),
        }
    }

    /// The sentence for people.
    pub fn detail(&self) -> String {
        match self {
            Self::ChangedFile { was, now, is_refused, .. } => {
                let fate = if *is_refused {
                    "the new bytes are refused until they are accepted (wheelport cache accept)"
                } else {
                    "the new bytes are served (changed_files = \"alarm\")"
                };
                format!("The repository lists other bytes under this name: was {was}, now {now}; {fate}.")
            }
            Self::RouteClosed { .. } => "AWS denies this route's role to read, also with a new token; nothing of the \
                                         route is served until it is allowed codeartifact:ReadFromRepository."
                .to_owned(),
            Self::RouteReopened { .. } => "AWS lets this route's role read again; the route is open.".to_owned(),
            Self::TokenFailing { routes, cause, failures, left } => format!(
                "No new token for {}: {failures} attempts in a row have failed ({cause}); {}.",
                listed(routes),
                left.map_or_else(|| "there is none".to_owned(), |left| format!("{} are left", span(left)))
            ),
            Self::TokenRecovered { routes } => format!("There is a new token for {}.", listed(routes)),
            Self::MalwareRefused { advisory, .. } => format!("A request for this file was refused: {advisory}."),
            Self::FeedStale { age: Some(age) } => {
                format!(
                    "The advisories are {} old, because their source cannot be read; they stay in force.",
                    span(*age)
                )
            }
            Self::FeedStale { age: None } => "There are no advisories, because their source cannot be read.".to_owned(),
            Self::FeedRecovered => "The advisories were read again.".to_owned(),
            Self::CertificateEnds { names, left: Some(left) } => {
                format!("The certificate for {names} ends in {}.", span(*left))
            }
            Self::CertificateEnds { names, left: None } => format!("The certificate for {names} has ended."),
            Self::CertificateRenewed { names } => format!("The certificate for {names} was renewed."),
            Self::IssuerKeysStale { issuer, age: Some(age) } => {
                format!("The keys of the issuer {issuer} cannot be fetched; those there are are {} old.", span(*age))
            }
            Self::IssuerKeysStale { issuer, age: None } => {
                format!("The keys of the issuer {issuer} cannot be fetched; there are none.")
            }
            Self::IssuerKeysRecovered { issuer } => format!("The keys of the issuer {issuer} were fetched again."),
            Self::Test => "This is a test.".to_owned(),
        }
    }

    /// What a notice is about: the same for the end of something as for its beginning, so that each of them lets the
    /// other be told again. The same on every replica and after a restart.
    pub(super) fn subject(&self) -> String {
        let NoticeFacts { route, project, version, file, .. } = self.facts();
        let route = route.unwrap_or_default().to_owned();
        let own = match self {
            Self::ChangedFile { now, .. } => ["changed", now].concat(),
            Self::RouteClosed { .. } | Self::RouteReopened { .. } => "access".to_owned(),
            Self::TokenFailing { .. } | Self::TokenRecovered { .. } => "token".to_owned(),
            Self::MalwareRefused { advisory, .. } => ["malware", advisory].concat(),
            Self::FeedStale { .. } | Self::FeedRecovered => "feed".to_owned(),
            Self::CertificateEnds { names, .. } | Self::CertificateRenewed { names } => ["certificate", names].concat(),
            Self::IssuerKeysStale { issuer, .. } | Self::IssuerKeysRecovered { issuer } => ["issuer", issuer].concat(),
            Self::Test => "test".to_owned(),
        };
        let [project, file] = [project, file].map(Option::unwrap_or_default);
        if matches!(self, Self::MalwareRefused { .. }) && !sabotaged("malware-subject") {
            // Whoever asks makes up versions and files; one notice tells of the advisory and the project.
            return [own.as_str(), &route, project].join("\0");
        }
        [own.as_str(), &route, project, &version.unwrap_or_default(), file].join("\0")
    }

    /// Tells this notice from others, and is the same wherever the same thing is noticed.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::of([self.kind(), "\0", &self.subject()].concat().as_bytes()).to_string();
        digest.truncate(FINGERPRINT);
        digest
    }
}

fn listed(routes: &[Arc<str>]) -> String {
    let plural = if routes.len() == 1 { "" } else { "s" };
    format!("the route{plural} {}", routes.join(", "))
}

/// A duration in the largest unit of which there are two, so that it needs no plural.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(file: &str, now: &str) -> Notice {
        Notice::ChangedFile {
            route: "pypi".into(),
            project: ProjectName::parse("hello").expect("a name"),
            file: FileName::parse(file).expect("a name"),
            was: "sha256=aa".to_owned(),
            now: now.to_owned(),
            is_refused: true,
        }
    }

    #[test]
    fn invented_files_of_malware_are_one_subject() {
        let refused = |file: &str, advisory: &str| {
            Notice::MalwareRefused {
                route: "pypi".into(),
                project: ProjectName::parse("hello").expect("a name"),
                version: VersionSegment::parse("1.0").expect("a version"),
                file: FileName::parse(file).expect("a name"),
                advisory: advisory.into(),
                request: "a1".to_owned(),
            }
            .subject()
        };
        let real = refused("hello-1.0-py3-none-any.whl", "MAL-2026-1");
        assert_eq!(refused("hello-1.0-7-py3-none-any.whl", "MAL-2026-1"), real);
        assert_ne!(refused("hello-1.0-py3-none-any.whl", "MAL-2026-2"), real);
    }

    #[test]
    fn a_notice_says_what_it_is_about() {
        let notice = changed("hello-1.0-py3-none-any.whl", "sha256=bb");
        let facts = notice.facts();
        assert_eq!(
            (facts.route, facts.project, facts.file),
            (Some("pypi"), Some("hello"), Some("hello-1.0-py3-none-any.whl"))
        );
        assert_eq!(facts.version.as_deref(), Some("1.0"));
        assert!(
            notice.detail().contains("was sha256=aa, now sha256=bb; the new bytes are refused"),
            "{}",
            notice.detail()
        );
        let routes = vec!["pypi".into(), "team".into()];
        let left = Some(Duration::from_hours(3));
        let notice = Notice::TokenFailing { routes, cause: "denied", failures: 3, left };
        assert_eq!(
            notice.detail(),
            "No new token for the routes pypi, team: 3 attempts in a row have failed (denied); 3 h are left."
        );
    }

    #[test]
    fn fingerprints_tell_things_apart_and_subjects_bring_ends_and_beginnings_together() {
        let one = changed("hello-1.0-py3-none-any.whl", "sha256=bb");
        let again = changed("hello-1.0-py3-none-any.whl", "sha256=cc");
        let other = changed("hello-1.1-py3-none-any.whl", "sha256=bb");
        assert_eq!(one.fingerprint(), one.clone().fingerprint());
        assert_ne!(one.fingerprint(), again.fingerprint(), "other bytes once more");
        assert_ne!(one.fingerprint(), other.fingerprint());
        let (closed, open) =
            (Notice::RouteClosed { route: "pypi".into() }, Notice::RouteReopened { route: "pypi".into() });
        assert_eq!(closed.subject(), open.subject());
        assert_ne!(closed.fingerprint(), open.fingerprint());
        assert_ne!(closed.subject(), Notice::RouteClosed { route: "team".into() }.subject());
    }
}
