//! The frame of every page for people: head, style, navigation, footer.
//!
//! A page is one response: style and script are in it, no font, image or other host is asked for. A reader's theme
//! decides between light and dark.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

const STYLE: &str = concat!(include_str!("style.css"), include_str!("operations.css"));
const SCRIPT: &str = include_str!("script.js");

/// The `Content-Security-Policy` of all pages: the style and the script of this file, by digest, forms and requests of
/// the script to this server, and nothing else.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
});

/// What differs from page to page.
pub(crate) struct Frame<'a> {
    /// What the browser's tab says, before the program's name.
    pub(crate) title: &'a str,
    pub(crate) navigation: &'a [NavigationLink<'a>],
    /// All that is between navigation and footer; begins with the page's `h1`.
    pub(crate) main: Markup,
}

/// One link of the navigation.
pub(crate) struct NavigationLink<'a> {
    pub(crate) text: &'a str,
    pub(crate) href: &'a str,
    /// Whether it is the page that is shown.
    pub(crate) is_current: bool,
}

/// The whole document.
pub(crate) fn document(frame: &Frame<'_>) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (frame.title) " · Wheelport" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.bar {
                    span.brand { (mark()) "Wheelport" }
                    nav aria-label="Main" {
                        @for link in frame.navigation {
                            a href=(link.href) aria-current=[link.is_current.then_some("page")] { (link.text) }
                        }
                    }
                }
                main #main { (frame.main) }
                footer { "Wheelport " (env!("CARGO_PKG_VERSION")) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// The sign beside the name: a wheel with its spokes.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true" {
            circle cx="12" cy="12" r="9.5" {}
            circle cx="12" cy="12" r="2.5" {}
            path d="M12 2.5v7M12 14.5v7M3.8 7.2l6 3.5M14.2 13.3l6 3.5M3.8 16.8l6-3.5M14.2 10.7l6-3.5" {}
        }
    }
}

/// The value of the header that belongs to every [`document`].
pub(crate) fn content_security_policy() -> &'static str {
    &CONTENT_SECURITY_POLICY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_holds_is_escaped() {
        let links = [NavigationLink { text: "<b>", href: "\"><script>", is_current: true }];
        let page = document(&Frame { title: "</title>", navigation: &links, main: html! { h1 { "<i>" } } });
        for raw in ["<b>", "\"><script>", "</title> ·", "<i>"] {
            assert!(!page.contains(raw), "{raw} is not escaped: {page}");
        }
    }

    #[test]
    fn the_policy_allows_the_style_and_the_script_of_the_page() {
        let page = document(&Frame { title: "t", navigation: &[], main: html! {} });
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let text = page.split(open).nth(1).and_then(|rest| rest.split(close).next()).expect("the page has it");
            let digest = STANDARD.encode(Sha256::digest(text));
            assert!(content_security_policy().contains(&digest), "{open}");
        }
    }
}
