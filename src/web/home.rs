//! The start page, and the address under which clients reach this server: that of the public URL, or of the host that
//! the reader came by, which the guard has let through.

use http::header::HeaderValue;
use url::Url;

use super::Site;
use super::context::RequestContext;
use super::document::Document;
use super::guard::{self, Host, ReadPolicy, UploadPolicy};
use super::representation::Representation;
use super::written::Written;
use crate::ui::{self, HomeModel, HomeRoute, Publishing};

/// The start page of a site.
pub(super) fn document(site: &Site, context: &RequestContext, host: &Host) -> Document {
    let base = base_url(site, context, host);
    let default = site.names.default_route().ok();
    let routes = site.routes.iter().enumerate().map(|(position, route)| HomeRoute {
        name: &route.route.name,
        domain: &route.domain,
        repository: &route.repository,
        is_default: default.is_some_and(|default| default.0 == position),
        publishing: match route.upload {
            UploadPolicy::Off => Publishing::Off,
            UploadPolicy::Anonymous => Publishing::Anonymous,
            UploadPolicy::Token | UploadPolicy::Identity => Publishing::Token,
        },
        is_gated: route.read == ReadPolicy::Identity,
    });
    let html = ui::home(&HomeModel { base: &base, routes: routes.collect(), has_projects: site.browsing.is_some() });
    let representation = Representation::unstored(HeaderValue::from_static("text/html; charset=utf-8"), html.len());
    Document::new(representation.for_people(), Written::of(html))
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::guard::HostPolicy;
    use super::*;

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
