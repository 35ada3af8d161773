//! What a person looks at: the HTML of pages for people, from models that other rooms fill.
//!
//! Templates only: no decision, no look-up, no input or output. Every value is escaped by the template language unless
//! it has been sanitised here.

mod layout;
mod operations;
mod plot;
mod table;
mod words;

pub(crate) use layout::content_security_policy;
pub(crate) use operations::{SavingsPage, StatusPage, savings, status};
pub(crate) use plot::{Plot, PlotLine, Unit};
pub(crate) use table::{Cell, Mark, Table};
pub(crate) use words::{bytes, duration, number, rough};
