//! The one integration binary: each module tells the stories of one part over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod upstream;
