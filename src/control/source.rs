//! Tokens from `GetAuthorizationToken`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::connect::ControlPlane;
use super::error::{Call, ControlError};
use super::settings::{DomainId, TokenLifetime};
use crate::token::{MintError, MintErrorKind, Minted, TokenSource};

struct AuthorizationSource {
    control: ControlPlane,
    domain: DomainId,
    lifetime: TokenLifetime,
}

impl ControlPlane {
    /// Where the tokens of one domain come from.
    pub(crate) fn token_source(&self, domain: &DomainId, lifetime: TokenLifetime) -> Arc<dyn TokenSource> {
        Arc::new(AuthorizationSource { control: self.clone(), domain: domain.clone(), lifetime })
    }
}

impl TokenSource for AuthorizationSource {
    fn mint(&self) -> BoxFuture<'_, Result<Minted, MintError>> {
        async { self.request().await.map_err(MintError::from) }.boxed()
    }
}

impl AuthorizationSource {
    async fn request(&self) -> Result<Minted, ControlError> {
        let client = self.control.client(&self.domain.region).await;
        let response = client
            .get_authorization_token()
            .domain(self.domain.name.as_str())
            .set_domain_owner(self.domain.owner.as_ref().map(ToString::to_string))
            .duration_seconds(self.lifetime.seconds())
            .send()
            .await
            .map_err(|error| self.control.failed(&error, Call::GetAuthorizationToken, &self.domain.to_string()))?;
        let ends = response.expiration().map(aws_sdk_codeartifact::primitives::DateTime::secs);
        let secret = response.authorization_token.filter(|token| is_header_text(token)).ok_or_else(|| {
            ControlError::new(
                MintErrorKind::Other,
                "CodeArtifact responded without a usable token; is the configured endpoint really CodeArtifact?",
            )
        })?;
        Ok(Minted {
            secret: SecretString::from(secret),
            // By AWS's own clock if its response had a date: ours may be wrong.
            lifetime: lifetime(ends, self.control.skew().aws_now()),
        })
    }
}

/// The life left, or zero if the response makes no sense; the keeper decides what follows from that.
fn lifetime(ends: Option<i64>, now: i64) -> Duration {
    let left = ends.map_or(0, |ends| ends.saturating_sub(now));
    Duration::from_secs(u64::try_from(left).unwrap_or(0))
}

fn is_header_text(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_never_negative() {
        for (ends, expected) in [(Some(1_600), 600), (Some(1_000), 0), (Some(-5), 0), (Some(i64::MIN), 0), (None, 0)] {
            assert_eq!(lifetime(ends, 1_000).as_secs(), expected, "{ends:?}");
        }
    }
}
