//! From a token to an identity: at once for what is known, after a verification for what is not.
//!
//! Static tokens, minted tokens and ID tokens that were verified before are recognised without waiting. Everything else
//! takes a turn, of which there are as many as there are processors to spare, and perhaps the keys of its issuer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::quality::RandomState;
use parking_lot::RwLock;
use secrecy::zeroize::Zeroizing;
use wheelport_index::Sha256;
use wheelport_runtime::{Clock, Tasks, Turns, sabotaged};

use super::burnt::{BurnListener, BurntTokens};
use super::certified::ShownCertificate;
use super::fault::{MintRefusal, NotSettled, TokenFault};
use super::id_token::{IdToken, LONGEST_TOKEN};
use super::key_cache::{FetchDocument, KeyCache, KeyState, NoKey, load};
use super::metrics::IdentityMetrics;
use super::minted::{MintedToken, SigningKeys, TokenId};
use super::rates::{Limited, RateBuckets};
use super::{Identity, IdentityKind, IdentityRules, Issuer};

/// The most verified tokens that are remembered.
const MAX_VERIFIED: u64 = 20_000;
/// Verifications at the same time.
const VERIFICATIONS: usize = 2;

/// Who is known, and everything needed to find out who a client is.
pub struct Identities {
    current: RwLock<Arc<Current>>,
    keys: KeyCache,
    /// By the digest of the token.
    verified: moka::sync::Cache<Sha256, VerifiedToken, RandomState>,
    burnt: BurntTokens,
    turns: Turns,
    rates: RateBuckets,
    fetcher: Arc<dyn FetchDocument>,
    clock: Clock,
    metrics: IdentityMetrics,
}

/// What a reload replaces.
struct Current {
    rules: IdentityRules,
    signing: SigningKeys,
    /// Verdicts of another generation count no more.
    generation: u64,
}

#[derive(Clone)]
struct VerifiedToken {
    identity: Arc<Identity>,
    until: u64,
    generation: u64,
}

/// What a try to have an issuer's keys has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerReport {
    /// Keys that can be used.
    pub keys: usize,
    /// How far this machine's clock is ahead of the issuer's; negative if it is behind.
    pub ahead_seconds: Option<i64>,
    /// How old the file is that the keys come from, if they are not fetched.
    pub age: Option<Duration>,
}

/// What is known of a token without waiting.
pub enum Recognition {
    Known(Arc<Identity>),
    Refused(TokenFault),
    Unsettled(UnsettledToken),
}

/// A token that has to be verified.
pub struct UnsettledToken {
    token: Zeroizing<String>,
    digest: Sha256,
}

impl Identities {
    pub fn new(
        rules: IdentityRules,
        signing: SigningKeys,
        fetcher: Arc<dyn FetchDocument>,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        Self {
            current: RwLock::new(Arc::new(Current { rules, signing, generation: 0 })),
            keys: KeyCache::new(Arc::clone(&fetcher), tasks),
            verified: moka::sync::Cache::builder().max_capacity(MAX_VERIFIED).build_with_hasher(RandomState::default()),
            burnt: BurntTokens::default(),
            turns: Turns::new(VERIFICATIONS),
            rates: RateBuckets::default(),
            fetcher,
            clock,
            metrics: IdentityMetrics::default(),
        }
    }

    pub fn metrics(&self) -> &IdentityMetrics {
        &self.metrics
    }

    /// From now on these are known and no others.
    pub fn replace(&self, rules: IdentityRules, signing: SigningKeys) {
        self.keys.reload(rules.issuers());
        let mut current = self.current.write();
        // A key that was made for this process stays, so that what it signed stays good.
        let signing =
            if signing.is_random() && current.signing.is_random() { current.signing.clone() } else { signing };
        *current = Arc::new(Current { rules, signing, generation: current.generation + 1 });
        drop(current);
        self.verified.invalidate_all();
    }

    /// Whom the certificate of a connection stands for. A connection may outlive its certificate, and this does not.
    pub fn certified(&self, shown: &ShownCertificate<'_>) -> Option<Arc<Identity>> {
        let current = Arc::clone(&self.current.read());
        let is_good = current.rules.has_certificates()
            && (shown.ends >= self.clock.unix_seconds() || sabotaged("outlived-certificate"));
        is_good.then(|| current.rules.holder(shown).map(Arc::new))?
    }

    /// Who presents this token, as far as that can be said at once.
    pub fn recognise(&self, token: &[u8]) -> Recognition {
        if token.len() > LONGEST_TOKEN && !sabotaged("token-size") {
            return Recognition::Refused(TokenFault::TooLong);
        }
        let current = Arc::clone(&self.current.read());
        let digest = Sha256::of(token);
        if let Some(bearer) = current.rules.bearer(&digest) {
            return Recognition::Known(Arc::clone(bearer));
        }
        let now = self.clock.unix_seconds();
        if SigningKeys::is_minted(token) {
            return match self.open(&current, token, now) {
                Ok(identity) => Recognition::Known(Arc::new(identity)),
                Err(fault) => Recognition::Refused(fault),
            };
        }
        if let Some(known) = self.verified.get(&digest)
            && known.generation == current.generation
            && (known.until > now || sabotaged("verified-expiry"))
        {
            return Recognition::Known(known.identity);
        }
        if !IdToken::is_one(token) {
            return Recognition::Refused(TokenFault::Unknown);
        }
        match std::str::from_utf8(token) {
            Ok(text) => Recognition::Unsettled(UnsettledToken { token: Zeroizing::new(text.to_owned()), digest }),
            Err(_) => Recognition::Refused(TokenFault::Malformed),
        }
    }

    fn open(&self, current: &Current, token: &[u8], now: u64) -> Result<Identity, TokenFault> {
        let presented = current.signing.open(token, now)?;
        if self.burnt.contains(presented.id) && !sabotaged("burnt-token") {
            return Err(TokenFault::Burnt);
        }
        Ok(presented.identity)
    }

    /// Verifies a token.
    pub async fn settle(&self, unsettled: UnsettledToken) -> Result<Arc<Identity>, NotSettled> {
        let current = Arc::clone(&self.current.read());
        let token = IdToken::read(&unsettled.token)?;
        let issuer = token.claimed_issuer().and_then(|claimed| current.rules.issuer(claimed));
        let issuer = Arc::clone(issuer.ok_or(TokenFault::UnknownIssuer)?);
        let (keys, position) = match self.keys.find(&issuer, token.key_id.as_deref()).await {
            Ok(found) => found,
            Err(NoKey::Unknown) => return Err(TokenFault::UnknownKey.into()),
            Err(NoKey::Unavailable) => return Err(NotSettled::NoKeys { issuer: Arc::clone(&issuer.name) }),
        };
        let verify = move || keys.at(position).map_or(Err(TokenFault::UnknownKey), |key| token.verify(key));
        let signed = self.turns.run(verify).await.unwrap_or(Err(TokenFault::Malformed));
        self.metrics.verified();
        let signed = signed?;
        let until = signed.check(&issuer, self.clock.unix_seconds())?;
        let identity = Arc::new(current.rules.claimant(&issuer, &signed.claims));
        let generation = current.generation;
        self.verified.insert(unsettled.digest, VerifiedToken { identity: Arc::clone(&identity), until, generation });
        Ok(identity)
    }

    /// Who presents this token, however long it takes.
    pub async fn identify(&self, token: &[u8]) -> Result<Arc<Identity>, NotSettled> {
        match self.recognise(token) {
            Recognition::Known(identity) => Ok(identity),
            Recognition::Refused(fault) => Err(fault.into()),
            Recognition::Unsettled(token) => self.settle(token).await,
        }
    }

    /// Mints a token with the rights of the bearer of this one.
    pub async fn mint(&self, token: &[u8]) -> Result<(MintedToken, Arc<Identity>), MintRefusal> {
        let minted = self.try_to_mint(token).await;
        self.metrics.minted(minted.as_ref().map_or_else(MintRefusal::code, |_| "minted"));
        minted
    }

    async fn try_to_mint(&self, token: &[u8]) -> Result<(MintedToken, Arc<Identity>), MintRefusal> {
        let identity = self.identify(token).await?;
        if identity.kind == IdentityKind::Minted && !sabotaged("minted-again") {
            return Err(MintRefusal::Minted);
        }
        let has_rights = identity.grants != super::Grants::default();
        let signing = self.current.read().signing.clone();
        let minted = signing.mint(&identity, self.clock.unix_seconds()).filter(|_| has_rights);
        let minted = minted.ok_or_else(|| MintRefusal::NoRights { name: Arc::clone(&identity.name) })?;
        Ok((minted, identity))
    }

    /// Makes a minted token good for nothing, here and wherever the listener tells it. Whether it was one.
    pub fn give_back(&self, token: &[u8]) -> Result<(), TokenFault> {
        let (current, now) = (Arc::clone(&self.current.read()), self.clock.unix_seconds());
        match current.signing.open(token, now) {
            Ok(presented) => self.burnt.give_back(presented.id, presented.expires, now),
            Err(TokenFault::Expired) => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// A token was given back elsewhere; `until` is when it expires, in seconds since the epoch.
    pub fn burn(&self, id: TokenId, until: u64) {
        self.burnt.burn(id, until, self.clock.unix_seconds());
    }

    /// Tells the listener of every token that is given back here.
    pub fn on_burn(&self, listener: BurnListener) {
        self.burnt.listen(listener);
    }

    /// Takes one of what this identity may do in a minute; how long until there is one, if none is left.
    pub fn take(&self, identity: &Identity, what: Limited) -> Result<(), Duration> {
        self.rates.take(identity, what)
    }

    pub fn has_issuers(&self) -> bool {
        !self.current.read().rules.issuers().is_empty()
    }

    /// The audience that clients are told: the first issuer's.
    pub fn audience(&self) -> Option<Arc<str>> {
        self.current.read().rules.issuers().first().map(|issuer| Arc::clone(issuer.audience()))
    }

    /// How the keys of the issuers are.
    pub fn key_states(&self) -> Vec<KeyState> {
        self.keys.states(self.current.read().rules.issuers())
    }

    /// Fetches the keys of every issuer, so that the first request does not have to wait for them.
    pub async fn warm(&self) {
        let issuers: Vec<Arc<Issuer>> = self.current.read().rules.issuers().to_vec();
        for issuer in &issuers {
            self.keys.fetch(issuer).await;
        }
    }

    /// Fetches the keys of an issuer and keeps nothing; the error is a sentence about what is wrong.
    pub async fn try_issuer(&self, issuer: &Issuer) -> Result<IssuerReport, String> {
        let loaded = load(&*self.fetcher, issuer).await?;
        let now = self.clock.now();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let ahead =
            |there: SystemTime| now.duration_since(there).map_or_else(|behind| -seconds(behind.duration()), seconds);
        Ok(IssuerReport {
            keys: loaded.keys.len(),
            ahead_seconds: loaded.date.map(ahead),
            age: loaded.written.map(|written| now.duration_since(written).unwrap_or_default()),
        })
    }

    /// The names of the rules that fit an ID token, as they are written. Only for a token that was settled.
    pub fn fitting_rules(&self, token: &str) -> Vec<String> {
        let current = Arc::clone(&self.current.read());
        let Ok(token) = IdToken::read(token) else { return Vec::new() };
        let issuer = token.claimed_issuer().and_then(|claimed| current.rules.issuer(claimed));
        issuer.map_or_else(Vec::new, |issuer| current.rules.fitting(issuer, token.claims()))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use futures_util::poll;
    use serde_json::{Value, json};
    use url::Url;
    use wheelport_runtime::blocking;

    use super::super::IdentityTables;
    use super::super::key_cache::IssuerDocument;
    use super::*;

    /// The documents of an issuer with one key.
    struct OneKey;

    impl FetchDocument for OneKey {
        fn fetch(&self, url: Url, _: usize, _: bool) -> BoxFuture<'static, Result<IssuerDocument, String>> {
            let document = if url.path().ends_with("openid-configuration") {
                json!({"issuer": "https://ci.invalid", "jwks_uri": "https://ci.invalid/keys"})
            } else {
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43), "kid": "a"}]})
            };
            Box::pin(async move { Ok(IssuerDocument { bytes: Bytes::from(document.to_string()), date: None }) })
        }
    }

    fn identities() -> Identities {
        let issuer = "name = \"ci\"\nurl = \"https://ci.invalid\"\naudience = \"wheelport\"";
        let issuers = vec![toml::from_str(issuer).expect("a table")];
        let tables = IdentityTables { issuers, identities: Vec::new(), publishers: Vec::new() };
        let rules = IdentityRules::new(tables).expect("valid tables");
        Identities::new(rules, SigningKeys::default(), Arc::new(OneKey), Clock::system(), Tasks::new())
    }

    /// An unsigned ID token that names the issuer.
    fn unsigned() -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let (header, claims) = (json!({"alg": "EdDSA", "kid": "a"}), json!({"iss": "https://ci.invalid"}));
        format!("{}.{}.{}", part(&header), part(&claims), URL_SAFE_NO_PAD.encode([0; 64]))
    }

    #[test]
    fn the_turn_of_a_verification_goes_on_with_the_work_when_the_client_has_left() {
        // One helper thread, which a test can keep from beginning the verification.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let identities = identities();
            identities.warm().await;
            let (release, held) = std::sync::mpsc::channel::<()>();
            let busy = blocking(move || held.recv().is_err());
            let token = unsigned();
            let settle = || match identities.recognise(token.as_bytes()) {
                Recognition::Unsettled(token) => Box::pin(identities.settle(token)),
                Recognition::Known(_) | Recognition::Refused(_) => panic!("it has to be verified"),
            };
            let mut first = settle();
            assert!(poll!(&mut first).is_pending());
            drop(first);
            assert_eq!(identities.turns.free(), VERIFICATIONS - 1, "its client has left, and it is still to be done");
            let mut others: Vec<_> = (0..VERIFICATIONS).map(|_| settle()).collect();
            for other in &mut others {
                assert!(poll!(other).is_pending());
            }
            assert_eq!(identities.turns.free(), 0);
            drop(release);
            for other in others {
                assert!(matches!(other.await, Err(NotSettled::Fault(TokenFault::Signature))));
            }
            assert_eq!(busy.await, Ok(true));
            assert_eq!(identities.turns.free(), VERIFICATIONS);
        });
    }
}
