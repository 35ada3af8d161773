//! What clients ask of advisories, in the form of OSV's API. Pure, and read from bytes of outsiders.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use wheelport_index::ProjectName;

/// Questions in one request at most.
pub const LARGEST_BATCH: usize = 1000;
/// The longest version that is asked about, in bytes.
const LONGEST_VERSION: usize = 255;

/// Which advisories are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OsvQuestion {
    /// Those about a version of a project, or about the whole project.
    Project { project: ProjectName, version: Option<String> },
    /// Something of which nothing is known here: another ecosystem, a commit.
    Elsewhere,
}

/// Why a question cannot be read. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuestion {
    #[error("The body is no query: {0}.")]
    Malformed(String),
    #[error("The query needs a package, a purl or a commit.")]
    Nothing,
    #[error("The package of the query has no name that a project can have.")]
    Name,
    #[error("The purl of the query cannot be read.")]
    Purl,
    #[error("The version stands in the purl and beside it.")]
    TwoVersions,
    #[error("The version is longer than any.")]
    Version,
    #[error("A batch has at most {LARGEST_BATCH} queries.")]
    TooMany,
    #[error("The response would be too long: ask about versions, or in smaller batches.")]
    TooMuch,
}

#[derive(Deserialize)]
struct RawQuestion {
    commit: Option<String>,
    version: Option<String>,
    package: Option<AskedPackage>,
}

#[derive(Deserialize)]
struct AskedPackage {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ecosystem: String,
    purl: Option<String>,
}

#[derive(Deserialize)]
struct RawBatch {
    #[serde(default)]
    queries: Vec<RawQuestion>,
}

/// Reads the body of a query.
pub fn read_question(body: &[u8]) -> Result<OsvQuestion, InvalidQuestion> {
    serde_json::from_slice::<RawQuestion>(body).map_err(|error| malformed(&error))?.read()
}

/// Reads the body of a batch of queries.
pub fn read_batch(body: &[u8]) -> Result<Vec<OsvQuestion>, InvalidQuestion> {
    let batch: RawBatch = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    if batch.queries.len() > LARGEST_BATCH && !wheelport_runtime::sabotaged("osv-batch") {
        return Err(InvalidQuestion::TooMany);
    }
    batch.queries.into_iter().map(RawQuestion::read).collect()
}

fn malformed(error: &serde_json::Error) -> InvalidQuestion {
    InvalidQuestion::Malformed(format!("at line {}, column {}", error.line(), error.column()))
}

impl RawQuestion {
    fn read(self) -> Result<OsvQuestion, InvalidQuestion> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let version = given(self.version);
        if version.as_ref().is_some_and(|version| version.len() > LONGEST_VERSION) {
            return Err(InvalidQuestion::Version);
        }
        let Some(package) = self.package else {
            return given(self.commit).map(|_| OsvQuestion::Elsewhere).ok_or(InvalidQuestion::Nothing);
        };
        if let Some(purl) = given(package.purl) {
            return of_purl(&purl, version);
        }
        if package.ecosystem.split(':').next() != Some("PyPI") {
            return Ok(OsvQuestion::Elsewhere);
        }
        let project = ProjectName::parse(&package.name).map_err(|_| InvalidQuestion::Name)?;
        Ok(OsvQuestion::Project { project, version })
    }
}

/// `pkg:pypi/NAME@VERSION?qualifiers#subpath`.
fn of_purl(purl: &str, beside: Option<String>) -> Result<OsvQuestion, InvalidQuestion> {
    let rest = purl
        .get(..4)
        .filter(|scheme| scheme.eq_ignore_ascii_case("pkg:"))
        .map(|_| &purl[4..])
        .ok_or(InvalidQuestion::Purl)?
        .trim_start_matches('/');
    let (kind, rest) = rest.split_once('/').ok_or(InvalidQuestion::Purl)?;
    if !kind.eq_ignore_ascii_case("pypi") {
        return Ok(OsvQuestion::Elsewhere);
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let (name, version) = path.split_once('@').map_or((path, None), |(name, version)| (name, Some(version)));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
    let name = decoded(name).map_err(|_| InvalidQuestion::Purl)?;
    let version = version.map(decoded).transpose().map_err(|_| InvalidQuestion::Purl)?;
    if version.is_some() && beside.is_some() {
        return Err(InvalidQuestion::TwoVersions);
    }
    let project = ProjectName::parse(&name).map_err(|_| InvalidQuestion::Name)?;
    Ok(OsvQuestion::Project { project, version: version.or(beside).filter(|version| !version.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asked(body: &Value) -> Result<OsvQuestion, InvalidQuestion> {
        read_question(body.to_string().as_bytes())
    }

    fn project(name: &str, version: Option<&str>) -> OsvQuestion {
        let project = ProjectName::parse(name).expect("a name");
        OsvQuestion::Project { project, version: version.map(str::to_owned) }
    }

    #[test]
    fn a_package_is_named_in_two_ways() {
        for (body, expected) in [
            (json!({"package": {"name": "A_b", "ecosystem": "PyPI"}, "version": "1.0"}), project("a-b", Some("1.0"))),
            (json!({"package": {"name": "a", "ecosystem": "PyPI"}, "page_token": "x"}), project("a", None)),
            (json!({"package": {"purl": "pkg:pypi/A.b@1.0%2Bcpu?x=y#z"}}), project("a-b", Some("1.0+cpu"))),
            (json!({"package": {"purl": "pkg:pypi/a"}, "version": "2"}), project("a", Some("2"))),
            (json!({"package": {"name": "a", "ecosystem": "npm"}, "version": "1"}), OsvQuestion::Elsewhere),
            (json!({"package": {"purl": "pkg:npm/a@1"}}), OsvQuestion::Elsewhere),
            (json!({"commit": "0123"}), OsvQuestion::Elsewhere),
        ] {
            assert_eq!(asked(&body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for (body, why) in [
            (json!({}), InvalidQuestion::Nothing),
            (json!({"version": "1"}), InvalidQuestion::Nothing),
            (json!({"package": {"name": "a b", "ecosystem": "PyPI"}}), InvalidQuestion::Name),
            (json!({"package": {"purl": "pypi/a"}}), InvalidQuestion::Purl),
            (json!({"package": {"purl": "pkg:pypi/%ff@1"}}), InvalidQuestion::Purl),
            (json!({"package": {"purl": "pkg:pypi/a@1"}, "version": "1"}), InvalidQuestion::TwoVersions),
            (
                json!({"package": {"name": "a", "ecosystem": "PyPI"}, "version": "1".repeat(300)}),
                InvalidQuestion::Version,
            ),
        ] {
            assert_eq!(asked(&body), Err(why), "{body}");
        }
        assert!(matches!(read_question(b"{"), Err(InvalidQuestion::Malformed(_))));
        let question = json!({"package": {"name": "a", "ecosystem": "PyPI"}});
        let batch = |count: usize| json!({"queries": vec![question.clone(); count]}).to_string();
        assert_eq!(read_batch(batch(1000).as_bytes()).map(|questions| questions.len()), Ok(1000));
        assert_eq!(read_batch(batch(1001).as_bytes()), Err(InvalidQuestion::TooMany));
    }
}
