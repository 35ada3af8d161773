//! The addresses of OSV's API: what can be asked of advisories.

use std::borrow::Cow;

/// What can be asked of advisories.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OsvCall {
    Query,
    QueryBatch,
    /// The document with this id.
    Advisory(String),
}

impl OsvCall {
    /// Reads the segments of an address. Everything else below `osv` is an address of the index.
    pub(super) fn parse(segments: &[Cow<'_, str>]) -> Option<Self> {
        match segments {
            [first, version, call @ ..] if first == "osv" && version == "v1" => match call {
                [call] if call == "query" => Some(Self::Query),
                [call] if call == "querybatch" => Some(Self::QueryBatch),
                [call, id] if call == "vulns" => Some(Self::Advisory(id.to_string())),
                _ => None,
            },
            _ => None,
        }
    }
}
