//! The one integration binary: each module tells the stories of one part over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod advisories;
mod ahead;
mod cache;
mod certified;
mod changed_files;
mod commands;
mod connections;
mod credentials;
mod faults;
mod files;
mod framing;
mod guard;
mod identity;
mod integrity;
mod legacy;
mod lists;
mod memory;
mod metadata;
mod metadata_by_range;
mod negotiation;
mod notify;
mod ops;
mod pages;
mod policy;
mod prefetch;
mod process;
mod ranges;
mod rules;
mod site;
mod status;
mod storms;
mod threats;
mod tls;
mod uploads;
mod upstream;
mod usage;
mod warm;
