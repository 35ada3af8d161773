//! The one integration binary: each module tells the stories of one part over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod legacy;
mod lists;
mod metadata;
mod negotiation;
mod pages;
mod ranges;
mod uploads;
mod upstream;
