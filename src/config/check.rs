//! Whether settings that are valid one by one fit together.

use std::time::Duration;

use super::error::ConfigError;
use super::settings::{RouteSettings, Settings};
use crate::web::UploadPolicy;
use wheelport_runtime::{Size, sabotaged};

const SMALLEST_CACHE: Size = Size::mib(64);
const LONGEST_STALE: Duration = Duration::from_hours(24 * 7);

pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    match complaint(settings) {
        Some(text) => Err(ConfigError::Inconsistent(text)),
        None => Ok(()),
    }
}

fn complaint(settings: &Settings) -> Option<String> {
    let Settings { routes, publishers, cache, .. } = settings;
    let without_publisher =
        |route: &&RouteSettings| route.upload == UploadPolicy::Token && !publishers.has_any_for(&route.name);
    if let Some(route) = routes.iter().find(without_publisher) {
        return Some(format!(
            "route `{}`: upload = \"token\" needs a [[publisher]] with a name and the SHA-256 of its token; make one \
             with: openssl rand -hex 32 | tee token | tr -d '\\n' | sha256sum",
            route.name
        ));
    }
    if let Some(unknown) = publishers.routes().find(|name| routes.iter().all(|route| *route.name != **name)) {
        return Some(format!("a [[publisher]] names the route `{unknown}`, which is not configured"));
    }
    if let Some(text) = exposed_to_uploads(settings) {
        return Some(text);
    }
    let idle = |route: &&RouteSettings| route.publish_aws.is_some() && route.upload == UploadPolicy::Off;
    if let Some(route) = routes.iter().find(idle) {
        return Some(format!("route `{}`: publish_role_arn is of no use as long as upload is \"off\"", route.name));
    }
    if cache.max_size < SMALLEST_CACHE {
        return Some(format!("[cache] max_size = {}: a useful cache has at least {SMALLEST_CACHE}", cache.max_size));
    }
    if cache.stale_if_error.get() > LONGEST_STALE {
        return Some("[cache] stale_if_error may be at most 7d".to_owned());
    }
    None
}

/// Anonymous uploads on an address that others reach take a second word.
fn exposed_to_uploads(settings: &Settings) -> Option<String> {
    let anonymous = settings.routes.iter().find(|route| route.upload == UploadPolicy::Anonymous)?;
    let reachable = settings.listen.iter().find(|address| !address.ip().to_canonical().is_loopback())?;
    (!settings.allow_anonymous_uploads && !sabotaged("second-word")).then(|| {
        format!(
            "route `{}`: with upload = \"anonymous\" on {reachable}, everyone who reaches that address can publish; \
             use upload = \"token\" with a [[publisher]], listen on 127.0.0.1, or, if the network keeps all others \
             out, give --allow-anonymous-uploads (WHEELPORT_ALLOW_ANONYMOUS_UPLOADS=true)",
            anonymous.name
        )
    })
}
