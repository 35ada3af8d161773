//! Where rules meet pages and files: gathers the facts, asks for the decision, and keeps what came of it for a page
//! until the rules change or a moment comes at which a decision changes by itself.
//!
//! Everything that is shown of a page and every way to a file goes through here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;

use super::asked_facts::AskedFacts;
use super::error::{BlockedFile, Error};
use super::file_report::FileReport;
use super::index_cache::IndexView;
use super::intake::Intake;
use super::origins::{Origins, ProjectOrigins};
use super::page_facts::{PageFacts, proves_intake, uploaded};
use super::shown::{FileRuling, PageView, Rulings, ShownPage};
use super::{Lookup, Route};
use crate::advisories::AdvisoryKind;
use crate::cache::{Blobs, KnownSince, MetadataStore, PageContent};
use crate::policy::{FileFacts, Moment, NamedVersions, PolicyHandle, ProjectRules, RuleSet, Ruling};
use wheelport_index::{File, FileAddress, FileName, ProjectName, Sha256};
use wheelport_runtime::{Joined, SingleFlight, Tasks, Waits, blocking, sabotaged};

/// Rulings for indexes as of a date, in bytes.
const DATED_MEMORY: u64 = 4 << 20;
/// How long a request waits for the rulings of a page.
const TIMEOUT: Duration = Duration::from_secs(12);

/// A route, the date of its index, and what a page holds.
type RulingsKey = (u64, Option<Moment>, u64);
type HeldRulings = moka::sync::Cache<RulingsKey, Arc<Rulings>, RandomState>;

/// Decides about pages and files. Cheap to clone.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) inner: Arc<JudgeInner>,
}

pub(super) struct JudgeInner {
    pub(super) policy: PolicyHandle,
    pub(super) origins: Origins,
    pub(super) intake: Intake,
    metadata: MetadataStore,
    blobs: Blobs,
    held: HeldRulings,
    dated: HeldRulings,
    making: SingleFlight<RulingsKey, Joined<Result<Arc<Rulings>, Error>>>,
    tasks: Tasks,
}

/// What is known without waiting.
pub(super) enum Judged {
    /// There is nothing to decide.
    Free,
    Held(Arc<Rulings>),
    Unknown,
}

impl Judge {
    /// Rulings of `memory` bytes together.
    pub(super) fn new(
        policy: PolicyHandle,
        origins: Origins,
        intake: Intake,
        metadata: MetadataStore,
        blobs: Blobs,
        memory: u64,
        tasks: Tasks,
    ) -> Self {
        let table = |memory| {
            moka::sync::Cache::builder()
                .max_capacity(memory)
                .weigher(|_, rulings: &Arc<Rulings>| rulings.weight())
                .build_with_hasher(RandomState::default())
        };
        let (held, dated) = (table(memory), table(DATED_MEMORY));
        let making = SingleFlight::default();
        let inner = JudgeInner { policy, origins, intake, metadata, blobs, held, dated, making, tasks };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn policy(&self) -> &PolicyHandle {
        &self.inner.policy
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.inner.origins
    }

    /// A page as a route shows it.
    pub(super) fn show(&self, route: &Arc<Route>, page: Lookup<IndexView<PageContent>>) -> Lookup<PageView> {
        let view = |page: IndexView<PageContent>, rulings| PageView {
            shown: ShownPage { content: page.content, rulings },
            fetched: page.fetched,
            served: page.served,
        };
        let (judge, route) = (self.clone(), Arc::clone(route));
        match page {
            Lookup::Hit(page) => match self.look(&route, &page.content) {
                Judged::Free => Lookup::Hit(view(page, None)),
                Judged::Held(rulings) => Lookup::Hit(view(page, Some(rulings))),
                Judged::Unknown => Lookup::miss(async move {
                    let rulings = judge.rulings(&route, &page.content).await?;
                    Ok(view(page, rulings))
                }),
            },
            Lookup::Miss(page) => Lookup::miss(async move {
                let page = page.await?;
                let rulings = judge.rulings(&route, &page.content).await?;
                Ok(view(page, rulings))
            }),
        }
    }

    /// Lets a file be served, or says why it is refused. `content` is what is known of the page of its project.
    pub(super) async fn admit(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        content: Option<&Arc<PageContent>>,
        sha256: Option<Sha256>,
        known_since: Option<KnownSince>,
    ) -> Result<(), Error> {
        if route.as_of.is_none() && self.inner.policy.is_empty() {
            return Ok(());
        }
        let listed = content.and_then(|content| content.file(&address.file));
        if let Some(content) = content.filter(|_| listed.is_some())
            && let Some(rulings) = self.rulings(route, content).await?
        {
            self.apply(route, address, rulings.of(&address.file))?;
        }
        // What the page says of the file is all there is, unless it is asked for elsewhere, or by bytes that the page
        // does not name.
        let is_all = listed.is_some_and(|file| {
            file.version == address.version && (sha256.is_none() || file.hashes.sha256() == sha256)
        });
        if is_all || sabotaged("policy-unlisted") {
            return Ok(());
        }
        let ruling = self.of_address(route, address, listed, sha256, known_since).await?;
        self.apply(route, address, ruling.as_ref())
    }

    /// Whether a rule about this project names digests.
    pub(super) fn needs_digest(&self, route: &Route, project: &ProjectName) -> bool {
        !self.inner.policy.is_empty()
            && self.inner.policy.rules().of_project(&route.name, project).needs_digest()
            && !sabotaged("unjudged-bytes")
    }

    /// Whether a listed file would be served.
    pub(super) async fn serves(&self, route: &Arc<Route>, content: &Arc<PageContent>, file: &FileName) -> bool {
        match self.rulings(route, content).await {
            Ok(Some(rulings)) => matches!(rulings.of(file), None | Some(FileRuling::Audited(_))),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn apply(&self, route: &Route, address: &FileAddress, ruling: Option<&FileRuling>) -> Result<(), Error> {
        match ruling {
            None => Ok(()),
            Some(FileRuling::Later) => {
                Err(Error::NoSuchFile { project: address.project.clone(), file: address.file.clone() })
            }
            Some(FileRuling::Explained(_) | FileRuling::Hidden(_)) if sabotaged("policy-file") => Ok(()),
            Some(FileRuling::Explained(grounds) | FileRuling::Hidden(grounds)) => {
                Err(BlockedFile::error(&route.name, address, grounds))
            }
            Some(FileRuling::Audited(rules)) => {
                for rule in rules {
                    self.inner.policy.counts().audited(rule);
                    tracing::info!(
                        target: super::audit::TARGET,
                        route = %route.name, project = %address.project, version = %address.version,
                        file = %address.file, %rule, "a file is served that a rule looks at"
                    );
                }
                Ok(())
            }
        }
    }

    /// What becomes of a file that is asked for by an address or with bytes of which its page says nothing.
    async fn of_address(
        &self,
        route: &Arc<Route>,
        address: &FileAddress,
        listed: Option<&File>,
        sha256: Option<Sha256>,
        known_since: Option<KnownSince>,
    ) -> Result<Option<FileRuling>, Error> {
        let rules = self.inner.policy.rules();
        let rules = rules.of_project(&route.name, &address.project);
        let origins = self.project_origins(route, &address.project, &rules).await?;
        let named = address.file.version_of(&address.project);
        let versions = NamedVersions::of([address.version.as_str()].into_iter().chain(named));
        // Whoever asks may choose the version in an address.
        let is_certain = versions.are_one() || sabotaged("chosen-version");
        let intake = if is_certain { self.known_intake(route, address, known_since).await } else { None };
        let facts = FileFacts {
            versions: Cow::Owned(versions),
            kind: address.file.kind(),
            origin: origins.filter(|_| is_certain).and_then(|origins| origins.of(&address.version)),
            sha256: sha256.or_else(|| listed?.hashes.sha256()),
            uploaded: listed.and_then(uploaded),
            known_since: known_since.map(|known| Moment(known.at)),
            taken_in: intake,
            came_later: known_since.is_some_and(|known| known.came_later),
            release_began: None,
            licence: None,
        };
        if is_later(route, &facts) {
            return Ok(Some(FileRuling::Later));
        }
        Ok(ruling(&rules, &facts, self.inner.policy.now()).0)
    }

    /// When the repository took the version of a file in, where that is known and says something of the file.
    async fn known_intake(
        &self,
        route: &Route,
        address: &FileAddress,
        known_since: Option<KnownSince>,
    ) -> Option<Moment> {
        known_since.filter(|since| proves_intake(*since))?;
        self.inner.intake.known(&route.key(&address.project)).await.of(&address.version)
    }

    async fn project_origins(
        &self,
        route: &Arc<Route>,
        project: &ProjectName,
        rules: &ProjectRules<'_>,
    ) -> Result<Option<Arc<ProjectOrigins>>, Error> {
        if !rules.needs_origin() {
            return Ok(None);
        }
        self.inner.origins.get(route, project, rules.is_private()).await
    }

    fn table(&self, route: &Route) -> &HeldRulings {
        if route.as_of.is_some() { &self.inner.dated } else { &self.inner.held }
    }

    pub(super) fn look(&self, route: &Route, content: &PageContent) -> Judged {
        if route.as_of.is_none() && self.inner.policy.is_empty() {
            return Judged::Free;
        }
        match self.table(route).get(&(route.id, route.as_of, content.id)) {
            Some(rulings) if self.is_current(&rulings) => Judged::Held(rulings),
            _ => Judged::Unknown,
        }
    }

    /// Whether rulings still hold.
    fn is_current(&self, rulings: &Rulings) -> bool {
        let policy = &self.inner.policy;
        (rulings.revision == policy.revision() || sabotaged("policy-revision"))
            && (rulings.until.is_none_or(|until| policy.now() < until) || sabotaged("policy-next-change"))
    }

    /// The rulings for a page, made if there are none; none where there is nothing to decide.
    async fn rulings(&self, route: &Arc<Route>, content: &Arc<PageContent>) -> Result<Option<Arc<Rulings>>, Error> {
        loop {
            match self.look(route, content) {
                Judged::Free => return Ok(None),
                Judged::Held(rulings) => return Ok(Some(rulings)),
                Judged::Unknown => {}
            }
            let (judge, route, content) = (self.clone(), Arc::clone(route), Arc::clone(content));
            let key = (route.id, route.as_of, content.id);
            let (joined, _) = self.inner.making.run(key, &self.inner.tasks, "apply rules", || async move {
                let rulings = judge.make(&route, &content).await?;
                judge.table(&route).insert(key, Arc::clone(&rulings));
                Ok(rulings)
            });
            let rulings = Waits::note("rules", joined.within(TIMEOUT)).await??;
            // The rules may have changed since the work began that was joined.
            if self.is_current(&rulings) {
                return Ok(Some(rulings));
            }
        }
    }

    async fn make(&self, route: &Arc<Route>, content: &Arc<PageContent>) -> Result<Arc<Rulings>, Error> {
        let rules = self.inner.policy.rules();
        let asked = self.ask(route, content, &rules).await?;
        let (judge, route, content) = (self.clone(), Arc::clone(route), Arc::clone(content));
        let made = blocking(move || {
            let of_project = rules.of_project(&route.name, &content.page.name);
            let (files, until) = judge.judge(&route, &content, &of_project, &asked, judge.inner.policy.now());
            let mut rulings = Rulings::new(&content, files, rules.revision(), route.as_of.is_some());
            rulings.until = until.into_iter().chain(asked.again).min();
            rulings
        });
        Ok(Arc::new(made.await?))
    }

    async fn ask(&self, route: &Arc<Route>, content: &PageContent, rules: &RuleSet) -> Result<AskedFacts, Error> {
        let JudgeInner { policy, origins, intake, .. } = &*self.inner;
        AskedFacts::gather(origins, intake, route, content, rules, policy.now()).await
    }

    /// Decides about all files of a page. Blocking.
    pub(super) fn judge(
        &self,
        route: &Route,
        content: &PageContent,
        rules: &ProjectRules<'_>,
        asked: &AskedFacts,
        now: Moment,
    ) -> (Vec<(FileName, FileRuling)>, Option<Moment>) {
        let (mut files, mut until) = (Vec::new(), None::<Moment>);
        self.facts(route, content, asked).each(rules, |file, facts, rules| {
            if is_later(route, facts) {
                return files.push((file.name.clone(), FileRuling::Later));
            }
            let (ruling, change) = ruling(rules, facts, now);
            until = until.into_iter().chain(change).min();
            files.extend(ruling.map(|ruling| (file.name.clone(), ruling)));
        });
        (files, until)
    }

    fn facts<'a>(&'a self, route: &'a Route, content: &'a PageContent, asked: &'a AskedFacts) -> PageFacts<'a> {
        let (origins, intake) = (asked.origins.as_deref(), asked.intake.as_deref());
        let JudgeInner { metadata, blobs, .. } = &*self.inner;
        PageFacts { route, content, origins, intake, metadata, blobs }
    }

    /// What these rules decide about each file of a page, and why.
    pub(super) async fn report(
        &self,
        route: &Arc<Route>,
        content: &Arc<PageContent>,
        rules: Arc<RuleSet>,
    ) -> Result<Vec<FileReport>, Error> {
        let project = content.page.name.clone();
        let asked = self.ask(route, content, &rules).await?;
        let (judge, route, content) = (self.clone(), Arc::clone(route), Arc::clone(content));
        let reports = blocking(move || {
            let of_project = rules.of_project(&route.name, &project);
            let (now, mut reports) = (judge.inner.policy.now(), Vec::new());
            judge.facts(&route, &content, &asked).each(&of_project, |file, facts, rules| {
                reports.push(FileReport::new(file, facts, rules.decide(facts, now)));
            });
            let about = rules.advisories().of_project(&project);
            let flaws = || about.iter().filter(|advisory| advisory.kind == AdvisoryKind::Vulnerability);
            for report in &mut reports {
                let affecting = flaws().filter(|advisory| advisory.versions.contains_text(&report.version));
                report.vulnerabilities = affecting.map(|advisory| advisory.id.into()).collect();
            }
            reports
        });
        Ok(reports.await?)
    }
}

/// What the rules say, and when they may say something else.
fn ruling(rules: &ProjectRules<'_>, facts: &FileFacts<'_>, now: Moment) -> (Option<FileRuling>, Option<Moment>) {
    let assessment = rules.decide(facts, now);
    let ruling = match assessment.ruling {
        Ruling::Explain(grounds) => Some(FileRuling::Explained(grounds)),
        Ruling::Hide(grounds) => Some(FileRuling::Hidden(grounds)),
        Ruling::Allow if assessment.audited.is_empty() => None,
        Ruling::Allow => Some(FileRuling::Audited(assessment.audited)),
    };
    (ruling, assessment.next_change)
}

/// Whether a file may have come later than the date of the index. What has no date is not proven to have been there.
fn is_later(route: &Route, facts: &FileFacts<'_>) -> bool {
    route.as_of.is_some_and(|as_of| facts.date().is_none_or(|date| date > as_of)) && !sabotaged("as-of")
}
