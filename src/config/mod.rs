//! Settings: file, environment and flags into one typed, validated whole. Precedence: flag, environment, file, default.
//!
//! Every component defines the settings it needs beside itself; this module composes them, and is the only reader of
//! the configuration file. Flags and environment arrive through `Overrides`, which the argument parser fills.
//! Unknown keys are errors that name the key and its line. `load` shows the order of the steps.

mod check;
mod error;
mod file;
mod load;
mod overrides;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use overrides::{Overrides, RepositoryOverrides, TlsOverrides};
pub(crate) use settings::DEFAULT_LISTEN;
pub use settings::{ConfigSource, RouteSettings, ServerSettings, Settings};
