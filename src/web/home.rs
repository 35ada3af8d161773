//! The start page: what this server is, and how to point each tool at it, ready to copy.
//!
//! One page without script, image, font or network; a reader's theme decides between light and dark. Unlike the pages
//! of the index it holds absolute addresses, because that is what configuration files need: those of the public URL,
//! or of the host the reader came by, which the guard has let through.

use std::fmt::Write as _;

use http::header::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::Site;
use super::context::RequestContext;
use super::document::Document;
use super::guard::{self, Host, ReadPolicy, UploadPolicy};
use super::representation::Representation;
use super::written::Written;
use wheelport_index::render::Escaped;

/// The `Content-Security-Policy` of this page: its own style sheet, by digest, and nothing else.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-gLtJXSOfJSPcmlymt9ae5oO5AggOeJbrqs+chZ0lcYU='; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What the page says.
#[derive(Debug, Clone)]
struct HomeModel<'a> {
    /// This program's version.
    pub version: &'a str,
    /// Scheme, host and path prefix, without a final slash; see [`configured_base`].
    pub base: &'a str,
    /// The routes, in the order of the configuration.
    pub routes: Vec<HomeRoute<'a>>,
}

/// One route of the page.
#[derive(Debug, Clone)]
struct HomeRoute<'a> {
    /// Its name.
    pub name: &'a str,
    /// The CodeArtifact domain behind it.
    pub domain: &'a str,
    /// The CodeArtifact repository behind it.
    pub repository: &'a str,
    /// Whether it also answers without its name.
    pub default: bool,
    /// Who may publish.
    pub upload: UploadPolicy,
    /// Who may read.
    pub read: ReadPolicy,
}

/// The start page of a site.
pub(super) fn document(site: &Site, context: &RequestContext, host: &Host) -> Document {
    let base = base_url(site, context, host);
    let default = site.names.default_route().ok();
    let model = HomeModel {
        version: env!("CARGO_PKG_VERSION"),
        base: &base,
        routes: site
            .routes
            .iter()
            .enumerate()
            .map(|(position, route)| HomeRoute {
                name: &route.route.name,
                domain: &route.domain,
                repository: &route.repository,
                default: default.is_some_and(|default| default.0 == position),
                upload: route.upload,
                read: route.read,
            })
            .collect(),
    };
    let html = page(&model);
    let representation = Representation::unstored(HeaderValue::from_static("text/html; charset=utf-8"), html.len())
        .with(http::header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    Document::new(representation, Written::of(html))
}

/// The address under which this client reaches the server; index pages never use it.
pub(super) fn base_url(site: &Site, context: &RequestContext, host: &Host) -> String {
    let scheme = if context.is_encrypted {
        "https"
    } else {
        guard::client_scheme(context.peer, &context.headers, &site.trusted_proxies)
    };
    configured_base(site.public_url.as_ref(), scheme, host)
}

/// The address that configuration should use: the public URL, or the one the reader came by.
fn configured_base(public_url: Option<&Url>, scheme: &str, host: &Host) -> String {
    public_url
        .map_or_else(|| format!("{scheme}://{}", host.authority()), |url| url.as_str().trim_end_matches('/').to_owned())
}

/// Writes the page.
fn page(model: &HomeModel<'_>) -> String {
    let mut page = String::with_capacity(8 * 1024);
    page.push_str(concat!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Wheelport</title>\n",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>"
    ));
    page.push_str(STYLE);
    page.push_str(INTRODUCTION);
    // The default route first, and open; a reader who opens another one knows why.
    let (default, others): (Vec<_>, Vec<_>) = model.routes.iter().partition(|route| route.default);
    for (position, route) in default.into_iter().chain(others).enumerate() {
        section(&mut page, model.base, route, position == 0);
    }
    if model.routes.is_empty() {
        page.push_str("<p>No route is configured.</p>\n");
    }
    page.push_str("</main>\n<footer>Wheelport ");
    page.push_str(&escape(model.version));
    page.push_str("</footer>\n</body>\n</html>\n");
    page
}

fn section(page: &mut String, base: &str, route: &HomeRoute<'_>, open: bool) {
    if route.read == ReadPolicy::Identity {
        return put(
            page,
            format_args!(
                "<details class=\"route\">\n<summary><h2>{}</h2></summary>\n<p>This route is read with an \
                 identity; its operators say how.</p>\n</details>\n",
                escape(route.name)
            ),
        );
    }
    let tools = Tools::new(base, route);
    let open = if open { " open" } else { "" };
    let default = if route.default { " <span class=\"mark\">default</span>" } else { "" };
    put(
        page,
        format_args!(
            "<details class=\"route\"{open}>\n<summary><h2>{}</h2>{default}</summary>\n<p>CodeArtifact domain \
             <b>{}</b>, repository <b>{}</b>. Index URL:</p>\n<pre class=\"address\">{}</pre>\n",
            escape(route.name),
            escape(route.domain),
            escape(route.repository),
            escape(&tools.index),
        ),
    );
    page.push_str("<h3>Install</h3>\n<div class=\"cards\">\n");
    for (title, place, text) in tools.install() {
        card(page, title, place, &text);
    }
    page.push_str("</div>\n<h3>Publish</h3>\n");
    match route.upload {
        UploadPolicy::Off => page.push_str("<p>Publishing through this route is off.</p>\n"),
        UploadPolicy::Anonymous => page.push_str("<p>No credentials are needed.</p>\n"),
        UploadPolicy::Token | UploadPolicy::Identity => {
            page.push_str("<p>Put your token into the variable <code>TOKEN</code>.</p>\n");
        }
    }
    if route.upload != UploadPolicy::Off {
        page.push_str("<div class=\"cards\">\n");
        for (title, place, text) in tools.publish(matches!(route.upload, UploadPolicy::Token | UploadPolicy::Identity))
        {
            card(page, title, place, &text);
        }
        page.push_str("</div>\n");
    }
    page.push_str("</details>\n");
}

fn card(page: &mut String, title: &str, place: &str, text: &str) {
    put(
        page,
        format_args!(
            "<section><h4>{} <small>{}</small></h4>\n<pre tabindex=\"0\">{}</pre></section>\n",
            escape(title),
            escape(place),
            escape(text)
        ),
    );
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

/// Title, where the text belongs, and the text.
type Card = (&'static str, &'static str, String);

/// What the tools of one route need to be told.
struct Tools {
    /// What the tools call this index. Never the route's bare name: tools give names such as `pypi` a meaning of
    /// their own, and a publishing command must not end up elsewhere.
    name: String,
    index: String,
    upload: String,
    publishing: UploadPolicy,
    /// The host, where pip has to be told to trust it because it is neither encrypted nor this machine.
    plain_host: Option<String>,
}

impl Tools {
    fn new(base: &str, route: &HomeRoute<'_>) -> Self {
        let segment = utf8_percent_encode(route.name, SEGMENT).to_string();
        let upload = format!("{base}/pypi/{segment}/");
        let (name, index) = if route.default {
            ("wheelport".to_owned(), format!("{base}/simple/"))
        } else {
            (format!("wheelport-{segment}"), format!("{base}/pypi/{segment}/simple/"))
        };
        let encrypted = base.starts_with("https:");
        let plain_host = Url::parse(base).ok().filter(|_| !encrypted).and_then(|url| match url.host()? {
            url::Host::Domain(host) => (host != "localhost" && !host.ends_with(".localhost")).then(|| host.to_owned()),
            url::Host::Ipv4(address) => (!address.is_loopback()).then(|| address.to_string()),
            url::Host::Ipv6(address) => (!address.is_loopback()).then(|| format!("[{address}]")),
        });
        Self { name, index, upload, publishing: route.upload, plain_host }
    }

    fn install(&self) -> [Card; 7] {
        let Self { name, index, .. } = self;
        let publish = match self.publishing {
            UploadPolicy::Off => String::new(),
            _ => format!("publish-url = \"{}\"\n", self.upload),
        };
        // For both tools this setting is also how one says that an unencrypted host may be used.
        let verify = self.plain_host.is_none();
        let trusted =
            |prefix: &str| self.plain_host.as_ref().map_or_else(String::new, |host| format!("\n{prefix}{host}"));
        let docker_trusted = trusted("    PIP_TRUSTED_HOST=");
        let docker_continued = if docker_trusted.is_empty() { "" } else { " \\" };
        [
            ("pip", "pip.conf", format!("[global]\nindex-url = {index}{}", trusted("trusted-host = "))),
            (
                "pip, uv",
                "environment",
                format!(
                    "export PIP_INDEX_URL={index}\nexport UV_DEFAULT_INDEX={index}{}",
                    trusted("export PIP_TRUSTED_HOST=")
                ),
            ),
            (
                "uv",
                "pyproject.toml",
                format!("[[tool.uv.index]]\nname = \"{name}\"\nurl = \"{index}\"\n{publish}default = true"),
            ),
            (
                "Poetry",
                "pyproject.toml",
                format!("[[tool.poetry.source]]\nname = \"{name}\"\nurl = \"{index}\"\npriority = \"primary\""),
            ),
            (
                "PDM",
                "pyproject.toml",
                // The name replaces the tool's built-in source; any other would be a second index.
                format!("[[tool.pdm.source]]\nname = \"pypi\"\nurl = \"{index}\"\nverify_ssl = {verify}"),
            ),
            ("Pipenv", "Pipfile", format!("[[source]]\nname = \"{name}\"\nurl = \"{index}\"\nverify_ssl = {verify}")),
            (
                "Container image",
                "Dockerfile",
                format!("ENV PIP_INDEX_URL={index} \\\n    UV_DEFAULT_INDEX={index}{docker_continued}{docker_trusted}"),
            ),
        ]
    }

    fn publish(&self, token: bool) -> [Card; 3] {
        let Self { name, upload, .. } = self;
        let (uv, twine, poetry) = if token {
            (
                "--token \"$TOKEN\"",
                "-u __token__ -p \"$TOKEN\"",
                format!("\npoetry config http-basic.{name} __token__ \"$TOKEN\""),
            )
        } else {
            ("-u '' -p ''", "-u '' -p ''", String::new())
        };
        [
            ("uv", "shell", format!("uv publish --publish-url {upload} {uv}")),
            ("twine", "shell", format!("twine upload --repository-url {upload} \\\n    {twine} dist/*")),
            (
                "Poetry",
                "shell",
                format!("poetry config repositories.{name} {upload}{poetry}\npoetry publish --build -r {name}"),
            ),
        ]
    }
}

fn escape(text: &str) -> String {
    Escaped(text).to_string()
}

const INTRODUCTION: &str = "</style>
</head>
<body>
<header>
<h1>Wheelport</h1>
<p>A Python package index in front of AWS CodeArtifact: one address, no credentials, nothing to renew.</p>
</header>
<main>
<p class=\"note\">Make it the <b>only</b> index of a project. With a second one, installers silently take a package from
there whenever this one has no answer. A click into a box selects its text.</p>
";

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fbfaf7; --card: #fff; --ink: #1d2430; --soft: #5b6472; --line: #dedbd2;
  --accent: #0b6e69; --code: #f3f1ea; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --card: #1b2027; --ink: #e6e8ea; --soft: #9aa4b0;
  --line: #2d343d; --accent: #5cc8bf; --code: #11151a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem; max-width: 68rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { margin: 0; font-size: 2.2rem; letter-spacing: -.02em; color: var(--accent); }
header p { margin: .3rem 0 1.5rem; font-size: 1.1rem; color: var(--soft); }
h2 { display: inline; font-size: 1.25rem; }
h3 { margin: 1.5rem 0 .6rem; font-size: 1rem; }
h4 { margin: 0 0 .4rem; font-size: .95rem; }
small, footer { color: var(--soft); font-weight: normal; }
pre { margin: 0; padding: .7rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .4rem;
  background: var(--code);
  font: .84rem/1.5 ui-monospace, monospace; -webkit-user-select: all; user-select: all; }
pre:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); }
.note { padding: .7rem 1rem; border-left: .25rem solid var(--accent); background: var(--card); }
.route { margin: 1.25rem 0; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .7rem;
  background: var(--card); }
summary { cursor: pointer; }
.mark { margin-left: .4rem; padding: .1rem .5rem; border-radius: 1rem; background: var(--accent); color: var(--card);
  font-size: .78rem; }
.address { font-size: .95rem; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.cards section { min-width: 0; }
footer { margin-top: 2rem; font-size: .85rem; }
";

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use sha2::{Digest, Sha256};

    use super::super::guard::HostPolicy;
    use super::*;

    fn route(name: &str, default: bool, upload: UploadPolicy) -> HomeRoute<'_> {
        HomeRoute { name, domain: "acme", repository: "python", default, upload, read: ReadPolicy::Open }
    }

    fn render(base: &str, routes: Vec<HomeRoute<'_>>) -> String {
        page(&HomeModel { version: "0.1.0", base, routes })
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().chain(&[0, 0]).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
            for place in 0..4 {
                let letter = char::from(ALPHABET[word >> (18 - 6 * place) & 63]);
                text.push(if place > chunk.len() { '=' } else { letter });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_exactly_this_style() {
        let digest = base64(&Sha256::digest(STYLE));
        let policy = CONTENT_SECURITY_POLICY;
        let policy = policy.to_str().expect("ASCII");
        assert!(policy.contains(&format!("style-src 'sha256-{digest}';")), "the style's digest is {digest}");
        assert!(render("http://localhost", Vec::new()).contains(&format!("<style>{STYLE}</style>")));
    }

    #[test]
    fn the_page_needs_no_script_and_no_network() {
        let page = render("https://pypi.example.org", vec![route("pypi", true, UploadPolicy::Anonymous)]);
        for needless in ["<script", "src=", "href=", "@import", "url(", " style=", " onclick"] {
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
            default: false,
            upload: UploadPolicy::Token,
            read: ReadPolicy::Open,
        };
        let page = page(&HomeModel { version: payload, base: payload, routes: vec![hostile] });
        assert!(!page.contains("<i>") && !page.contains("</i>") && !page.contains("&\"'"));
        assert!(page.contains("<h2>&lt;i&gt;&amp;&quot;&#39;&lt;/i&gt;</h2>"));
    }

    #[test]
    fn the_default_route_comes_first_and_has_the_short_address() {
        let routes = vec![route("tools", false, UploadPolicy::Off), route("pypi", true, UploadPolicy::Off)];
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
        let trusted = |base| render(base, vec![route("pypi", true, UploadPolicy::Off)]).contains("trusted-host");
        assert!(trusted("http://wheelport:8080"));
        assert!(trusted("http://10.0.0.1"));
        for base in ["https://wheelport", "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            assert!(!trusted(base), "{base}");
        }
    }

    #[test]
    fn no_tool_is_given_a_name_that_means_another_index() {
        let routes = vec![route("pypi", true, UploadPolicy::Anonymous), route("pypi", false, UploadPolicy::Anonymous)];
        let page = render("https://packages.example.org", routes);
        // PDM's built-in source goes by this name, and the entry is there to replace it.
        assert_eq!(page.matches("name = &quot;pypi&quot;").count(), page.matches("[[tool.pdm.source]]").count());
        assert!(!page.contains("-r pypi"));
        assert!(page.contains("-r wheelport<"));
        assert!(page.contains("-r wheelport-pypi<"));
    }

    #[test]
    fn of_a_route_that_needs_an_identity_only_the_name_is_shown() {
        let gated = HomeRoute { read: ReadPolicy::Identity, ..route("tools", true, UploadPolicy::Identity) };
        let page = render("http://localhost", vec![gated]);
        assert!(page.contains("<h2>tools</h2>"));
        assert!(!["acme", "python</b>", "/simple/", "publish"].iter().any(|part| page.contains(part)), "{page}");
    }

    #[test]
    fn publishing_is_shown_as_the_route_allows_it() {
        let anonymous = render("http://localhost", vec![route("pypi", true, UploadPolicy::Anonymous)]);
        assert!(anonymous.contains("uv publish --publish-url http://localhost/pypi/pypi/ -u &#39;&#39; -p &#39;&#39;"));
        let token = render("http://localhost", vec![route("pypi", true, UploadPolicy::Token)]);
        assert!(token.contains("-u __token__ -p &quot;$TOKEN&quot; dist/*"));
    }

    #[test]
    fn the_base_is_the_public_url_or_the_host_that_was_asked() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::HOST, HeaderValue::from_static("LOCALHOST:8080"));
        let host = HostPolicy::default().check(&headers, None).expect("our host");
        assert_eq!(configured_base(None, "http", &host), "http://localhost:8080");
        let public = Url::parse("https://packages.example.org/python/").expect("a URL");
        assert_eq!(configured_base(Some(&public), "http", &host), "https://packages.example.org/python");
    }
}
