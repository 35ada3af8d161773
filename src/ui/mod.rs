//! What a person looks at: the HTML of pages for people, from models that other rooms fill.
//!
//! Templates only: no decision, no look-up, no input or output. Every value is escaped by the template language unless
//! it has been sanitised here.

mod layout;
mod usage;

pub(crate) use layout::{NavigationLink, content_security_policy};
pub(crate) use usage::{UsageForm, UsagePage, UsageRow, usage_page};
