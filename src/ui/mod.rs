//! What a person looks at: the HTML of pages for people, from models that other rooms fill.
//!
//! Templates only: no decision, no look-up, no input or output. Every value is escaped by the template language unless
//! it has been sanitised here.

mod catalog;
mod description;
mod home;
mod layout;
mod operations;
mod plot;
mod project;
mod project_model;
mod project_parts;
mod table;
mod tools;
mod usage;
mod words;

pub(crate) use catalog::{CatalogEntry, CatalogModel, LONGEST_QUERY, Place, catalog};
pub(crate) use description::{Description, beginning};
pub(crate) use home::{HomeModel, home};
pub(crate) use layout::content_security_policy;
pub(crate) use operations::{SavingsPage, StatusPage, savings, status};
pub(crate) use plot::{Plot, PlotLine, Unit};
pub(crate) use project::project;
pub(crate) use project_model::{
    DependencyEntry, DependencyGroup, DescriptionText, LinkEntry, ListedFile, Person, ProjectModel, RefusalEntry,
    ReleaseEntry, StatusEntry, is_web_address,
};
pub(crate) use table::{Cell, Mark, Table};
pub(crate) use tools::{HomeRoute, Publishing, install_commands};
pub(crate) use usage::{UsageForm, UsagePage, UsageRow, usage_page};
pub(crate) use words::{bytes, duration, number, rough};
