//! Who is known, and what each may do: the tables of the configuration, valid one by one and together.
//!
//! Only digests of static tokens are configured. Tokens are random, so one SHA-256 is enough to keep them; a shown
//! token is hashed and compared with every configured digest in constant time.

use std::sync::Arc;

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use wheelport_index::Sha256;

use super::certified::{CertificateRule, ShownCertificate, holder};
use super::claims::{ClaimConditions, Claims};
use super::grants::{Grants, PublishGrant, RouteSet};
use super::issuer::Issuer;
use super::name_template::{LONGEST_NAME, NameTemplate};
use super::secret_digest::SecretDigest;
use super::tables::{IdentityTable, IdentityTables, PublisherTable};
use super::wildcard::Wildcard;
use super::{Identity, IdentityKind, RateCaps};

/// Everybody who is known.
#[derive(Debug, Clone, Default)]
pub struct IdentityRules(Arc<KnownIdentities>);

#[derive(Debug, Default)]
struct KnownIdentities {
    issuers: Vec<Arc<Issuer>>,
    tokens: Vec<StaticToken>,
    claimed: Vec<ClaimRule>,
    certified: Vec<CertificateRule>,
}

/// Whoever has a static token.
#[derive(Debug)]
struct StaticToken {
    digest: SecretDigest,
    identity: Arc<Identity>,
}

/// Whoever has an ID token with such claims.
#[derive(Debug)]
struct ClaimRule {
    issuer: Arc<str>,
    name: NameTemplate,
    text: String,
    conditions: ClaimConditions,
    grants: Grants,
    caps: RateCaps,
}

impl IdentityRules {
    /// Reads the tables; the error says what is wrong with which.
    pub fn new(tables: IdentityTables) -> Result<Self, String> {
        let mut known = KnownIdentities::default();
        for table in tables.issuers {
            let issuer = Issuer::read(table)?;
            let same = |other: &&Arc<Issuer>| other.name == issuer.name || other.url == issuer.url;
            if let Some(twice) = known.issuers.iter().find(same) {
                let (one, two) = (&twice.name, &issuer.name);
                return Err(format!("the [[issuer]] tables `{one}` and `{two}` have the same name or url"));
            }
            known.issuers.push(Arc::new(issuer));
        }
        for table in tables.publishers {
            known.add(read_publisher(table)?)?;
        }
        for table in tables.identities {
            match read_identity(table, &known.issuers)? {
                IdentityEntry::Token(token) => known.add(token)?,
                IdentityEntry::Claims(rule) => known.claimed.push(rule),
                IdentityEntry::Certificate(rule) => known.certified.push(rule),
            }
        }
        Ok(Self(Arc::new(known)))
    }

    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.0.issuers
    }

    /// The issuer of tokens with this `iss`.
    pub(super) fn issuer(&self, claimed: &str) -> Option<&Arc<Issuer>> {
        self.0.issuers.iter().find(|issuer| issuer.is(claimed))
    }

    /// The first route that is named and not among these.
    pub fn unknown_route(&self, routes: &[&str]) -> Option<&str> {
        self.grants().flat_map(Grants::routes).find(|name| !routes.contains(name))
    }

    pub fn can_anyone_read(&self, route: &str) -> bool {
        self.grants().any(|grants| grants.may_read(route))
    }

    pub fn can_anyone_publish_through(&self, route: &str) -> bool {
        self.grants().any(|grants| grants.may_publish_through(route))
    }

    /// Whether a static token is good for publishing through this route.
    pub fn has_token_for(&self, route: &str) -> bool {
        self.0.tokens.iter().any(|token| token.identity.grants.may_publish_through(route))
    }

    fn grants(&self) -> impl Iterator<Item = &Grants> {
        let tokens = self.0.tokens.iter().map(|token| &token.identity.grants);
        let claimed = self.0.claimed.iter().map(|rule| &rule.grants);
        tokens.chain(claimed).chain(self.0.certified.iter().map(CertificateRule::grants))
    }

    /// Whether certificates stand for identities.
    pub fn has_certificates(&self) -> bool {
        !self.0.certified.is_empty()
    }

    /// Whom this certificate stands for.
    pub(super) fn holder(&self, shown: &ShownCertificate<'_>) -> Option<Identity> {
        holder(&self.0.certified, shown)
    }

    /// Whose static token has this digest.
    pub(super) fn bearer(&self, shown: &Sha256) -> Option<&Arc<Identity>> {
        let mut found = 0_u64;
        // No early exit: the time must not tell how far a comparison came, or which entry fits.
        for (position, token) in (1..).zip(&self.0.tokens) {
            found.conditional_assign(&position, token.digest.is_digest(shown));
        }
        let position = usize::try_from(found.checked_sub(1)?).ok()?;
        self.0.tokens.get(position).map(|token| &token.identity)
    }

    /// Who has an ID token of this issuer with these claims: the name is that of the first rule that fits, the grants
    /// are those of all. Without any rule it is an identity without rights.
    pub(super) fn claimant(&self, issuer: &Issuer, claims: &Claims) -> Identity {
        let fits = |rule: &&ClaimRule| rule.issuer == issuer.name && rule.conditions.cover(claims);
        let mut identity = Identity {
            name: Arc::clone(&issuer.name),
            kind: IdentityKind::IdToken,
            grants: Grants::default(),
            caps: RateCaps::default(),
        };
        for (position, rule) in self.0.claimed.iter().filter(fits).enumerate() {
            if position == 0 {
                (identity.name, identity.caps) = (rule.name.name(claims).into(), rule.caps);
            }
            identity.grants.add(&rule.grants);
            identity.caps.widen(rule.caps);
        }
        identity
    }

    /// The names of the rules that fit, as they are written.
    pub(super) fn fitting(&self, issuer: &Issuer, claims: &Claims) -> Vec<String> {
        let fits = |rule: &&ClaimRule| rule.issuer == issuer.name && rule.conditions.cover(claims);
        self.0.claimed.iter().filter(fits).map(|rule| rule.text.clone()).collect()
    }
}

impl KnownIdentities {
    fn add(&mut self, token: StaticToken) -> Result<(), String> {
        let same = |known: &&StaticToken| {
            known.identity.name == token.identity.name || bool::from(known.digest.ct_eq(&token.digest))
        };
        if let Some(twice) = self.tokens.iter().find(same) {
            let (one, two) = (&twice.identity.name, &token.identity.name);
            return Err(format!("`{one}` and `{two}`, which have static tokens, have the same name or token"));
        }
        self.tokens.push(token);
        Ok(())
    }
}

/// What an `[[identity]]` table comes to.
enum IdentityEntry {
    Token(StaticToken),
    Claims(ClaimRule),
    Certificate(CertificateRule),
}

fn read_identity(table: IdentityTable, issuers: &[Arc<Issuer>]) -> Result<IdentityEntry, String> {
    let name = name_of(&table.name, "identity")?.to_owned();
    let complain = |text: String| Err(format!("[[identity]] `{name}`: {text}"));
    let grants = grants(&table, &format!("[[identity]] `{name}`"))?;
    if grants == Grants::default() {
        return complain("it may do nothing; give read or publish a list of routes, or [\"*\"] for all".to_owned());
    }
    if table.projects.is_some() && table.publish.is_empty() {
        return complain("projects says what it may publish, but publish names no route".to_owned());
    }
    let caps = RateCaps { uploads: table.uploads_per_minute, downloads: table.downloads_per_minute };
    let Some(template) = NameTemplate::parse(&name) else {
        return complain("the braces of its name do not fit together".to_owned());
    };
    let certificate = Some(table.client_certificate).filter(|patterns| !patterns.is_empty());
    match (table.issuer, table.token_sha256, certificate) {
        (None, None, Some(patterns)) => {
            if !table.claims.is_empty() {
                return complain("a certificate has no claims".to_owned());
            }
            CertificateRule::new(&name, &patterns, grants, caps).map(IdentityEntry::Certificate).or_else(complain)
        }
        (None, Some(digest), None) => {
            if template.has_claims() || !table.claims.is_empty() {
                return complain("a static token has no claims".to_owned());
            }
            let digest = digest_of(&digest, &format!("[[identity]] `{name}`"))?;
            Ok(IdentityEntry::Token(static_token(&name, &digest, grants, caps)))
        }
        (Some(issuer), None, None) => {
            let Some(issuer) = issuers.iter().find(|known| *known.name == *issuer) else {
                return complain(format!("there is no [[issuer]] `{issuer}`"));
            };
            if table.claims.is_empty() {
                return complain(format!(
                    "without claims it would be everyone who gets a token of `{}`; say claims = {{ sub = \"*\" }} if \
                     that is meant",
                    issuer.name
                ));
            }
            let (conditions, issuer) = (table.claims, Arc::clone(&issuer.name));
            Ok(IdentityEntry::Claims(ClaimRule { issuer, name: template, text: name, conditions, grants, caps }))
        }
        _ => complain("give either an issuer with claims, a token_sha256 or a client_certificate".to_owned()),
    }
}

fn read_publisher(table: PublisherTable) -> Result<StaticToken, String> {
    let name = name_of(&table.name, "publisher")?;
    let place = format!("[[publisher]] `{name}`");
    let projects = table.projects.as_ref().map(|raw| projects(raw, &place)).transpose()?;
    let routes = table.routes.map_or_else(RouteSet::all, RouteSet::new);
    let grants = Grants { read: RouteSet::new(table.read), publish: vec![PublishGrant { routes, projects }] };
    Ok(static_token(name, &digest_of(&table.token_sha256, &place)?, grants, RateCaps::default()))
}

fn static_token(name: &str, digest: &Sha256, grants: Grants, caps: RateCaps) -> StaticToken {
    let identity = Identity { name: name.into(), kind: IdentityKind::StaticToken, grants, caps };
    StaticToken { digest: SecretDigest::known(digest), identity: Arc::new(identity) }
}

fn name_of<'a>(raw: &'a str, table: &str) -> Result<&'a str, String> {
    let name = raw.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME.min(100) || name.chars().any(char::is_control) {
        return Err(format!("an [[{table}]] needs a name of at most 100 characters"));
    }
    Ok(name)
}

fn digest_of(raw: &str, place: &str) -> Result<Sha256, String> {
    raw.parse().map_err(|_| {
        format!(
            "{place}: token_sha256 is the SHA-256 of the token in 64 hexadecimal digits (printf %s \"$TOKEN\" | \
             sha256sum), never the token itself"
        )
    })
}

fn grants(table: &IdentityTable, place: &str) -> Result<Grants, String> {
    let projects = table.projects.as_ref().map(|raw| projects(raw, place)).transpose()?;
    let routes = RouteSet::new(table.publish.clone());
    let publish = if routes.is_empty() { Vec::new() } else { vec![PublishGrant { routes, projects }] };
    Ok(Grants { read: RouteSet::new(table.read.clone()), publish })
}

fn projects(raw: &[String], place: &str) -> Result<Vec<Wildcard>, String> {
    let read =
        |raw: &String| Wildcard::project(raw).ok_or_else(|| format!("{place}: `{raw}` is no project name or pattern"));
    raw.iter().map(read).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
