//! Changes and look-ups of tokens and of principals with temporary keys.

use std::time::Duration;

use super::base::Store;
use super::error::StoreError;
use super::keys::DomainKey;
use super::model::AllowedActions;
use super::principals::Principal;
use super::tokens::{IssuedToken, NewToken, TokenVerdict};

impl Store {
    /// Issues a token for a domain; the caller checks that the domain exists and that the lifetime is allowed.
    pub(crate) async fn issue_token(
        &self,
        domain: DomainKey,
        principal: String,
        allowed: AllowedActions,
        lifetime: Duration,
    ) -> Result<IssuedToken, StoreError> {
        self.exclusively(move |store| {
            let new = NewToken { domain, principal, allowed, lifetime };
            let (issued, change) = store.inner.tokens.issue(&store.inner.layout, new, store.unix_seconds());
            change.apply()?;
            Ok(issued)
        })
        .await
    }

    /// Whether a token text is valid by the store's clock.
    pub(crate) fn verify_token(&self, text: &str) -> TokenVerdict {
        self.inner.tokens.verify(text, self.unix_seconds())
    }

    /// Makes every token issued so far unknown, as if the rights of its principal were withdrawn.
    pub(crate) async fn revoke_tokens(&self) -> Result<(), StoreError> {
        self.exclusively(|store| store.inner.tokens.revoke_all(&store.inner.layout).apply()).await
    }

    /// Adds a principal, or replaces the one with the same access key.
    pub(crate) async fn put_principal(&self, new: Principal) -> Result<(), StoreError> {
        self.exclusively(move |store| {
            store.inner.principals.put(&store.inner.layout, &new, store.unix_seconds()).apply()
        })
        .await
    }

    /// The principal with this access key. The caller checks whether temporary credentials have expired.
    pub(crate) fn principal(&self, access_key_id: &str) -> Option<Principal> {
        self.inner.principals.get(access_key_id)
    }
}
