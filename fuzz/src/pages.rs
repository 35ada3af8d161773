//! Pages of a project, as upstream sends them.

use url::Url;
use wheelport_index::parse::{PageFormat, page};
use wheelport_index::{Page, ProjectName, render};

use crate::names::safe;

pub fn page_json(bytes: &[u8]) {
    parse(PageFormat::Json, bytes);
}

pub fn page_html(bytes: &[u8]) {
    parse(PageFormat::Html, bytes);
}

fn parse(format: PageFormat, bytes: &[u8]) {
    let base = Url::parse("https://upstream.invalid/pypi/r/simple/a-b/").expect("an address");
    let name = ProjectName::parse("a-b").expect("a project");
    let Ok(parsed) = page(format, bytes, &base, &name) else { return };
    for file in &parsed.page.files {
        safe(file.name.as_str());
        safe(file.version.as_str());
    }
    // What we send is a page that reads as the same one, in either format, and never a link to somewhere else.
    let (json, html) = (render::json(&parsed.page), render::html(&parsed.page));
    let own = Url::parse("http://localhost/simple/a-b/").expect("an address");
    // In HTML a link without a digest may lead to something other than a file.
    let is_certain = parsed.page.files.iter().all(|file| file.hashes.strongest().is_some());
    let formats = [(PageFormat::Json, json), (PageFormat::Html, html)];
    for (format, bytes) in formats.into_iter().take(if is_certain { 2 } else { 1 }) {
        let again = page(format, &bytes, &own, &name);
        let again = again.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)));
        assert_eq!(again.skipped, 0, "{}", String::from_utf8_lossy(&bytes));
        same_files(&parsed.page, &again.page);
    }
}

#[track_caller]
fn same_files(page: &Page, again: &Page) {
    let of = |page: &Page| page.files.iter().map(|file| (file.name.clone(), file.version.clone())).collect::<Vec<_>>();
    assert_eq!(of(page), of(again));
    let elsewhere = again.files.iter().find(|file| file.url.is_some());
    assert!(elsewhere.is_none(), "{elsewhere:?}");
}
