//! The start page: what this server is, and how to point each tool at it, ready to copy.
//!
//! Unlike the pages of the index it holds absolute addresses, because that is what configuration files need.

use maud::{Markup, html};

use super::layout::{Frame, NavigationLink, document};
use super::tools::{Card, HomeRoute, Publishing, Tools};

/// What the page says.
#[derive(Debug, Clone)]
pub(crate) struct HomeModel<'a> {
    /// Scheme, host and path prefix, without a final slash.
    pub(crate) base: &'a str,
    /// The routes, in the order of the configuration.
    pub(crate) routes: Vec<HomeRoute<'a>>,
    /// Whether there are pages of projects.
    pub(crate) has_projects: bool,
}

/// The whole page.
pub(crate) fn home(model: &HomeModel<'_>) -> String {
    // The default route first, and open; a reader who opens another one knows why.
    let (default, others): (Vec<_>, Vec<_>) = model.routes.iter().partition(|route| route.is_default);
    let has_default = !default.is_empty() && model.has_projects;
    let mut navigation = vec![NavigationLink { text: "Start", href: "./", is_current: true }];
    navigation.extend(has_default.then_some(NavigationLink { text: "Projects", href: "projects/", is_current: false }));
    let main = html! {
        h1 { "One address for every package" }
        p.lead {
            "A Python package index in front of AWS CodeArtifact: one address, no credentials, nothing to renew."
        }
        p.note {
            "Make it the " b { "only" } " index of a project. With a second one, installers silently take a package "
            "from there whenever this one has no answer. A click into a box selects its text."
        }
        @for (position, route) in default.into_iter().chain(others).enumerate() {
            (section(model, route, position == 0))
        }
        @if model.routes.is_empty() { p { "No route is configured." } }
    };
    document(&Frame { title: "Start", navigation: &navigation, main })
}

fn section(model: &HomeModel<'_>, route: &HomeRoute<'_>, is_open: bool) -> Markup {
    if route.is_gated {
        return html! {
            details.route {
                summary { h2 { (route.name) } }
                p { "This route is read with an identity; its operators say how." }
            }
        };
    }
    let tools = Tools::new(model.base, route);
    html! {
        details.route open[is_open] {
            summary {
                h2 { (route.name) }
                @if route.is_default { " " span.mark { "default" } }
            }
            p {
                "CodeArtifact domain " b { (route.domain) } ", repository " b { (route.repository) } ". Index URL:"
            }
            pre.all.address { (tools.index) }
            @if model.has_projects {
                p { a href={ "pypi/" (route.name) "/projects/" } { "Browse its projects" } }
            }
            h3 { "Install" }
            (cards(tools.install()))
            h3 { "Publish" }
            @match route.publishing {
                Publishing::Off => p { "Publishing through this route is off." },
                Publishing::Anonymous => p { "No credentials are needed." },
                Publishing::Token => p { "Put your token into the variable " code { "TOKEN" } "." },
            }
            @if route.publishing != Publishing::Off {
                (cards(tools.publish(route.publishing == Publishing::Token)))
            }
        }
    }
}

fn cards(cards: impl IntoIterator<Item = Card>) -> Markup {
    html! {
        div.cards {
            @for (title, place, text) in cards {
                section {
                    h4 { (title) " " small { (place) } }
                    pre.all tabindex="0" { (text) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, is_default: bool, publishing: Publishing) -> HomeRoute<'_> {
        HomeRoute { name, domain: "acme", repository: "python", is_default, publishing, is_gated: false }
    }

    fn render(base: &str, routes: Vec<HomeRoute<'_>>) -> String {
        home(&HomeModel { base, routes, has_projects: true })
    }

    #[test]
    fn the_page_needs_no_other_host() {
        let page = render("https://pypi.example.org", vec![route("pypi", true, Publishing::Anonymous)]);
        for needless in [" src=", "@import", "url(", " style=", " onclick", "href=\"http", "href=\"//"] {
            assert!(!page.contains(needless), "{needless}");
        }
    }

    #[test]
    fn everything_from_outside_is_escaped() {
        let payload = "<i>&\"'</i>";
        let hostile = HomeRoute {
            name: payload,
            domain: payload,
            repository: payload,
            is_default: false,
            publishing: Publishing::Token,
            is_gated: false,
        };
        let page = home(&HomeModel { base: payload, routes: vec![hostile], has_projects: true });
        assert!(!page.contains("<i>") && !page.contains("</i>") && !page.contains("&\"'"));
        assert!(page.contains("<h2>&lt;i&gt;&amp;&quot;'&lt;/i&gt;</h2>"));
    }

    #[test]
    fn the_default_route_comes_first_and_has_the_short_address() {
        let routes = vec![route("tools", false, Publishing::Off), route("pypi", true, Publishing::Off)];
        let page = render("https://pypi.example.org", routes);
        let short = page
            .find("index-url = https://pypi.example.org/simple/\n")
            .or_else(|| page.find("index-url = https://pypi.example.org/simple/</pre>"));
        let long = page.find("index-url = https://pypi.example.org/pypi/tools/simple/</pre>");
        assert!(short.is_some() && short < long, "{short:?} {long:?}");
        assert_eq!(page.matches("<details class=\"route\" open>").count(), 1);
        assert!(!page.contains("trusted-host") && !page.contains("twine upload"));
    }

    #[test]
    fn only_unencrypted_foreign_hosts_need_trust() {
        let trusted = |base| render(base, vec![route("pypi", true, Publishing::Off)]).contains("trusted-host");
        assert!(trusted("http://wheelport:8080"));
        assert!(trusted("http://10.0.0.1"));
        for base in ["https://wheelport", "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            assert!(!trusted(base), "{base}");
        }
    }

    #[test]
    fn no_tool_is_given_a_name_that_means_another_index() {
        let routes = vec![route("pypi", true, Publishing::Anonymous), route("pypi", false, Publishing::Anonymous)];
        let page = render("https://packages.example.org", routes);
        // PDM's built-in source goes by this name, and the entry is there to replace it.
        assert_eq!(page.matches("name = &quot;pypi&quot;").count(), page.matches("[[tool.pdm.source]]").count());
        assert!(!page.contains("-r pypi"));
        assert!(page.contains("-r wheelport<"));
        assert!(page.contains("-r wheelport-pypi<"));
    }

    #[test]
    fn of_a_route_that_needs_an_identity_only_the_name_is_shown() {
        let gated = HomeRoute { is_gated: true, ..route("tools", true, Publishing::Token) };
        let page = render("http://localhost", vec![gated]);
        assert!(page.contains("<h2>tools</h2>"));
        assert!(!["acme", "python</b>", "/simple/", "publish"].iter().any(|part| page.contains(part)), "{page}");
    }

    #[test]
    fn publishing_is_shown_as_the_route_allows_it() {
        let anonymous = render("http://localhost", vec![route("pypi", true, Publishing::Anonymous)]);
        assert!(anonymous.contains("uv publish --publish-url http://localhost/pypi/pypi/ -u '' -p ''"));
        let token = render("http://localhost", vec![route("pypi", true, Publishing::Token)]);
        assert!(token.contains("-u __token__ -p &quot;$TOKEN&quot; dist/*"));
    }

    #[test]
    fn projects_are_linked_where_they_have_pages() {
        let routes = || vec![route("pypi", true, Publishing::Off), route("tools", false, Publishing::Off)];
        let page = render("http://localhost", routes());
        for link in ["href=\"projects/\"", "href=\"pypi/pypi/projects/\"", "href=\"pypi/tools/projects/\""] {
            assert!(page.contains(link), "{link}");
        }
        let without = home(&HomeModel { base: "http://localhost", routes: routes(), has_projects: false });
        assert!(!without.contains("projects/"));
    }
}
