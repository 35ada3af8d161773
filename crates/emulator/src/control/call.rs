//! One decoded request: its parameters with the service model's names and limits, and its caller.
//!
//! Nearly all inputs are query parameters in kebab case; lists, maps and a few more are members of a JSON body.
//! All of them are checked here, so that handlers see valid names only.

use serde_json::Value;

use super::fault::CallFault;
use crate::store::{DomainKey, Principal, RepositoryKey, is_account, is_domain_name, is_repository_name};
use wheelport_index::ProjectName;

/// The most versions in one list.
const MAX_VERSIONS: usize = 100;
/// Results on a page when the caller names no number.
const DEFAULT_RESULTS: usize = 100;
/// The package formats of the service; the emulator keeps packages of the first only.
pub(super) const FORMATS: [&str; 8] = ["pypi", "npm", "maven", "nuget", "generic", "ruby", "swift", "cargo"];

/// A request whose signature has been verified.
pub(super) struct OperationCall {
    pub caller: Principal,
    query: Vec<(String, String)>,
    body: Value,
}

impl OperationCall {
    /// Joins query and body; an empty body stands for an empty object, whatever its declared type.
    pub(super) fn new(caller: Principal, query: Vec<(String, String)>, body: &[u8]) -> Result<Self, CallFault> {
        let body = if body.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(body).map_err(|_| CallFault::unreadable("the body is not valid JSON"))?
        };
        if !body.is_object() {
            return Err(CallFault::unreadable("the body is not a JSON object"));
        }
        Ok(Self { caller, query, body })
    }

    /// A query parameter; an empty one counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A member of the body that is a string.
    pub(super) fn body_text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())
    }

    /// A member of the body.
    pub(super) fn body(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// A query parameter, which must be present.
    pub(super) fn required(&self, name: &str) -> Result<&str, CallFault> {
        self.text(name).ok_or_else(|| absent(name))
    }

    /// The domain: its name, and the owner's account where it is not the caller's.
    pub(super) fn domain(&self) -> Result<DomainKey, CallFault> {
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

    pub(super) fn repository(&self) -> Result<RepositoryKey, CallFault> {
        self.repository_named("repository")
    }

    /// A repository that another parameter names.
    pub(super) fn repository_named(&self, parameter: &str) -> Result<RepositoryKey, CallFault> {
        let name = self.required(parameter)?;
        check_repository_name(name, parameter)?;
        Ok(self.domain()?.repository(name))
    }

    /// The package format, one of [`FORMATS`].
    pub(super) fn format(&self) -> Result<&str, CallFault> {
        let format = self.required("format")?;
        if FORMATS.contains(&format) { Ok(format) } else { Err(not_one_of(format, "format", &FORMATS)) }
    }

    /// The package. `None` where the emulator can have no such package: another format, a namespace, a name that no
    /// project can have.
    pub(super) fn package(&self) -> Result<Option<ProjectName>, CallFault> {
        let format = self.format()?;
        let name = self.required("package")?;
        check_coordinate(name, "package")?;
        if let Some(namespace) = self.text("namespace") {
            check_coordinate(namespace, "namespace")?;
            return Ok(None);
        }
        Ok(ProjectName::parse(name).ok().filter(|_| format == "pypi"))
    }

    pub(super) fn version(&self) -> Result<&str, CallFault> {
        let version = self.required("version")?;
        check_coordinate(version, "packageVersion")?;
        Ok(version)
    }

    /// The resource that the caller needs the right for.
    pub(super) fn resource(&self, region: &str) -> Result<CallResource, CallFault> {
        if let Some(arn) = self.text("resourceArn") {
            return Ok(CallResource::Any(arn.to_owned()));
        }
        if self.text("domain").or_else(|| self.body_text("domain")).is_none() {
            return Ok(CallResource::Any("*".to_owned()));
        }
        let domain = self.domain()?;
        let parameters = ["repository", "destination-repository"];
        let Some(parameter) = parameters.into_iter().find(|name| self.text(name).is_some()) else {
            return Ok(CallResource::InDomain { arn: domain.arn(region), domain, repository: None });
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
        Ok(CallResource::InDomain { arn, domain, repository: Some(repository) })
    }

    /// The list of versions in the body, if there is one.
    pub(super) fn versions(&self) -> Result<Option<Vec<String>>, CallFault> {
        let Some(list) = self.body("versions") else { return Ok(None) };
        let versions: Vec<String> = serde_json::from_value(list.clone())
            .map_err(|_| CallFault::unreadable("'versions' is not a list of strings"))?;
        if versions.len() > MAX_VERSIONS {
            return Err(CallFault::validation(format!(
                "1 validation error detected: Value at 'versions' failed to satisfy constraint: Member must have \
                 length less than or equal to {MAX_VERSIONS}"
            )));
        }
        versions.iter().try_for_each(|version| check_coordinate(version, "versions"))?;
        Ok(Some(versions))
    }

    /// Where a listing begins and how many entries it may have.
    pub(super) fn paging(&self) -> Result<Paging, CallFault> {
        let given = self.text("max-results").map(str::to_owned);
        let given = given.or_else(|| self.body("maxResults").map(Value::to_string));
        let limit = match given {
            None => DEFAULT_RESULTS,
            Some(text) => text.parse().ok().filter(|limit| (1..=1000).contains(limit)).ok_or_else(|| {
                CallFault::validation(format!(
                    "1 validation error detected: Value '{text}' at 'maxResults' failed to satisfy constraint: \
                         Member must be between 1 and 1000"
                ))
            })?,
        };
        let token = self.text("next-token").or_else(|| self.body_text("nextToken"));
        let start = match token {
            None => 0,
            Some(token) => read_token(token).ok_or_else(|| CallFault::validation("Invalid nextToken"))?,
        };
        Ok(Paging { start, limit })
    }
}

/// The resource that a call acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallResource {
    /// A resource named by its ARN, or no particular one (`*`).
    Any(String),
    /// A domain or something in it.
    InDomain {
        arn: String,
        domain: DomainKey,
        /// The repository, if the call names one.
        repository: Option<RepositoryKey>,
    },
}

impl CallResource {
    /// The ARN, or `*`.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Any(arn) | Self::InDomain { arn, .. } => arn,
        }
    }
}

/// A window on a listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paging {
    start: usize,
    limit: usize,
}

impl Paging {
    /// The entries in the window, and the token for the next one.
    pub(super) fn cut<T>(self, items: impl IntoIterator<Item = T>) -> (Vec<T>, Option<String>) {
        let mut rest = items.into_iter().skip(self.start);
        let page: Vec<T> = rest.by_ref().take(self.limit).collect();
        let token = rest.next().map(|_| write_token(self.start + self.limit));
        (page, token)
    }
}

/// The token is hexadecimal so that no client mistakes it for an offset to compute with.
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

/// The fault for a missing parameter.
pub(super) fn absent(name: &str) -> CallFault {
    CallFault::validation(format!(
        "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
    ))
}

/// The fault for a value outside its grammar.
pub(super) fn mismatch(value: &str, name: &str, pattern: &str) -> CallFault {
    CallFault::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: {pattern}"
    ))
}

/// The fault for a word that is not in an enumeration.
pub(super) fn not_one_of(value: &str, name: &str, words: &[&str]) -> CallFault {
    CallFault::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must satisfy \
         enum value set: [{}]",
        words.join(", ")
    ))
}

/// Refuses a value that is not a repository name.
pub(super) fn check_repository_name(name: &str, parameter: &str) -> Result<(), CallFault> {
    if is_repository_name(name) {
        return Ok(());
    }
    Err(mismatch(name, parameter, r"[A-Za-z0-9][A-Za-z0-9._\-]{1,99}"))
}

fn check_coordinate(text: &str, name: &str) -> Result<(), CallFault> {
    let fits = (1..=255).contains(&text.chars().count())
        && !text.contains(|c: char| c == '#' || c == '/' || c.is_whitespace());
    if fits { Ok(()) } else { Err(mismatch(text, name, r"[^#/\s]+")) }
}
