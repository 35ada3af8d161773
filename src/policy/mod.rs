//! What may be served: rules, exceptions, malware and named dates, and the one decision that they lead to.
//!
//! The decision is a pure function of the facts of a file, the time and the rules. Nothing here knows a request, a page
//! or the cache: `flow` gathers the facts, and applies the decision to pages and to every way to a file. The rules come
//! from the configuration and from a directory that is watched, and are swapped as a whole.

mod by_file;
mod by_project;
mod counts;
mod decide;
mod duration;
mod facts;
mod globs;
mod granted;
mod keeper;
mod moment;
mod rules;
mod sources;
mod tables;

pub use by_file::OfKind;
pub use counts::PolicyCounts;
pub use decide::{Assessment, Grounds, Ruling};
pub use facts::{FileFacts, NamedVersions, PackageOrigin};
pub use granted::{GrantError, GrantStore, GrantedException, NewException};
pub use keeper::{PolicyHandle, PolicyState, watch};
pub use moment::{InvalidMoment, Moment};
pub use rules::{ProjectRules, RuleSet};
pub use sources::{PolicySettings, RuleFileError};
pub use tables::PolicyTable;

/// The rule that names in refusals what guards private names; no other may have this name.
pub const PRIVATE_NAMES: &str = "private-names";

/// The rule that names in refusals what advisories report as malware; no other may have this name.
pub const MALWARE: &str = "malware";
