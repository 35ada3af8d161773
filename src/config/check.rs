//! Whether settings that are valid one by one fit together.

use std::time::Duration;

use super::error::ConfigError;
use super::settings::{RouteSettings, Settings};
use crate::fleet::FleetSettings;
use crate::identity::IdentityRules;
use crate::web::{ReadPolicy, UploadPolicy};
use wheelport_runtime::{Size, sabotaged};

const SMALLEST_CACHE: Size = Size::mib(64);
/// Even where events tell of changes, a page is asked for again after that time.
const LONGEST_FRESH_INTERNAL: Duration = Duration::from_hours(1);
const LONGEST_STALE: Duration = Duration::from_hours(24 * 7);
/// An export is tens of megabytes; nothing is gained by asking more often.
const SHORTEST_REFRESH: Duration = Duration::from_mins(1);

pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    match complaint(settings) {
        Some(text) => Err(ConfigError::Inconsistent(text)),
        None => Ok(()),
    }
}

fn complaint(settings: &Settings) -> Option<String> {
    let Settings { routes, identities, cache, .. } = settings;
    if let Some(text) = unknown_to_all(routes, identities) {
        return Some(text);
    }
    if identities.has_certificates() && settings.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
        return Some(
            "an [[identity]] has a client_certificate, but nothing says which are believed; name the authorities in \
             [server.tls] client_ca"
                .to_owned(),
        );
    }
    if let Some(text) = exposed_to_uploads(settings).or_else(|| nameless_among_replicas(settings)) {
        return Some(text);
    }
    let idle = |route: &&RouteSettings| route.publish_aws.is_some() && route.upload == UploadPolicy::Off;
    if let Some(route) = routes.iter().find(idle) {
        return Some(format!("route `{}`: publish_role_arn is of no use as long as upload is \"off\"", route.name));
    }
    if cache.max_size < SMALLEST_CACHE {
        return Some(format!("[cache] max_size = {}: a useful cache has at least {SMALLEST_CACHE}", cache.max_size));
    }
    if let Some(name) = without_time(settings).or_else(|| settings.upload.zero()) {
        return Some(format!("{name} may not be zero, which would let nothing through; leave it out for the default"));
    }
    if cache.stale_if_error.get() > LONGEST_STALE {
        return Some("[cache] stale_if_error may be at most 7d".to_owned());
    }
    let advisories = &settings.advisories;
    if advisories.refresh.get() < SHORTEST_REFRESH || advisories.timeout.get() < SHORTEST_REFRESH {
        return Some("[advisories] refresh and timeout are at least 1m".to_owned());
    }
    if let Some(fresh_for) = cache.fresh_for_internal {
        if fresh_for.get() > LONGEST_FRESH_INTERNAL {
            return Some("[cache] fresh_for_internal may be at most 1h".to_owned());
        }
        let FleetSettings { events, events_own, redis, .. } = &settings.fleet;
        if events.is_none() {
            return Some("[cache] fresh_for_internal needs CodeArtifact's events: set [fleet] events".to_owned());
        }
        if redis.is_none() && !events_own {
            return Some(
                "[cache] fresh_for_internal needs [fleet] redis, or a queue that no other replica reads: then set \
                 [fleet] events_own = true"
                    .to_owned(),
            );
        }
    }
    settings.usage.fault().map(str::to_owned)
}

/// A limit of time in which nothing can be done. Some write a zero where they mean none.
fn without_time(settings: &Settings) -> Option<&'static str> {
    let Settings { server, upstream, fleet, .. } = settings;
    let limits = [
        ("[server] idle_timeout", server.idle_timeout),
        ("[server] header_timeout", server.header_timeout),
        ("[server] write_timeout", server.write_timeout),
        ("[upstream] connect_timeout", upstream.connect_timeout),
        ("[upstream] header_timeout", upstream.header_timeout),
        ("[upstream] response_timeout", upstream.response_timeout),
        ("[upstream] stall_timeout", upstream.stall_timeout),
        ("[upstream] publish_timeout", upstream.publish_timeout),
        ("[fleet] store_timeout", fleet.store_timeout),
        ("[fleet] redis_timeout", fleet.redis_timeout),
    ];
    let found = limits.into_iter().find(|(_, limit)| limit.get().is_zero() && !sabotaged("zero-limits"));
    found.map(|(name, _)| name)
}

/// A route that is for known identities needs one, and identities need routes that are there.
fn unknown_to_all(routes: &[RouteSettings], identities: &IdentityRules) -> Option<String> {
    for route in routes {
        let name = &route.name;
        if route.upload == UploadPolicy::Token && !identities.has_token_for(name) {
            return Some(format!(
                "route `{name}`: upload = \"token\" needs a [[publisher]] with a name and the SHA-256 of its token; \
                 make one with: openssl rand -hex 32 | tee token | tr -d '\\n' | sha256sum"
            ));
        }
        if route.upload == UploadPolicy::Identity && !identities.can_anyone_publish_through(name) {
            return Some(format!(
                "route `{name}`: upload = \"identity\" needs an [[identity]] with publish = [\"{name}\"], of an \
                 [[issuer]], with a token_sha256 or with a client_certificate"
            ));
        }
        if route.read == ReadPolicy::Identity && !identities.can_anyone_read(name) {
            return Some(format!(
                "route `{name}`: read = \"identity\" needs an [[identity]] or a [[publisher]] with read = [\"{name}\"]"
            ));
        }
    }
    let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    let unknown = identities.unknown_route(&names)?;
    Some(format!("an [[identity]] or a [[publisher]] names the route `{unknown}`, which is not configured"))
}

/// What replicas share is named by the account, so that domains of the same name in two accounts are told apart.
fn nameless_among_replicas(settings: &Settings) -> Option<String> {
    let FleetSettings { store, redis, .. } = &settings.fleet;
    let part = if store.is_some() { "store" } else { "redis" };
    let is_sharing = (store.is_some() || redis.is_some()) && !sabotaged("shared-account");
    let route = settings.routes.iter().find(|route| is_sharing && route.domain_owner.is_none())?;
    Some(format!(
        "route `{}`: [fleet] {part} needs domain_owner, the account of twelve digits that owns the domain `{}`: what \
         replicas share is told apart by it; `aws codeartifact list-domains` shows it",
        route.name, route.domain
    ))
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
