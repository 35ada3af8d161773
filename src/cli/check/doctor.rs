//! The steps in the order in which a request needs them.

use std::collections::HashSet;

use super::certificates::{self, TlsTarget};
use super::report::{Finding, Report, StepStatus};
use super::target::{CacheTarget, CheckTarget, Environment};
use super::{aws, cache_dir, data_plane, repository};
use crate::config::Settings;
use crate::control::{ControlPlane, DomainId};
use crate::upstream::{Client, ClientSettings};
use wheelport_runtime::Clock;

/// Everything that the steps check.
pub(super) struct Doctor<'a> {
    /// The routes, already valid.
    pub(super) targets: Vec<CheckTarget>,
    pub(super) cache: CacheTarget,
    /// Where the listener speaks TLS.
    pub(super) tls: Option<TlsTarget>,
    /// How repositories are reached.
    pub(super) upstream: ClientSettings,
    pub(super) environment: Environment<'a>,
    pub(super) clock: Clock,
}

impl<'a> Doctor<'a> {
    /// A doctor for what `serve` would use.
    pub(super) fn new(settings: Settings, environment: Environment<'a>, clock: Clock) -> Self {
        Self {
            targets: settings.routes.into_iter().map(CheckTarget::from).collect(),
            cache: CacheTarget { dir: settings.cache_dir, max_size: settings.cache.max_size.0 },
            tls: settings.tls.map(|tls| TlsTarget { settings: tls, public_url: settings.server.public_url }),
            upstream: settings.upstream,
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
        findings.extend(self.tls.iter().flat_map(|tls| certificates::steps(tls, &self.clock)));
        findings.push(cache_dir::step(&self.cache));
        Report::new(findings)
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
