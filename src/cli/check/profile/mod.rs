//! What people get wrong in AWS profiles, found by reading the files.
//!
//! Pure: files go in as text, findings come out with file and line. The SDK ignores several of these mistakes or
//! names neither profile nor cause, and other tools react differently to the same file, so each finding also says
//! what they do. `ini` reads the files, `walk` follows the selected profile, `mistakes` is the table of what they can
//! find.

use std::cmp::Reverse;

mod finding;
mod ini;
mod inspection;
mod mistakes;
mod sso;
#[cfg(test)]
mod tests;
mod time;
mod walk;

pub(super) use finding::{ProfileFinding, Severity};
pub(super) use ini::TextFile;
pub(super) use inspection::Inspection;

/// Looks at the shape of both files and at every profile that the selected one leads to; the worst finding first.
pub(super) fn inspect(inspection: &Inspection) -> Vec<ProfileFinding> {
    let profiles = ini::read(inspection.config.as_ref(), inspection.credentials.as_ref());
    let selected = inspection.selected.as_deref().unwrap_or("default");
    let mut findings = walk::follow(inspection, &profiles, selected);
    findings.extend(profiles.flaws.iter().map(|flaw| mistakes::of_flaw(flaw, selected)));
    findings.sort_by_key(|finding| Reverse(finding.severity));
    findings
}
