//! From the path of a request to what it addresses.
//!
//! A parser of its own instead of a router's tree, because the shapes overlap and clients are sloppy: slashes come
//! doubled, `+` comes as `%2B`, names come in any spelling. The path is split while it is still encoded, and every
//! segment is decoded exactly once; what still looks like an escape, a separator or a relative segment after that is
//! refused, so that no code behind this module finds a second meaning in the same bytes.
//!
//! `R` stands for `/pypi/{route}` with a configured route, or for nothing, which means the default route. Behind the
//! route may stand `@` and a date, a time, or a name for one: it is the index as of then, and takes no uploads.
//!
//! | path | address |
//! | --- | --- |
//! | `/` | [`Address::Home`] |
//! | `R`, `/legacy` | [`Address::Upload`] |
//! | `R/simple/` | [`Address::List`] |
//! | `R/simple/{project}/` | [`Address::Page`] |
//! | `R/simple/{project}/{version}/{file}` | [`Address::File`], or [`Address::Metadata`] for `….whl.metadata` |
//! | `R/{project}/json`, `R/pypi/{project}/json` | [`Address::Legacy`] |
//! | `R/{project}/{version}/json`, `R/pypi/{project}/{version}/json` | [`Address::Legacy`] of one version |
//! | `R/projects/…`, `R/search` | [`Address::Browse`], as `browse_address` says |
//! | `/_/oidc/…`, `/.well-known/pytp` | [`Address::Exchange`] |
//! | `/osv/v1/query`, `/osv/v1/querybatch`, `/osv/v1/vulns/{id}` | [`Address::Osv`] |
//! | `+simple` for `simple`, also behind `/legacy` | the same; some publishing tools look for files there |
//!
//! Where two shapes fit, the earlier of these rules wins: the name behind `/pypi/` is a route if a route of that name
//! is configured; a first segment `simple` or `+simple` is the index; the prefix `pypi` of the legacy JSON shapes is
//! that prefix. A project that is hidden by one of these rules in one shape is reachable in another.
//!
//! The method plays no part here, and nothing here looks at a header.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::browse_address::{self, BrowseAddress, BrowseForm, BrowseTarget};
use super::osv_call::OsvCall;
use super::refusal::{AddressFault, Refusal};
use crate::telemetry::ResponseKind;
use wheelport_index::FileAddress;
use wheelport_index::ProjectName;
use wheelport_index::excerpt;
use wheelport_index::{FileKind, FileName, InvalidComponent, VersionSegment};
use wheelport_runtime::sabotaged;

/// The longest path read, in bytes: three components of the longest kind, every byte escaped, and the rest around.
pub(super) const MAX_LENGTH: usize = 4096;

/// More segments than any address has.
const MAX_SEGMENTS: usize = 8;

/// A route, by its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

/// The names of the configured routes.
#[derive(Debug, Clone, Default)]
pub struct RouteNames {
    names: Vec<Arc<str>>,
    default: Option<RouteId>,
}

impl RouteNames {
    /// The routes in the order of the configuration. `default` must be one of them.
    pub fn new(names: impl IntoIterator<Item = Arc<str>>, default: Option<RouteId>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        debug_assert!(default.is_none_or(|RouteId(at)| at < names.len()));
        Self { names, default }
    }

    fn named(&self, name: &str) -> Option<RouteId> {
        self.names.iter().position(|known| **known == *name).map(RouteId)
    }

    pub(super) fn default_route(&self) -> Result<RouteId, Refusal> {
        self.default.ok_or(Refusal::NoDefaultRoute)
    }
}

/// What a path addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Address {
    /// The root: the start page, and the default route's place for uploads.
    Home,
    /// The place for uploads into a route.
    Upload { route: RouteId },
    /// The project list.
    List { route: RouteId },
    /// A project's page.
    Page { route: RouteId, project: ProjectName },
    /// A file.
    File {
        route: RouteId,
        /// The file's address below the route.
        file: FileAddress,
    },
    /// The core metadata of a wheel.
    Metadata {
        route: RouteId,
        /// The wheel's address below the route, without `.metadata`.
        wheel: FileAddress,
    },
    /// A page for people.
    Browse { route: RouteId, target: BrowseTarget, form: BrowseForm },
    /// Trusted publishing.
    Exchange(ExchangeStep),
    /// What is known to be wrong with versions.
    Osv(OsvCall),
    /// A project in the older JSON form.
    Legacy {
        /// The route.
        route: RouteId,
        project: ProjectName,
        /// Only this version.
        version: Option<VersionSegment>,
    },
}

/// What trusted publishing consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ExchangeStep {
    Audience,
    Mint,
    Burn,
    Discovery,
}

impl Address {
    /// The route whose content a request to this address reads; none where there is nothing of a route to read.
    pub(super) const fn reads(&self) -> Option<RouteId> {
        match self {
            Self::Home | Self::Upload { .. } | Self::Exchange(_) | Self::Osv(_) => None,
            Self::List { route }
            | Self::Page { route, .. }
            | Self::File { route, .. }
            | Self::Metadata { route, .. }
            | Self::Browse { route, .. }
            | Self::Legacy { route, .. } => Some(*route),
        }
    }

    /// The log and metric label.
    pub(super) const fn kind(&self) -> ResponseKind {
        match self {
            Self::Home => ResponseKind::Home,
            Self::Upload { .. } => ResponseKind::Upload,
            Self::List { .. } => ResponseKind::List,
            Self::Page { .. } => ResponseKind::Page,
            Self::File { .. } => ResponseKind::File,
            Self::Metadata { .. } => ResponseKind::Metadata,
            Self::Legacy { .. } => ResponseKind::Legacy,
            Self::Browse { .. } => ResponseKind::Browse,
            Self::Exchange(_) => ResponseKind::Exchange,
            Self::Osv(_) => ResponseKind::Osv,
        }
    }
}

/// An address, and whether the client should use another spelling of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What is addressed.
    pub address: Address,
    /// Where a reading request belongs instead: a relative reference (RFC 3986, 4.2) of one or more `../`, then the
    /// proper last segment with its slash. Set where relative links of the response would lead astray or the name is
    /// not normalised; never for doubled slashes alone.
    pub redirect: Option<String>,
    /// The date of the index, as it stands in the address.
    pub as_of: Option<Arc<str>>,
}

impl From<Address> for Parsed {
    fn from(address: Address) -> Self {
        Self { address, redirect: None, as_of: None }
    }
}

/// Reads the path of a request, still percent-encoded and without its query.
pub(super) fn parse(path: &str, routes: &RouteNames) -> Result<Parsed, Refusal> {
    let segments = Segments::split(path)?;
    if let Some(call) = OsvCall::parse(segments.as_slice()) {
        return Ok(Address::Osv(call).into());
    }
    match segments.as_slice() {
        [] => Ok(Address::Home.into()),
        [first] if first == "pypi" => Err(Refusal::NotOffered { protocol: "The XML-RPC interface" }),
        [first, name, rest @ ..] if first == "pypi" => match routes.named(name) {
            Some(route) => below(route, rest, segments.slashes),
            None => match dated(name, routes) {
                Some((route, date)) => Ok(Parsed { as_of: Some(date.into()), ..below(route, rest, segments.slashes)? }),
                None => unrouted(name, segments.as_slice(), routes),
            },
        },
        [first, second, step @ ..] if first == "_" && second == "oidc" => exchange(step),
        [first, second] if first == ".well-known" && second == "pytp" => {
            Ok(Address::Exchange(ExchangeStep::Discovery).into())
        }
        [first, ..] if first == ".well-known" => Err(Refusal::NotOffered { protocol: "Discovery" }),
        [first] if first == "legacy" => Ok(Address::Upload { route: routes.default_route()? }.into()),
        [first, rest @ ..] if first == "legacy" && rest.first().is_some_and(|next| next == "+simple") => {
            below(routes.default_route()?, rest, segments.slashes)
        }
        rest if has_shape(rest) => below(routes.default_route()?, rest, segments.slashes),
        _ => Err(Refusal::NothingHere),
    }
}

/// A route and the date of its index. No name of a route has an `@`.
fn dated<'a>(name: &'a str, routes: &RouteNames) -> Option<(RouteId, &'a str)> {
    let (name, date) = name.split_once('@')?;
    Some((routes.named(name)?, date))
}

/// A step of trusted publishing.
fn exchange(step: &[Cow<'_, str>]) -> Result<Parsed, Refusal> {
    let step = match step {
        [step] if step == "audience" => ExchangeStep::Audience,
        [step] if step == "mint-token" => ExchangeStep::Mint,
        [provider, step] if provider == "github" && step == "mint-token" => ExchangeStep::Mint,
        [step] if step == "burn-token" => ExchangeStep::Burn,
        _ => return Err(Refusal::NotOffered { protocol: "This part of trusted publishing" }),
    };
    Ok(Address::Exchange(step).into())
}

/// `/pypi/…` whose second segment is no route: the legacy JSON of the default route, or a mistyped route.
fn unrouted(name: &str, segments: &[Cow<'_, str>], routes: &RouteNames) -> Result<Parsed, Refusal> {
    let legacy = match segments {
        [_, second, last] => last == "json" && second != "simple",
        [_, second] => second == "json",
        // `/pypi/typo/simple/json/` is the page of a project called json, below a route that does not exist.
        [_, _, version, last] => last == "json" && version != "simple" && version != "+simple",
        _ => false,
    };
    if let (true, Ok(route)) = (legacy, routes.default_route()) {
        return below(route, segments, 0);
    }
    Err(Refusal::NoSuchRoute { route: excerpt(name) })
}

/// Whether the segments behind a route look like anything, so that noise is `NothingHere` even without a default.
fn has_shape(rest: &[Cow<'_, str>]) -> bool {
    rest.first().is_some_and(|first| first == "simple" || first == "+simple" || browse_address::begins(first))
        || rest.last().is_some_and(|last| last == "json")
}

/// What the segments behind a route mean.
fn below(route: RouteId, rest: &[Cow<'_, str>], slashes: usize) -> Result<Parsed, Refusal> {
    if let Some(browsed) = browse_address::parse(rest, slashes) {
        let BrowseAddress { target, form, redirect } = browsed?;
        return Ok(Parsed { address: Address::Browse { route, target, form }, redirect, as_of: None });
    }
    match rest {
        [] => Ok(Address::Upload { route }.into()),
        [index, rest @ ..] if index == "simple" || index == "+simple" => in_index(route, index, rest, slashes),
        [prefix, project, last] if prefix == "pypi" && last == "json" => legacy(route, project, None),
        [prefix, project, version, last] if prefix == "pypi" && last == "json" => legacy(route, project, Some(version)),
        [project, last] if last == "json" => legacy(route, project, None),
        [project, version, last] if last == "json" => legacy(route, project, Some(version)),
        _ => Err(Refusal::NothingHere),
    }
}

/// What the segments behind `simple` mean. `slashes` counts those at the end of the path.
fn in_index(route: RouteId, index: &str, rest: &[Cow<'_, str>], slashes: usize) -> Result<Parsed, Refusal> {
    match rest {
        [] => {
            let redirect = (slashes == 0).then(|| format!("{index}/"));
            Ok(Parsed { address: Address::List { route }, redirect, as_of: None })
        }
        [spelling] => {
            let project = project(spelling)?;
            let proper = slashes > 0 && project.as_str() == spelling;
            let redirect = (!proper).then(|| format!("{}{project}/", "../".repeat(slashes)));
            Ok(Parsed { address: Address::Page { route, project }, redirect, as_of: None })
        }
        [spelling, version, name] if slashes == 0 => {
            let project = project(spelling)?;
            let version = component(VersionSegment::parse(version))?;
            // Only a wheel has core metadata here; any other file may really be called `….metadata`.
            let wheel = name
                .strip_suffix(".metadata")
                .and_then(|stem| FileName::parse(stem).ok())
                .filter(|stem| stem.kind() == FileKind::Wheel);
            Ok(if let Some(file) = wheel {
                Address::Metadata { route, wheel: FileAddress { project, version, file } }.into()
            } else {
                let file = component(FileName::parse(name))?;
                Address::File { route, file: FileAddress { project, version, file } }.into()
            })
        }
        _ => Err(Refusal::NothingHere),
    }
}

fn legacy(route: RouteId, spelling: &str, version: Option<&Cow<'_, str>>) -> Result<Parsed, Refusal> {
    let version = version.map(|raw| component(VersionSegment::parse(raw))).transpose()?;
    Ok(Address::Legacy { route, project: project(spelling)?, version }.into())
}

fn project(spelling: &str) -> Result<ProjectName, AddressFault> {
    ProjectName::parse(spelling).map_err(AddressFault::from)
}

fn component<T>(parsed: Result<T, InvalidComponent>) -> Result<T, AddressFault> {
    parsed.map_err(AddressFault::from)
}

/// The decoded segments of a path, empty ones left out. Borrows wherever nothing was escaped.
struct Segments<'a> {
    parts: [Cow<'a, str>; MAX_SEGMENTS],
    count: usize,
    /// How many slashes end the path.
    slashes: usize,
}

impl<'a> Segments<'a> {
    fn split(path: &'a str) -> Result<Self, Refusal> {
        if path.len() > MAX_LENGTH {
            return Err(AddressFault::TooLong.into());
        }
        let mut parts = [const { Cow::Borrowed("") }; MAX_SEGMENTS];
        let mut count = 0;
        for raw in path.split('/').filter(|raw| !raw.is_empty()) {
            let decoded = decode(raw)?;
            // Segments beyond the last are checked all the same, so that a hostile path is always called one.
            if let Some(part) = parts.get_mut(count) {
                *part = decoded;
            }
            count += 1;
        }
        let slashes = path.len() - path.trim_end_matches('/').len();
        // One `../` of a redirect undoes one slash; no client has a reason to send many.
        if count > MAX_SEGMENTS || slashes > MAX_SEGMENTS {
            Err(Refusal::NothingHere)
        } else {
            Ok(Self { parts, count, slashes })
        }
    }

    fn as_slice(&self) -> &[Cow<'a, str>] {
        &self.parts[..self.count]
    }
}

/// Decodes one segment once and refuses what would be ambiguous to code that looks at it again.
fn decode(raw: &str) -> Result<Cow<'_, str>, AddressFault> {
    let is_relative = |segment: &str| matches!(segment, "." | "..");
    if is_relative(raw) && !sabotaged("relative-segment") {
        return Err(AddressFault::Relative);
    }
    // Nearly all segments are plain.
    if raw.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\')) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| AddressFault::Encoding)?;
    if is_relative(&decoded) {
        return Err(AddressFault::Relative);
    }
    for c in decoded.chars().filter(|_| !sabotaged("path-decoding")) {
        match c {
            '%' => return Err(AddressFault::Percent),
            '/' | '\\' => return Err(AddressFault::Character),
            c if c.is_control() || is_lookalike(c) => return Err(AddressFault::Character),
            _ => {}
        }
    }
    Ok(decoded)
}

/// Characters that compatibility mappings or careless readers turn into a slash, a backslash or a dot.
fn is_lookalike(c: char) -> bool {
    matches!(
        c,
        '\u{2024}'
            ..='\u{2026}'
                | '\u{2044}'
                | '\u{2215}'
                | '\u{2216}'
                | '\u{29f5}'
                | '\u{29f8}'
                | '\u{29f9}'
                | '\u{fe52}'
                | '\u{fe68}'
                | '\u{ff0e}'
                | '\u{ff0f}'
                | '\u{ff3c}'
    )
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
