//! The media types of the simple API (PEP 503, PEP 691) and of the older JSON interface, without parameters.

/// The simple API in JSON, version 1.
pub const JSON_V1: &str = "application/vnd.pypi.simple.v1+json";
/// The simple API in HTML, version 1.
pub const HTML_V1: &str = "application/vnd.pypi.simple.v1+html";
/// The simple API in JSON, in the newest version that the server has.
pub const JSON_LATEST: &str = "application/vnd.pypi.simple.latest+json";
/// The simple API in HTML, in the newest version that the server has.
pub const HTML_LATEST: &str = "application/vnd.pypi.simple.latest+html";
/// The simple API in HTML, by the name that predates PEP 691 and that every client knows.
pub const TEXT_HTML: &str = "text/html";
/// The JSON interface that is older than the simple API's own.
pub const LEGACY_JSON: &str = "application/json";
