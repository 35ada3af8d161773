//! One decoded request: its parameters with the service model's names and limits, and who makes it.
//!
//! Nearly all inputs are query parameters in kebab case; lists, maps and a few more stand in a JSON body. Everything
//! is checked here, so that handlers see valid names only.

use serde_json::Value;

use super::fault::Fault;
use crate::store::{DomainKey, Principal, RepositoryKey, is_account, is_domain_name, is_repository_name};
use wheelport_index::ProjectName;

/// The most versions in one list.
const MAX_VERSIONS: usize = 100;
/// Results in an answer when the caller names no number.
const DEFAULT_RESULTS: usize = 100;
/// The package formats of the service; the emulator keeps packages of the first only.
pub const FORMATS: [&str; 8] = ["pypi", "npm", "maven", "nuget", "generic", "ruby", "swift", "cargo"];

/// A request whose signature has been verified.
pub struct Call {
    /// Who makes it.
    pub caller: Principal,
    query: Vec<(String, String)>,
    body: Value,
}

impl Call {
    /// Joins query and body; an empty body stands for an empty object, whatever its declared type.
    pub fn new(caller: Principal, query: Vec<(String, String)>, body: &[u8]) -> Result<Self, Fault> {
        let body = if body.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(body).map_err(|_| Fault::unreadable("the body is not valid JSON"))?
        };
        if !body.is_object() {
            return Err(Fault::unreadable("the body is not a JSON object"));
        }
        Ok(Self { caller, query, body })
    }

    /// A query parameter; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A member of the body that is a string.
    pub fn body_text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// A member of the body.
    pub fn body(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// A query parameter that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Fault> {
        self.text(name).ok_or_else(|| absent(name))
    }

    /// The domain: its name, and the owner's account where it is not the caller's.
    pub fn domain(&self) -> Result<DomainKey, Fault> {
        let name = self.text("domain").or_else(|| self.body_text("domain")).ok_or_else(|| absent("domain"))?;
        if !is_domain_name(name) {
            return Err(mismatch(name, "domain", r"[a-z][a-z0-9\-]{0,48}[a-z0-9]"));
        }
        let owner = self.text("domain-owner").or_else(|| self.body_text("domainOwner"));
        let owner = owner.unwrap_or(&self.caller.account);
        if !is_account(owner) {
            return Err(mismatch(owner, "domainOwner", "[0-9]{12}"));
        }
        Ok(DomainKey::new(owner, name))
    }

    /// The repository.
    pub fn repository(&self) -> Result<RepositoryKey, Fault> {
        self.repository_named("repository")
    }

    /// A repository whose name stands in another parameter.
    pub fn repository_named(&self, parameter: &str) -> Result<RepositoryKey, Fault> {
        let name = self.required(parameter)?;
        check_repository_name(name, parameter)?;
        Ok(self.domain()?.repository(name))
    }

    /// The package format, one of [`FORMATS`].
    pub fn format(&self) -> Result<&str, Fault> {
        let format = self.required("format")?;
        if FORMATS.contains(&format) { Ok(format) } else { Err(not_one_of(format, "format", &FORMATS)) }
    }

    /// The package. `None` where the emulator can have no such package: another format, a namespace, a name that no
    /// project can have.
    pub fn package(&self) -> Result<Option<ProjectName>, Fault> {
        let format = self.format()?;
        let name = self.required("package")?;
        check_coordinate(name, "package")?;
        if let Some(namespace) = self.text("namespace") {
            check_coordinate(namespace, "namespace")?;
            return Ok(None);
        }
        Ok(ProjectName::parse(name).ok().filter(|_| format == "pypi"))
    }

    /// The package version.
    pub fn version(&self) -> Result<&str, Fault> {
        let version = self.required("version")?;
        check_coordinate(version, "packageVersion")?;
        Ok(version)
    }

    /// What the call is about, for the decision whether the caller may make it.
    pub fn resource(&self, region: &str) -> Result<Resource, Fault> {
        if let Some(arn) = self.text("resourceArn") {
            return Ok(Resource::Any(arn.to_owned()));
        }
        if self.text("domain").or_else(|| self.body_text("domain")).is_none() {
            return Ok(Resource::Any("*".to_owned()));
        }
        let domain = self.domain()?;
        let parameters = ["repository", "destination-repository"];
        let Some(parameter) = parameters.into_iter().find(|name| self.text(name).is_some()) else {
            return Ok(Resource::InDomain { arn: domain.arn(region), domain, repository: None });
        };
        let repository = self.repository_named(parameter)?;
        let arn = match self.text("package") {
            None => repository.arn(region),
            Some(package) => {
                let (format, namespace) = (self.format()?, self.text("namespace").unwrap_or_default());
                let (owner, name) = (&domain.owner, &domain.name);
                format!(
                    "arn:aws:codeartifact:{region}:{owner}:package/{name}/{}/{format}/{namespace}/{package}",
                    repository.name
                )
            }
        };
        Ok(Resource::InDomain { arn, domain, repository: Some(repository) })
    }

    /// The list of versions in the body, if there is one.
    pub fn versions(&self) -> Result<Option<Vec<String>>, Fault> {
        let Some(list) = self.body("versions") else { return Ok(None) };
        let versions: Vec<String> = serde_json::from_value(list.clone())
            .map_err(|_| Fault::unreadable("'versions' is not a list of strings"))?;
        if versions.len() > MAX_VERSIONS {
            return Err(Fault::validation(format!(
                "1 validation error detected: Value at 'versions' failed to satisfy constraint: Member must have length less than or equal to {MAX_VERSIONS}"
            )));
        }
        versions.iter().try_for_each(|version| check_coordinate(version, "versions"))?;
        Ok(Some(versions))
    }

    /// Where a listing begins and how many entries it may have.
    pub fn paging(&self) -> Result<Paging, Fault> {
        let given = self.text("max-results").map(str::to_owned);
        let given = given.or_else(|| self.body("maxResults").map(Value::to_string));
        let limit = match given {
            None => DEFAULT_RESULTS,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=1000).contains(limit)).ok_or_else(|| {
                    Fault::validation(format!(
                        "1 validation error detected: Value '{text}' at 'maxResults' failed to satisfy constraint: Member must be between 1 and 1000"
                    ))
                })?
            }
        };
        let token = self.text("next-token").or_else(|| self.body_text("nextToken"));
        let start = match token {
            None => 0,
            Some(token) => read_token(token).ok_or_else(|| Fault::validation("Invalid nextToken"))?,
        };
        Ok(Paging { start, limit })
    }
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// Named by an ARN only, or nothing in particular (`*`).
    Any(String),
    /// A domain or something in it.
    InDomain {
        /// The ARN.
        arn: String,
        /// The domain.
        domain: DomainKey,
        /// The repository, if the call names one.
        repository: Option<RepositoryKey>,
    },
}

impl Resource {
    /// The ARN, or `*`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any(arn) | Self::InDomain { arn, .. } => arn,
        }
    }
}

/// A window on a listing.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    start: usize,
    limit: usize,
}

impl Paging {
    /// The entries in the window, and the token for the next one.
    pub fn cut<T>(self, items: impl IntoIterator<Item = T>) -> (Vec<T>, Option<String>) {
        let mut rest = items.into_iter().skip(self.start);
        let page: Vec<T> = rest.by_ref().take(self.limit).collect();
        let token = rest.next().map(|_| write_token(self.start + self.limit));
        (page, token)
    }
}

/// The token is hexadecimal so that nobody takes it for a number to count with.
fn write_token(start: usize) -> String {
    wheelport_index::hex(format!("from:{start}").as_bytes())
}

fn read_token(token: &str) -> Option<usize> {
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| token.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    String::from_utf8(bytes?).ok()?.strip_prefix("from:")?.parse().ok()
}

/// The fault for a parameter that is not there.
pub fn absent(name: &str) -> Fault {
    Fault::validation(format!(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
    ))
}

/// The fault for a value outside its grammar.
pub fn mismatch(value: &str, name: &str, pattern: &str) -> Fault {
    Fault::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must satisfy regular expression pattern: {pattern}"
    ))
}

/// The fault for a word that is not in an enumeration.
pub fn not_one_of(value: &str, name: &str, words: &[&str]) -> Fault {
    Fault::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must satisfy enum value set: [{}]",
        words.join(", ")
    ))
}

/// Refuses what is no repository name.
pub fn check_repository_name(name: &str, parameter: &str) -> Result<(), Fault> {
    if is_repository_name(name) {
        return Ok(());
    }
    Err(mismatch(name, parameter, r"[A-Za-z0-9][A-Za-z0-9._\-]{1,99}"))
}

fn check_coordinate(text: &str, name: &str) -> Result<(), Fault> {
    let fits = (1..=255).contains(&text.chars().count())
        && !text.contains(|c: char| c == '#' || c == '/' || c.is_whitespace());
    if fits { Ok(()) } else { Err(mismatch(text, name, r"[^#/\s]+")) }
}
