//! The one integration binary: each module tells the stories of one part over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod legacy;
mod lists;
mod negotiation;
mod pages;
mod upstream;
