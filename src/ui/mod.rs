//! What a person looks at: the HTML of pages for people, from models that other rooms fill.
//!
//! Templates only: no decision, no look-up, no input or output. Every value is escaped by the template language unless
//! it has been sanitised here.

mod home;
mod layout;
mod tools;

pub(crate) use home::{HomeModel, home};
pub(crate) use layout::content_security_policy;
pub(crate) use tools::{HomeRoute, Publishing};
