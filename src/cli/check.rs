//! `wheelport check`, the doctor: walks the way of a request step by step and says what is wrong and what to do.
//!
//! It reads, it never publishes: the only things it creates are the cache directory and, for a moment, a file in it.
//! A step whose ground is missing is skipped, so that the first failure is the one to repair. Each step is a
//! function that returns a [`Finding`]; the order is in [`Doctor::run`].

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use url::Url;

use super::serve::ServeArgs;
use super::{CommandError, Ended};
use crate::config::{RouteSettings, Settings};
use crate::control::{AccountId, AwsSettings, ControlPlane, DomainId, DomainName, RepositoryName};
use crate::upstream::{Client, ClientSettings};
use crate::web::guard::UploadPolicy;
use wheelport_runtime::Clock;

mod aws;
mod directory;
mod profile;
mod profile_files;
mod reach;
mod repository;
#[cfg(test)]
mod tests;

/// Arguments of `check`: those of `serve`, whose way it walks.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// How the report looks
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: Format,
    /// What `serve` would be started with.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Forms of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person.
    Human,
    /// For scripts.
    Json,
}

/// Runs the doctor and prints its report.
pub async fn run(args: CheckArgs) -> Result<Ended, CommandError> {
    #[expect(clippy::disallowed_methods, reason = "looks at what the AWS SDK will read, to explain it")]
    let environment = |name: &str| std::env::var(name).ok();
    let report = match Settings::load(args.serve.overrides()) {
        Ok(settings) => Doctor::new(settings, &environment, Clock::system()).run().await,
        Err(error) => Report::of_bad_configuration(&error.to_string()),
    };
    let text = if args.format == Format::Json { report.json() + "\n" } else { report.human() };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::start)?;
    Ok(if report.ok { Ended::Well } else { Ended::Badly })
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Not looked at, because an earlier step failed.
    Skip,
    /// Works, or cannot be known, but somebody should look.
    Warn,
    /// Does not work.
    Fail,
}

impl Status {
    /// The text in both output formats.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a step found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The step's stable name.
    pub step: &'static str,
    /// The route it is about; `None` for what all routes share.
    pub route: Option<String>,
    /// How it went.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Further lines for those who look closer.
    pub details: Vec<String>,
}

impl Finding {
    fn new(step: &'static str, status: Status, summary: impl Into<String>) -> Self {
        Self { step, route: None, status, summary: summary.into(), remedy: None, details: Vec::new() }
    }

    fn ok(step: &'static str, summary: impl Into<String>) -> Self {
        Self::new(step, Status::Ok, summary)
    }

    fn warn(step: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(step, Status::Warn, summary) }
    }

    fn fail(step: &'static str, summary: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(step, Status::Fail, summary) }
    }

    fn skip(step: &'static str, because: &str) -> Self {
        Self::new(step, Status::Skip, format!("not looked at, because {because}"))
    }

    fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    fn of_route(self, route: &str) -> Self {
        Self { route: Some(route.to_owned()), ..self }
    }
}

/// One route as the doctor needs it.
#[derive(Debug, Clone)]
pub struct CheckTarget {
    /// The route's name.
    pub route: String,
    /// The CodeArtifact domain.
    pub domain: DomainName,
    /// The account that owns it.
    pub owner: Option<AccountId>,
    /// The repository.
    pub repository: RepositoryName,
    /// How to reach AWS, the region included.
    pub aws: AwsSettings,
    /// Uploads are switched on.
    pub upload: bool,
    /// Where the repository answers, if not where CodeArtifact says.
    pub endpoint: Option<Url>,
}

/// The cache directory as the doctor needs it.
#[derive(Debug, Clone)]
pub struct CacheTarget {
    /// The directory.
    pub dir: PathBuf,
    /// What it may hold, in bytes.
    pub max_size: u64,
}

/// Looks up an environment variable; the process edge gives the real one.
pub type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// All that is looked at.
pub struct Doctor<'a> {
    /// The routes, already valid.
    pub targets: Vec<CheckTarget>,
    /// The cache directory.
    pub cache: CacheTarget,
    /// How repositories are reached.
    pub upstream: ClientSettings,
    /// The environment of the process.
    pub environment: Environment<'a>,
    /// Calendar time.
    pub clock: Clock,
}

/// Everything that was found, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nothing failed.
    pub ok: bool,
    /// One per step.
    pub findings: Vec<Finding>,
}

impl From<RouteSettings> for CheckTarget {
    fn from(route: RouteSettings) -> Self {
        Self {
            route: route.name.to_string(),
            domain: route.domain,
            owner: route.domain_owner,
            repository: route.repository,
            aws: route.aws,
            upload: route.upload != UploadPolicy::Off,
            endpoint: route.endpoint,
        }
    }
}

impl<'a> Doctor<'a> {
    /// Looks at what `serve` would use.
    pub fn new(settings: Settings, environment: Environment<'a>, clock: Clock) -> Self {
        Self {
            targets: settings.routes.into_iter().map(CheckTarget::from).collect(),
            cache: CacheTarget { dir: settings.cache_dir, max_size: settings.cache.max_size.0 },
            upstream: settings.upstream,
            environment,
            clock,
        }
    }
    /// All steps, in the order in which a request needs them.
    pub async fn run(&self) -> Report {
        let mut findings = vec![self.configuration()];
        findings.extend(reach::proxy_variables(self.environment, self.upstream.proxy.is_some()));
        let mut seen = HashSet::new();
        for target in &self.targets {
            let control = ControlPlane::connect(&target.aws).await;
            let usable = if seen.insert(&target.aws) {
                let steps = aws::steps(&control, &target.aws, self.environment, &self.clock).await;
                let usable = steps.iter().all(|step| step.status != Status::Fail);
                findings.extend(steps);
                usable
            } else {
                control.credentials().await.is_ok()
            };
            let steps = self.repository_steps(&control, target, usable).await;
            findings.extend(steps.into_iter().map(|step| step.of_route(&target.route)));
        }
        findings.push(directory::step(&self.cache));
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
            return repository::skipped("AWS cannot be asked yet");
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

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        Self { ok: findings.iter().all(|finding| finding.status != Status::Fail), findings }
    }

    /// A report for a configuration that cannot even be read.
    pub fn of_bad_configuration(problem: &str) -> Self {
        let remedy = "correct the setting that is named; the README lists them all";
        Self::new(vec![Finding::fail("configuration", problem, remedy)])
    }

    /// 0 if nothing failed, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }

    /// For a person at a terminal.
    pub fn human(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let route = finding.route.as_ref().map(|route| format!(" [{route}]")).unwrap_or_default();
            let _ = writeln!(text, "{:<4}  {}{route}: {}", finding.status.as_str(), finding.step, finding.summary);
            for detail in &finding.details {
                let _ = writeln!(text, "        {detail}");
            }
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "        -> {remedy}");
            }
        }
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let (failed, warned) = (count(Status::Fail), count(Status::Warn));
        let _ = writeln!(text, "\n{failed} failed, {warned} to look at, {} fine", count(Status::Ok));
        text
    }

    /// For scripts: `{"ok": …, "findings": [{"step", "route", "status", "summary", "remedy", "details"}]}`.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
