//! What a page for people needs to know of its request, and the words that all of them use.

use std::sync::Arc;

use super::Site;
use super::browse_address::BrowseForm;
use super::context::RequestContext;
use super::guard::Host;
use super::home::base_url;
use super::index::index_prefix;
use super::negotiate::{ContentCoding, content_coding};
use crate::flow::{PackageOrigin, Route};
use crate::ui::Place;
use wheelport_index::shortened;
use wheelport_runtime::sabotaged;

/// The longest text from outside that is shown in one place, in characters.
pub(super) const LONGEST_TEXT: usize = 300;

/// What a page for people needs to know of its request.
#[derive(Clone)]
pub(super) struct BrowseRequest {
    pub place: Place,
    /// The address of the simple index of the route, as tools are told it.
    pub index: String,
    /// The name of the route.
    pub route: Arc<str>,
    /// The date of the index, as it stands in the address.
    pub as_of: Option<Arc<str>>,
    pub coding: ContentCoding,
    pub form: BrowseForm,
}

impl BrowseRequest {
    pub(super) fn new(
        site: &Site,
        context: &RequestContext,
        host: &Host,
        route: &Route,
        as_of: Option<Arc<str>>,
        form: BrowseForm,
    ) -> Self {
        let route = Arc::clone(&route.name);
        let prefix = index_prefix(context.path(), &route);
        Self {
            place: place(context.path(), &prefix),
            index: format!("{}{prefix}/simple/", base_url(site, context, host)),
            route,
            as_of,
            coding: content_coding(&context.headers),
            form,
        }
    }
}

/// Where a path is, below the path of its index.
fn place(path: &str, prefix: &str) -> Place {
    let up = |levels: usize| if levels == 0 { "./".to_owned() } else { "../".repeat(levels) };
    let levels = path.matches('/').count().saturating_sub(1);
    Place { start: up(levels), index: up(levels.saturating_sub(prefix.matches('/').count())) }
}

/// What people call where a project comes from.
pub(super) const fn origin_word(origin: PackageOrigin) -> &'static str {
    match origin {
        PackageOrigin::Internal => "private",
        PackageOrigin::External => "external",
    }
}

/// A short text from outside, without characters that lay out text.
pub(super) fn shown(text: &str) -> String {
    shortened(text, if sabotaged("shown-length") { usize::MAX } else { LONGEST_TEXT }).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_start_page_and_to_the_index() {
        for (path, prefix, start, index) in [
            ("/projects/", "", "../", "../"),
            ("/search", "", "./", "./"),
            ("/projects/a/", "", "../../", "../../"),
            ("/projects/a/1.0/", "", "../../../", "../../../"),
            ("/pypi/r/projects/", "/pypi/r", "../../../", "../"),
            ("/pypi/r/search", "/pypi/r", "../../", "./"),
            ("/pypi/r@2026-01-01/projects/a/1.0/", "/pypi/r@2026-01-01", "../../../../../", "../../../"),
        ] {
            let found = place(path, prefix);
            assert_eq!((found.start.as_str(), found.index.as_str()), (start, index), "{path}");
        }
    }
}
