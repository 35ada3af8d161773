//! The rules of what may be served, as far as the configuration reads them.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

#[path = "../../src/policy/mod.rs"]
#[allow(unused_imports, reason = "named for other rooms")]
mod policy;

pub(crate) use policy::{PolicySettings, PolicyTable, RuleFileError};
