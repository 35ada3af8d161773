//! A project and one of its versions: as HTML.

use maud::{Markup, html};

use super::catalog::date;
use super::description::Description;
use super::layout::{Frame, NavigationLink, document};
use super::project_model::{Person, ProjectModel, ReleaseEntry, StatusEntry};
use super::project_parts::{dependencies, files, install_lines, refusal, releases};

/// The whole page.
pub(crate) fn project(model: &ProjectModel, description: Option<&Description>) -> String {
    let projects = model.place.projects();
    let navigation = [
        NavigationLink { text: "Start", href: &model.place.start, is_current: false },
        NavigationLink { text: "Projects", href: &projects, is_current: false },
    ];
    let main = html! {
        (heading(model))
        (notes(model))
        @if !model.install.is_empty() { (install_lines(&model.install)) }
        div.columns {
            div {
                section aria-labelledby="files" {
                    h2 #files { "Files" }
                    (files(model))
                }
                @if let Some(description) = description {
                    section aria-labelledby="description" {
                        h2 #description { "Description" }
                        div.description { (description) }
                        @if description.is_shortened {
                            p.soft { "The description is longer; its end is left off." }
                        }
                    }
                }
            }
            aside aria-label="About this project" {
                (about(model))
                (dependencies(model))
                h2 #versions { "Versions" }
                (releases(model))
            }
        }
    };
    let title = match &model.version {
        Some(version) if model.is_version_page => format!("{} {version}", model.project),
        _ => model.project.clone(),
    };
    document(&Frame { title: &title, navigation: &navigation, main })
}

/// The release that is shown.
fn shown(model: &ProjectModel) -> Option<&ReleaseEntry> {
    model.versions.iter().find(|release| Some(&release.version) == model.version.as_ref())
}

fn heading(model: &ProjectModel) -> Markup {
    let release = shown(model);
    html! {
        div.title {
            h1 { (model.project) }
            @if let Some(version) = &model.version { span.mono { bdi { (version) } } }
            @match model.origin {
                Some("private") => span.mark.violet { "private" },
                Some(origin) => span.mark.plain { (origin) },
                None => {},
            }
            @if let Some(date) = &model.as_of { span.mark.amber { "as of " (date) } }
            @if release.is_some_and(|release| release.is_prerelease) { span.mark.plain { "pre-release" } }
            @if let Some(uploaded) = release.and_then(|release| release.uploaded.as_deref()) { (date(uploaded)) }
        }
        @if let Some(summary) = &model.summary { p.lead { bdi { (summary) } } }
    }
}

fn notes(model: &ProjectModel) -> Markup {
    let release = shown(model);
    let newest = model.versions.iter().find(|release| release.is_newest);
    let is_shown = |release: &ReleaseEntry| Some(&release.version) == model.version.as_ref();
    html! {
        @if let Some(StatusEntry { status, reason }) = &model.status {
            p.note.amber {
                "The repository says that this project is " b { (status) } "."
                @if let Some(reason) = reason { " " bdi { (reason) } }
            }
        }
        @if let Some(refused) = release.and_then(|release| release.refused.as_ref()) {
            p.note.red {
                b { @if release.is_some_and(|release| release.refused_files < release.files) { "Partly blocked. " }
                    @else { "Blocked. " } }
                (refusal(refused))
            }
        }
        @if let Some(reason) = release.and_then(|release| release.yanked.as_deref()) {
            p.note.amber {
                b { "Yanked. " }
                @if reason.is_empty() { "No reason is given." } @else { bdi { (reason) } }
            }
        }
        @if let Some(newest) = newest.filter(|newest| model.is_version_page && !is_shown(newest)) {
            p.note { "The newest version is " a href="../" { bdi { (newest.version) } } "." }
        }
    }
}

fn about(model: &ProjectModel) -> Markup {
    let has_facts = model.requires_python.is_some()
        || model.licence.is_some()
        || !model.authors.is_empty()
        || !model.links.is_empty()
        || model.metadata_missing.is_some();
    html! {
        @if has_facts {
            h2 { "About" }
            @if let Some(reason) = &model.metadata_missing { p.soft { (reason) } }
            dl {
                @if let Some(python) = &model.requires_python { dt { "Python" } dd { code { bdi { (python) } } } }
                @if let Some(licence) = &model.licence { dt { "Licence" } dd { bdi { (licence) } } }
                @if !model.authors.is_empty() {
                    dt { "By" }
                    @for person in &model.authors { dd { (by(person)) } }
                }
                @if !model.links.is_empty() {
                    dt { "Links" }
                    @for link in &model.links {
                        dd { a href=(link.url) rel="nofollow noopener noreferrer" { bdi { (link.label) } } }
                    }
                }
            }
        }
    }
}

fn by(person: &Person) -> Markup {
    let name = person.name.as_deref().or(person.email.as_deref()).unwrap_or_default();
    html! {
        @match &person.email {
            Some(email) => a href={ "mailto:" (email) } { bdi { (name) } },
            None => bdi { (name) },
        }
    }
}

#[cfg(test)]
#[path = "project_tests.rs"]
mod tests;
