//! The parts of a project's page: files, versions, dependencies, and what to type to install it.

use maud::{Markup, html};

use super::catalog::date;
use super::project_model::{
    DependencyGroup, InstallLine, ListedFile, ProjectModel, RefusalEntry, ReleaseEntry, is_web_address,
};
use super::words::bytes;

/// Versions that the page shows at once; the others are behind a click.
const VERSIONS_AT_ONCE: usize = 12;
/// Versions that the page shows at most. The JSON has more.
const MOST_VERSIONS: usize = 1500;

pub(super) fn install_lines(lines: &[InstallLine]) -> Markup {
    html! {
        section.install aria-label="Install" {
            @for InstallLine { tool, line } in lines {
                b { (tool) }
                code id={ "install-" (tool) } { (line) }
                button type="button" data-copy={ "install-" (tool) } { "Copy" span.hidden { " the line for " (tool) } }
            }
        }
    }
}

pub(super) fn files(model: &ProjectModel) -> Markup {
    html! {
        @if model.files.is_empty() { p.soft { "There are no files." } }
        ul.files {
            @for (number, file) in model.files.iter().enumerate() { li { (file_entry(model, file, number)) } }
        }
        @if model.further_files > 0 { p.soft { (model.further_files) " more files are not shown." } }
        @if model.has_rules && model.files.iter().all(|file| !has_story(file)) {
            p.soft { "The rules of this server let all of these files through." }
        }
    }
}

/// Whether there is more to say of a file than that no rule applies to it.
fn has_story(file: &ListedFile) -> bool {
    file.refused.is_some() || file.exception.is_some() || !file.audited.is_empty()
}

fn file_entry(model: &ProjectModel, file: &ListedFile, number: usize) -> Markup {
    let other_python = file.requires_python.as_ref().filter(|python| Some(*python) != model.requires_python.as_ref());
    html! {
        div.line {
            span.words { bdi { (file.words) } }
            @if file.cached { span.mark { "cached" } }
            @if file.refused.is_some() { span.mark.red { "blocked" } }
            @if file.yanked.is_some() { span.mark.amber { "yanked" } }
            @if let Some(size) = file.size { span.soft.number { (bytes(rounded(size))) } }
            @if let Some(uploaded) = &file.uploaded { (date(uploaded)) }
        }
        div.file {
            @if file.refused.is_some() { bdi { (file.file) } }
            @else { a href={ (model.place.index) (file.path) } { bdi { (file.file) } } }
        }
        @if let Some(python) = other_python {
            div.because { "Python " code { bdi { (python) } } }
        }
        @if let Some(refused) = &file.refused { div.because { (refusal(refused)) } }
        @if let Some(reason) = file.yanked.as_deref().filter(|reason| !reason.is_empty()) {
            div.because { "Yanked: " bdi { (reason) } }
        }
        @if let Some(exception) = &file.exception {
            div.because { "Let through by an exception: " bdi { (exception) } }
        }
        @if !file.audited.is_empty() { div.because { "Looked at by " (file.audited.join(", ")) "." } }
        @if !file.vulnerabilities.is_empty() {
            div.because { "Known vulnerabilities: " bdi { (file.vulnerabilities.join(", ")) } }
        }
        @if let Some(dated) = file.dated.as_ref().filter(|_| file.refused.is_some()) {
            div.because { "Its age counts from " (dated) "." }
        }
        @if let Some(sha256) = &file.sha256 {
            div.digest {
                span.soft { "SHA-256" }
                code id={ "digest-" (number) } { (sha256) }
                button type="button" data-copy={ "digest-" (number) } {
                    "Copy" span.hidden { " the digest of " (file.file) }
                }
            }
        }
    }
}

/// Why something is refused, until when, and whom to ask.
pub(super) fn refusal(refused: &RefusalEntry) -> Markup {
    html! {
        bdi { (refused.reason) }
        span.soft {
            " Rule " code { (refused.rule) }
            @if let Some(until) = &refused.until { ", until " time datetime=(until) { (until) } }
            "."
        }
        @if let Some(help) = &refused.help {
            " " @if is_web_address(help) { a href=(help) rel="noopener noreferrer" { "Ask for an exception" } }
            @else { "For an exception: " bdi { (help) } }
        }
    }
}

pub(super) fn dependencies(model: &ProjectModel) -> Markup {
    html! {
        @if !model.dependencies.is_empty() {
            h2 { "Needs" }
            @for group in &model.dependencies {
                @match &group.extra {
                    None => (requires(model, group)),
                    Some(extra) => details {
                        summary { "for " code { bdi { (extra) } } " " span.soft { "(" (group.requires.len()) ")" } }
                        (requires(model, group))
                    },
                }
            }
        } @else if model.metadata_missing.is_none() && model.version.is_some() {
            h2 { "Needs" }
            p.soft { "Nothing else." }
        }
    }
}

fn requires(model: &ProjectModel, group: &DependencyGroup) -> Markup {
    html! {
        ul {
            @for needed in &group.requires {
                li {
                    a href={ (model.place.projects()) (needed.project) "/" } { (needed.project) }
                    @if !needed.versions.is_empty() { " " code { bdi { (needed.versions) } } }
                    @if let Some(marker) = &needed.marker { div.because { "if " bdi { (marker) } } }
                }
            }
        }
    }
}

pub(super) fn releases(model: &ProjectModel) -> Markup {
    let (first, others) = model.versions.split_at(VERSIONS_AT_ONCE.min(model.versions.len()));
    let others = &others[..others.len().min(MOST_VERSIONS)];
    let left_off = model.further_versions + model.versions.len() - first.len() - others.len();
    html! {
        ul.versions { @for release in first { (release_entry(model, release)) } }
        @if !others.is_empty() {
            details {
                summary { (others.len() + left_off) " older versions" }
                ul.versions { @for release in others { (release_entry(model, release)) } }
                @if left_off > 0 { p.soft { (left_off) " more are not shown." } }
            }
        }
    }
}

fn release_entry(model: &ProjectModel, release: &ReleaseEntry) -> Markup {
    let is_shown = Some(&release.version) == model.version.as_ref();
    let href = if model.is_version_page { format!("../{}/", release.segment) } else { format!("{}/", release.segment) };
    html! {
        li {
            a.mono href=(href) aria-current=[is_shown.then_some("true")] { bdi { (release.version) } }
            @if release.is_newest { span.mark { "newest" } }
            @if release.is_prerelease { span.mark.plain { "pre" } }
            @if release.refused.is_some() {
                span.mark.red { @if release.refused_files < release.files { "partly blocked" } @else { "blocked" } }
            }
            @if release.yanked.is_some() { span.mark.amber { "yanked" } }
            @if let Some(uploaded) = &release.uploaded { (date(uploaded)) }
            @if let Some(refused) = &release.refused {
                span.because {
                    bdi { (refused.reason) }
                    @if let Some(until) = &refused.until { " Until " time datetime=(until) { (until) } "." }
                }
            }
            @if let Some(reason) = release.yanked.as_deref().filter(|reason| !reason.is_empty()) {
                span.because { bdi { (reason) } }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is shown of a size has three digits")]
fn rounded(size: u64) -> f64 {
    size as f64
}
