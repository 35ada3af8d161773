//! Wheelport: a credential-free Python package index and upload target in front of AWS CodeArtifact.
//!
//! The module tree follows three flows (page, file, upload); `docs/ARCHITECTURE.md` walks through each of them.

pub mod advisories;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod fleet;
pub mod flow;
pub mod identity;
pub mod notices;
pub mod notify;
pub mod policy;
pub mod process;
mod redact;
pub mod telemetry;
pub mod token;
mod ui;
pub mod upstream;
pub mod usage;
pub mod web;
