//! Who may publish with a token, and what.
//!
//! Only digests of tokens are configured. Tokens are random, so one SHA-256 is enough to keep them; a shown token is
//! hashed and compared with every configured digest in constant time.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use wheelport_index::{ProjectName, Sha256};

/// A `[[publisher]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherTable {
    /// What the audit line calls the bearer.
    name: String,
    /// The SHA-256 of the token, in hexadecimal.
    token_sha256: String,
    /// Projects it may publish: names, in which `*` stands for any characters. All, if not given.
    projects: Option<Vec<String>>,
    /// Routes it may publish through. All that take tokens, if not given.
    routes: Option<Vec<String>>,
}

/// Everybody with a token.
#[derive(Debug, Clone, Default)]
pub struct Publishers(Arc<[Publisher]>);

/// One bearer of a token.
#[derive(Debug, Clone)]
pub struct Publisher {
    name: Arc<str>,
    digest: Sha256,
    projects: Option<Vec<ProjectPattern>>,
    routes: Option<Vec<String>>,
}

/// A project name in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ProjectPattern(String);

impl Publishers {
    /// Reads the tables; the error says what is wrong with which.
    pub fn new(tables: Vec<PublisherTable>) -> Result<Self, String> {
        let mut publishers: Vec<Publisher> = Vec::with_capacity(tables.len());
        for table in tables {
            let publisher = Publisher::read(table)?;
            if let Some(twice) =
                publishers.iter().find(|known| known.name == publisher.name || known.digest == publisher.digest)
            {
                return Err(format!(
                    "the [[publisher]] tables `{}` and `{}` have the same name or token",
                    twice.name, publisher.name
                ));
            }
            publishers.push(publisher);
        }
        Ok(Self(publishers.into()))
    }

    /// Whether anybody has a token for this route.
    pub fn has_any_for(&self, route: &str) -> bool {
        self.0.iter().any(|publisher| publisher.may_use(route))
    }

    /// Every route that is named.
    pub fn routes(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|publisher| publisher.routes.iter().flatten())
    }

    /// Whose token these headers show, if it is good for this route.
    pub fn recognise(&self, headers: &HeaderMap, route: &str) -> Option<&Publisher> {
        let shown = Sha256::of(&presented_token(headers)?).0;
        let mut found = 0_u64;
        // No early exit: the time must not tell how far a comparison came, or which entry fits.
        for (position, publisher) in (1..).zip(self.0.iter()) {
            let same: Choice = publisher.digest.0.ct_eq(&shown);
            found.conditional_assign(&position, same);
        }
        let position = usize::try_from(found.checked_sub(1)?).ok()?;
        self.0.get(position).filter(|publisher| publisher.may_use(route))
    }
}

impl Publisher {
    fn read(table: PublisherTable) -> Result<Self, String> {
        let name = table.name.trim();
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err("a [[publisher]] needs a name of at most 100 characters".to_owned());
        }
        let digest = table.token_sha256.parse().map_err(|_| {
            format!(
                "[[publisher]] `{name}`: token_sha256 is the SHA-256 of the token in 64 hexadecimal digits (printf %s \
                 \"$TOKEN\" | sha256sum), never the token itself"
            )
        })?;
        let patterns = |raw: &Vec<String>| {
            raw.iter()
                .map(|raw| {
                    ProjectPattern::parse(raw)
                        .ok_or_else(|| format!("[[publisher]] `{name}`: `{raw}` is no project name or pattern"))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let projects = table.projects.as_ref().map(patterns).transpose()?;
        Ok(Self { name: name.into(), digest, projects, routes: table.routes })
    }

    /// The name for the audit line.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether this project may be published.
    pub fn may_publish(&self, project: &ProjectName) -> bool {
        self.projects.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.covers(project.as_str())))
    }

    fn may_use(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|known| known == route))
    }
}

impl ProjectPattern {
    /// Reads a pattern in any spelling of the names it stands for.
    fn parse(raw: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
        if raw.is_empty() || !raw.chars().all(allowed) {
            return None;
        }
        let mut pattern = String::with_capacity(raw.len());
        for c in raw.chars() {
            match c {
                '-' | '_' | '.' if pattern.ends_with('-') => {}
                '-' | '_' | '.' => pattern.push('-'),
                c => pattern.push(c.to_ascii_lowercase()),
            }
        }
        Some(Self(pattern))
    }

    fn covers(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut left) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let Some(at) = left.find(part) else { return false };
            left = &left[at + part.len()..];
        }
        left.ends_with(last)
    }
}

/// The token of a request: a bearer token, or the password of basic authentication, whatever the user name is.
pub(super) fn presented_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec()).filter(|token| !token.is_empty());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec()).filter(|token| !token.is_empty())
}

/// Standard base64 (RFC 4648, section 4), with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn tables(text: &str) -> Result<Publishers, String> {
        #[derive(Deserialize)]
        struct File {
            publisher: Vec<PublisherTable>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Publishers::new(file.publisher)
    }

    fn configured() -> Result<Publishers, String> {
        let digest = |token: &str| Sha256::of(token.as_bytes());
        tables(&format!(
            "[[publisher]]\nname = \"ci\"\ntoken_sha256 = \"{}\"\nprojects = [\"Acme.*\", \"tool\"]\n\
             [[publisher]]\nname = \"ops\"\ntoken_sha256 = \"{}\"\nroutes = [\"data\"]\n",
            digest("one"),
            digest("t:wo")
        ))
    }

    fn shown(value: &str) -> Result<HeaderMap, Box<dyn std::error::Error>> {
        Ok(HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value)?)]))
    }

    #[test]
    fn a_token_is_recognised_as_password_and_as_bearer() -> Outcome {
        let publishers = configured()?;
        // `__token__:one`, `x:one`, `:one`, and `a:t:wo`, whose token holds a colon.
        for (value, route, expected) in [
            ("Bearer one", "pypi", Some("ci")),
            ("bearer  one ", "pypi", Some("ci")),
            ("Basic X190b2tlbl9fOm9uZQ==", "pypi", Some("ci")),
            ("basic eDpvbmU=", "pypi", Some("ci")),
            ("Basic Om9uZQ", "pypi", Some("ci")),
            ("Basic YTp0Ondv", "data", Some("ops")),
            ("Basic YTp0Ondv", "pypi", None),
            ("Bearer two", "pypi", None),
            ("Bearer ", "pypi", None),
            ("Basic Og==", "pypi", None),
            ("Basic !!", "pypi", None),
            ("Digest one", "pypi", None),
            ("one", "pypi", None),
        ] {
            let headers = shown(value)?;
            let found = publishers.recognise(&headers, route).map(|publisher| publisher.name().to_string());
            assert_eq!(found.as_deref(), expected, "{value}");
        }
        let mut twice = shown("Bearer one")?;
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        assert!(publishers.recognise(&twice, "pypi").is_none());
        assert!(publishers.recognise(&HeaderMap::new(), "pypi").is_none());
        Ok(())
    }

    #[test]
    fn projects_are_limited_by_patterns() -> Outcome {
        let publishers = configured()?;
        let headers = shown("Bearer one")?;
        let ci = publishers.recognise(&headers, "pypi").ok_or("unknown")?;
        for (name, expected) in
            [("acme-x", true), ("ACME_x", true), ("tool", true), ("acme", false), ("tools", false), ("x-acme-x", false)]
        {
            assert_eq!(ci.may_publish(&ProjectName::parse(name)?), expected, "{name}");
        }
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "acb", false),
            ("*-internal", "x-internal", true),
        ] {
            let pattern = ProjectPattern::parse(pattern).ok_or("no pattern")?;
            assert_eq!(pattern.covers(name), expected, "{pattern:?} {name}");
        }
        Ok(())
    }

    #[test]
    fn tables_that_make_no_sense_are_named() {
        let digest = "0".repeat(64);
        for (text, part) in [
            ("name = \"ci\"\ntoken_sha256 = \"hunter2\"".to_owned(), "never the token itself"),
            (format!("name = \" \"\ntoken_sha256 = \"{digest}\""), "needs a name"),
            (format!("name = \"a\"\ntoken_sha256 = \"{digest}\"\nprojects = [\"a b\"]"), "`a b`"),
            (
                format!(
                    "name = \"a\"\ntoken_sha256 = \"{digest}\"\n\
                     [[publisher]]\nname = \"b\"\ntoken_sha256 = \"{digest}\""
                ),
                "same name or token",
            ),
            (format!("name = \"a\"\ntoken_sha256 = \"{digest}\"\ntoken = \"x\""), "token"),
        ] {
            let refused = tables(&format!("[[publisher]]\n{text}")).err().unwrap_or_default();
            assert!(refused.contains(part), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }
}
