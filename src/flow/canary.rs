//! Settling a 404: by what other requests have shown meanwhile, or by asking for a project that is known to exist.
//!
//! ```text
//! 404 ─► a success since, same token? ─yes─► absent
//!          │ no
//!          ▼ one canary at a time, one a second
//!        there ─► absent     missing ─► the next canary     none left ─► outage: new token, then the request again
//! ```
//!
//! One canary settles every 404 that arrived before it was asked. The decisions are in `absence`.

use std::time::Duration;

use tokio::time::Instant;

use super::absence::{Absence, Judgement};
use super::error::{Cause, Error};
use super::route::Route;
use crate::upstream::Witness;
use wheelport_index::ProjectName;
use wheelport_runtime::sabotaged;

/// Canaries asked before everything counts as missing.
const CANARIES: usize = 3;
/// How long a request with a 404 waits for a new token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(4);

/// What a 404 means for the request that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What was requested does not exist.
    Absent,
    /// The request has to be repeated, with the newer token that there is by now.
    Outdated,
    /// Nothing is known about what was requested.
    Doubt(Cause),
}

/// Why there is no page.
#[derive(Debug, Clone)]
pub(super) enum AskError {
    /// 404; what it means has to be settled.
    Missing(Witness),
    /// Upstream could not be asked, or its reply is of no use; with what happened, for the log.
    Failed(Error, String),
}

/// Settles a 404. `canaries` finds projects known to exist, and `ask` requests the page of one and notes a success.
pub(super) async fn settle<A>(
    route: &Route,
    missing: &Witness,
    canaries: impl Future<Output = Vec<ProjectName>>,
    ask: impl Fn(ProjectName) -> A,
) -> Verdict
where
    A: Future<Output = Result<(), AskError>>,
{
    let judgement = match route.standing.judge(missing) {
        Judgement::Open => ask_canaries(route, missing, canaries, ask).await,
        settled => settled,
    };
    match judgement {
        Judgement::Absent => Verdict::Absent,
        Judgement::Outdated => Verdict::Outdated,
        Judgement::OldToken => {
            route.token.reject(missing.generation);
            newer_token(route, missing, Cause::Token).await
        }
        Judgement::Doubt if route.standing.needs_new_token(missing) => {
            newer_token(route, missing, Cause::Unproven).await
        }
        Judgement::Open | Judgement::Doubt => Verdict::Doubt(Cause::Unproven),
    }
}

async fn ask_canaries<A>(
    route: &Route,
    missing: &Witness,
    canaries: impl Future<Output = Vec<ProjectName>>,
    ask: impl Fn(ProjectName) -> A,
) -> Judgement
where
    A: Future<Output = Result<(), AskError>>,
{
    let standing = &route.standing;
    let mut turn = standing.canary_turn().await;
    // The canary of another request may have settled this one too.
    let settled = standing.judge(missing);
    if settled != Judgement::Open && !sabotaged("shared-canary") {
        return settled;
    }
    let canaries = canaries.await;
    if canaries.is_empty() || sabotaged("canary") {
        return Absence::judge_without_canary(missing);
    }
    // During an outage one is enough to see whether it is over.
    let count = if standing.is_outage() || sabotaged("three-canaries") { 1 } else { CANARIES };
    let (mut began, mut last) = (None, None);
    for canary in canaries.into_iter().take(count) {
        let now = turn.next().await;
        let settled = standing.judge(missing);
        if settled != Judgement::Open && !sabotaged("shared-canary") {
            return settled;
        }
        let began = *began.get_or_insert(now);
        tracing::debug!(route = %route.name, %canary, "asking whether upstream still knows a project");
        match ask(canary).await {
            Err(AskError::Missing(witness)) => last = Some((began, witness)),
            Ok(()) if standing.judge(missing) != Judgement::Open => return standing.judge(missing),
            // A page that another host sent says nothing of the token.
            Ok(()) | Err(AskError::Failed(..)) => {
                standing.canaries_failed(began);
                return Judgement::Doubt;
            }
        }
    }
    if let Some((began, witness)) = last
        && standing.canaries_missing(began, &witness)
    {
        tracing::error!(
            route = %route.name,
            "upstream says of known projects, too, that they do not exist; its 404s are not believed until one is back"
        );
        route.token.reject(witness.generation);
    }
    standing.judge(missing)
}

/// Waits for a token newer than the one in doubt.
async fn newer_token(route: &Route, missing: &Witness, cause: Cause) -> Verdict {
    match route.token.newer_than(missing.generation, Instant::now() + TOKEN_TIMEOUT).await {
        Ok(_) => Verdict::Outdated,
        Err(_) => Verdict::Doubt(cause),
    }
}
