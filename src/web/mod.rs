//! The inbound HTTP edge: addresses, negotiation, guards, answers. Nothing below this module knows a status of ours.

pub mod address;
pub mod conditional;
pub mod guard;
pub mod headers;

pub mod negotiate;
pub mod problem;
