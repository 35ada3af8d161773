//! The steps in the order in which a request needs them.

use std::collections::HashSet;
use std::sync::Arc;

use super::certificates::{self, TlsTarget};
use super::report::{Finding, Report, StepStatus};
use super::target::{CacheTarget, CheckTarget, Environment};
use super::{advisories, aws, cache_dir, data_plane, events, hints, identities, repository, store, webhook};
use crate::config::Settings;
use crate::control::{ControlPlane, DomainId};
use crate::fleet::FleetSettings;
use crate::upstream::{Client, ClientSettings};
use wheelport_runtime::Clock;

/// Everything that the steps check.
pub(super) struct Doctor<'a> {
    /// The routes, already valid.
    pub(super) targets: Vec<CheckTarget>,
    pub(super) cache: CacheTarget,
    /// What replicas share.
    pub(super) fleet: FleetSettings,
    /// Where the listener speaks TLS.
    pub(super) tls: Option<TlsTarget>,
    /// How repositories are reached.
    pub(super) upstream: ClientSettings,
    pub(super) environment: Environment<'a>,
    pub(super) clock: Clock,
    /// Everything, for the steps about identities.
    pub(super) settings: Option<Box<Settings>>,
}

impl<'a> Doctor<'a> {
    /// A doctor for what `serve` would use.
    pub(super) fn new(settings: Settings, environment: Environment<'a>, clock: Clock) -> Self {
        let rules = settings.policy.read().ok().map(Arc::new);
        let asks_for_origins = settings.cache.fresh_for_internal.is_some();
        let follows_upstreams = settings.fleet.events.is_some();
        let target = |route| {
            let rules = rules.clone();
            CheckTarget { asks_for_origins, follows_upstreams, rules, ..CheckTarget::from(route) }
        };
        Self {
            settings: Some(Box::new(settings.clone())),
            targets: settings.routes.into_iter().map(target).collect(),
            cache: CacheTarget { dir: settings.cache_dir, max_size: settings.cache.max_size.0 },
            tls: settings.tls.map(|tls| TlsTarget { settings: tls, public_url: settings.server.public_url }),
            upstream: settings.upstream,
            fleet: settings.fleet,
            environment,
            clock,
        }
    }

    /// All steps, in the order in which a request needs them.
    pub(super) async fn run(&self) -> Report {
        let mut findings = vec![self.configuration()];
        findings.extend(data_plane::proxy_variables(self.environment, self.upstream.proxy.is_some()));
        let mut seen = HashSet::new();
        for target in &self.targets {
            let control = ControlPlane::connect(&target.aws).await;
            let usable = if seen.insert(&target.aws) {
                let steps = aws::steps(&control, &target.aws, self.environment, &self.clock).await;
                let usable = steps.iter().all(|step| step.status != StepStatus::Fail);
                findings.extend(steps);
                usable
            } else {
                control.credentials().await.is_ok()
            };
            let steps = self.repository_steps(&control, target, usable).await;
            findings.extend(steps.into_iter().map(|step| step.of_route(&target.route)));
        }
        if let Some(settings) = &self.settings {
            findings.extend(identities::steps(settings, &self.clock).await);
            findings.extend(advisories::step(&settings.advisories, &self.upstream, &self.clock).await);
        }
        findings.extend(self.tls.iter().flat_map(|tls| certificates::steps(tls, &self.clock)));
        findings.push(cache_dir::step(&self.cache));
        let aws = self.targets.first().map(|target| target.aws.clone()).unwrap_or_default();
        if self.fleet.store.is_some() {
            findings.extend(store::steps(&self.fleet, &aws, &self.clock).await);
        }
        findings.extend(self.replicas());
        if let Some(address) = &self.fleet.redis {
            findings.push(hints::step(address, &self.fleet).await);
            findings.extend(hints::without_store(&self.fleet));
        }
        if let Some(queue) = &self.fleet.events {
            findings.extend(events::steps(queue, &aws).await);
        }
        findings.extend(self.notices().await);
        Report::new(findings)
    }

    /// Uploads through replicas that share nothing are lost to the others for a minute.
    fn replicas(&self) -> Option<Finding> {
        let number = self.fleet.replicas.filter(|number| number.get() > 1)?;
        let shares = self.fleet.store.is_some() || self.fleet.redis.is_some();
        if shares || !self.targets.iter().any(|target| target.upload) {
            return Some(Finding::ok("replicas", format!("{number}")));
        }
        Some(Finding::fail(
            "replicas",
            format!(
                "UPLOADS ARE ON, AND {number} REPLICAS SHARE NOTHING: what is published through one cannot be \
                 installed through another for up to a minute"
            ),
            "set `[fleet] store` or `[fleet] redis`, or run one replica",
        ))
    }

    /// Whether notices arrive, where they are sent. A client that cannot be made is a finding of the routes.
    async fn notices(&self) -> Option<Finding> {
        let settings = self.settings.as_ref()?.notify.as_ref()?;
        let client = Client::new(self.upstream.clone()).ok()?;
        Some(webhook::step(settings, &client, &self.clock).await)
    }

    fn configuration(&self) -> Finding {
        let routes = self.targets.iter().map(|target| {
            let upload = if target.upload { ", uploads on" } else { "" };
            format!("route {}: repository {} of domain {}{upload}", target.route, target.repository, target.domain)
        });
        let number = self.targets.len();
        let plural = if number == 1 { "" } else { "s" };
        Finding::ok("configuration", format!("valid, {number} route{plural}")).with_details(routes.collect())
    }

    async fn repository_steps(&self, control: &ControlPlane, target: &CheckTarget, usable: bool) -> Vec<Finding> {
        let region = target.aws.region.clone().or_else(|| control.region());
        let Some(region) = region.filter(|_| usable) else {
            return repository::skipped("no call to AWS is possible yet");
        };
        let domain = DomainId { name: target.domain.clone(), owner: target.owner.clone(), region };
        match Client::new(self.upstream.clone()) {
            Ok(client) => repository::steps(control, &client, target, &domain).await,
            Err(error) => {
                let remedy = "correct the [upstream] table, or install the system's certificate authorities";
                vec![Finding::fail("client", error.to_string(), remedy)]
            }
        }
    }
}
