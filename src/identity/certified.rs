//! Who is known by the certificate of its connection: patterns over the names in it. Pure.
//!
//! Only certificates come here that the TLS library has verified. What a pattern looks like says which names it is
//! about, so that a name of one kind never passes for one of another.

use super::grants::Grants;
use super::name_template::NameTemplate;
use super::wildcard::Wildcard;
use super::{Identity, IdentityKind, RateCaps};
use wheelport_runtime::sabotaged;

/// What stands for the name that fits, in the name of an identity.
const PLACEHOLDER: &str = "certificate";

/// A certificate that a connection has shown, and that was verified.
#[derive(Debug, Clone, Copy)]
pub struct ShownCertificate<'a> {
    /// As RFC 4514 writes it.
    pub subject: &'a str,
    /// In lower case.
    pub dns_names: &'a [String],
    pub uris: &'a [String],
    /// When it ends, in seconds since the epoch.
    pub ends: u64,
}

/// Names in certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertificatePattern {
    Uri(Wildcard),
    Subject(Wildcard),
    DnsName(Wildcard),
}

/// The identity of those who show a certificate with such a name.
#[derive(Debug)]
pub(super) struct CertificateRule {
    name: NameTemplate,
    patterns: Vec<CertificatePattern>,
    grants: Grants,
    caps: RateCaps,
}

impl CertificatePattern {
    /// `None` for what could not be the name of anything.
    fn parse(raw: &str) -> Option<Self> {
        let raw = raw.trim();
        let wildcard = Wildcard::written(raw);
        match raw {
            "" => None,
            _ if raw.chars().any(char::is_control) => None,
            _ if raw.contains("://") => Some(Self::Uri(wildcard)),
            _ if raw.contains('=') => Some(Self::Subject(wildcard)),
            _ if raw.chars().any(|c| c.is_whitespace() || "/,:".contains(c)) => None,
            _ => Some(Self::DnsName(Wildcard::written(&raw.to_ascii_lowercase()))),
        }
    }

    /// The name that fits.
    fn find<'a>(&self, shown: &ShownCertificate<'a>) -> Option<&'a str> {
        let among = |wildcard: &Wildcard, names: &'a [String]| {
            names.iter().map(String::as_str).find(|name| wildcard.covers(name))
        };
        match self {
            Self::Uri(wildcard) => among(wildcard, shown.uris),
            Self::DnsName(wildcard) => among(wildcard, shown.dns_names),
            Self::Subject(wildcard) => Some(shown.subject).filter(|subject| wildcard.covers(subject)),
        }
    }
}

impl CertificateRule {
    pub(super) fn new(name: &str, patterns: &[String], grants: Grants, caps: RateCaps) -> Result<Self, String> {
        let template = NameTemplate::parse(name).filter(|template| template.mentions_only(PLACEHOLDER));
        let name = template.ok_or_else(|| {
            format!("in the name of an identity with a certificate, only {{{PLACEHOLDER}}} may stand in braces")
        })?;
        let read = |raw: &String| {
            CertificatePattern::parse(raw).ok_or_else(|| {
                format!(
                    "client_certificate `{raw}`: a URI such as \"spiffe://acme/build/*\", a DNS name such as \
                     \"*.build.acme.internal\" or a subject such as \"CN=build-*,O=acme\""
                )
            })
        };
        let patterns: Vec<_> = patterns.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { name, patterns, grants, caps })
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    fn fits<'a>(&self, shown: &ShownCertificate<'a>) -> Option<&'a str> {
        let found = self.patterns.iter().find_map(|pattern| pattern.find(shown));
        found.or(sabotaged("certificate-name").then_some(shown.subject))
    }
}

/// Whom this certificate stands for: the name is that of the first rule that fits, the grants are those of all.
pub(super) fn holder(rules: &[CertificateRule], shown: &ShownCertificate<'_>) -> Option<Identity> {
    let mut fitting = rules.iter().filter_map(|rule| rule.fits(shown).map(|name| (rule, name)));
    let (first, name) = fitting.next()?;
    let mut identity = Identity {
        name: first.name.filled(PLACEHOLDER, name).into(),
        kind: IdentityKind::Certificate,
        grants: first.grants.clone(),
        caps: first.caps,
    };
    for (rule, _) in fitting {
        identity.grants.add(&rule.grants);
        identity.caps.widen(rule.caps);
    }
    Some(identity)
}

#[cfg(test)]
mod tests {
    use super::super::grants::RouteSet;
    use super::*;

    fn rule(name: &str, patterns: &[&str], route: &str) -> Result<CertificateRule, String> {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let grants = Grants { read: RouteSet::new(vec![route.to_owned()]), publish: Vec::new() };
        CertificateRule::new(name, &patterns, grants, RateCaps::default())
    }

    fn found(patterns: &[&str]) -> Option<String> {
        let (dns_names, uris) = (["b1.build.acme.test".to_owned()], ["spiffe://acme/build/1".to_owned()]);
        let subject = "CN=b1,O=acme\\, CN\\=admin";
        let shown = ShownCertificate { subject, dns_names: &dns_names, uris: &uris, ends: 1 };
        let rule = rule("{certificate}", patterns, "main").expect("a rule");
        holder(&[rule], &shown).map(|identity| identity.name.to_string())
    }

    #[test]
    fn a_pattern_is_about_names_of_its_own_kind() {
        for (pattern, expected) in [
            ("spiffe://acme/build/*", Some("spiffe://acme/build/1")),
            ("spiffe://acme/*", Some("spiffe://acme/build/1")),
            ("spiffe://acme/build/", None),
            ("*://acme/other/*", None),
            ("*.BUILD.acme.test", Some("b1.build.acme.test")),
            ("build.acme.test", None),
            ("*", Some("b1.build.acme.test")),
            ("CN=b1,*", Some("CN%3Db1%2CO%3Dacme%5C%2C%20CN%5C%3Dadmin")),
            ("CN=admin*", None),
            ("*,CN=admin", None),
            ("*spiffe*", None),
        ] {
            assert_eq!(found(&[pattern]).as_deref(), expected, "{pattern}");
        }
        assert_eq!(found(&["other", "b1.*"]).as_deref(), Some("b1.build.acme.test"), "one of a list");
    }

    #[test]
    fn what_names_nothing_is_refused_and_rules_that_fit_add_up() -> Result<(), String> {
        for pattern in ["", " ", "a b", "acme/build", "a,b", "a\nb"] {
            let refused = rule("x", &[pattern], "main").err().unwrap_or_default();
            assert!(refused.contains("spiffe://acme/build/*"), "{pattern}: {refused}");
        }
        let refused = rule("{sub}", &["*"], "main").err().unwrap_or_default();
        assert!(refused.contains("only {certificate}"), "{refused}");
        let rules = [rule("one", &["a.test"], "main")?, rule("two", &["a.*"], "second")?, rule("no", &["b"], "third")?];
        let dns_names = ["a.test".to_owned()];
        let shown = ShownCertificate { subject: "", dns_names: &dns_names, uris: &[], ends: 1 };
        let identity = holder(&rules, &shown).ok_or("no identity")?;
        assert_eq!((&*identity.name, identity.kind), ("one", IdentityKind::Certificate));
        let reads = ["main", "second", "third"].map(|route| identity.grants.may_read(route));
        assert_eq!(reads, [true, true, false]);
        Ok(())
    }
}
