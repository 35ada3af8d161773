//! The names of identities, made of what a token or a certificate says. Pure.
//!
//! What it says is written by those who run pipelines. So a name holds nothing that a log or a page could take for
//! something else, and it stands for one thing only: other values in the claims of a template never give the same name.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wheelport_index::{Sha256, shortened};
use wheelport_runtime::sabotaged;

use super::claims::{ClaimKey, Claims};

/// The longest value of a claim in a name, in characters.
const LONGEST_VALUE: usize = 120;
/// The longest name made of claims, in characters.
pub(super) const LONGEST_NAME: usize = 240;
/// Hexadecimal digits of the digest that ends what was too long.
const DIGEST: usize = 32;
/// What stands for a claim that is missing, or is no single value.
const MISSING: &str = "?";
/// What parts a value from text that could belong to it.
const PARTING: char = '|';
/// What stays of a value: letters, digits and what stands in paths and refs. All else is encoded as in URLs.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'+')
    .remove(b'#')
    .remove(b'~');

/// A name in which `{claim}` stands for the value of a claim.
#[derive(Debug, Clone)]
pub(super) struct NameTemplate(Vec<NamePart>);

#[derive(Debug, Clone)]
enum NamePart {
    Text(String),
    Claim(ClaimKey, ValueEnd),
}

/// How a reader of a name sees where a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueEnd {
    /// No claim comes after it, or what follows is never part of a value.
    Clear,
    /// At this character, so it is encoded in the value.
    At(char),
    /// What follows could belong to the value.
    Parted,
}

impl ValueEnd {
    /// Of a value that this text follows, and then another value.
    fn before(text: &str) -> Self {
        match text.chars().next() {
            Some('%' | '?') | None => Self::Parted,
            Some(c) if c.is_ascii_alphanumeric() => Self::Parted,
            Some(c) if c.is_ascii_punctuation() => Self::At(c),
            Some(_) => Self::Clear,
        }
    }
}

impl NameTemplate {
    /// Reads a template; `None` if braces do not fit together.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let (mut parts, mut rest) = (Vec::new(), raw);
        while let Some((text, after)) = rest.split_once('{') {
            let (key, behind) = after.split_once('}')?;
            if text.contains('}') || key.is_empty() || key.contains('{') {
                return None;
            }
            let end = behind.split_once('{').map_or(ValueEnd::Clear, |(text, _)| ValueEnd::before(text));
            let text = shortened(text, LONGEST_NAME).into_owned();
            parts.extend([NamePart::Text(text), NamePart::Claim(ClaimKey::new(key), end)]);
            rest = behind;
        }
        if rest.contains('}') {
            return None;
        }
        parts.push(NamePart::Text(shortened(rest, LONGEST_NAME).into_owned()));
        Some(Self(parts))
    }

    pub(super) fn has_claims(&self) -> bool {
        self.0.iter().any(|part| matches!(part, NamePart::Claim(..)))
    }

    /// Whether nothing but this stands in braces.
    pub(super) fn mentions_only(&self, placeholder: &str) -> bool {
        self.0.iter().all(|part| !matches!(part, NamePart::Claim(key, _) if key.as_str() != placeholder))
    }

    /// The name of the identity that has these claims.
    pub(super) fn name(&self, claims: &Claims) -> String {
        self.fill(|key| claims.simple(key))
    }

    /// The name in which this placeholder has this value.
    pub(super) fn filled(&self, placeholder: &str, value: &str) -> String {
        self.fill(|key| (key.as_str() == placeholder).then(|| value.to_owned()))
    }

    fn fill(&self, value_of: impl Fn(&ClaimKey) -> Option<String>) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                NamePart::Text(text) => name.push_str(text),
                NamePart::Claim(key, end) => {
                    let value = value_of(key).map(|value| bounded(encoded(&value, *end), LONGEST_VALUE));
                    name.push_str(value.as_deref().unwrap_or(MISSING));
                    if *end == ValueEnd::Parted {
                        name.push(PARTING);
                    }
                }
            }
        }
        bounded(name, LONGEST_NAME)
    }
}

/// A value that can be told from what follows it.
fn encoded(value: &str, end: ValueEnd) -> String {
    if sabotaged("identity-name") {
        return value.to_owned();
    }
    let encoded = utf8_percent_encode(value, ENCODED).to_string();
    match end {
        ValueEnd::At(c) if !sabotaged("identity-parts") => encoded.replace(c, &format!("%{:02X}", u32::from(c))),
        ValueEnd::At(_) | ValueEnd::Clear | ValueEnd::Parted => encoded,
    }
}

/// A text of bounded length. What is cut off is told from others by a digest.
fn bounded(text: String, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text;
    }
    let digest = if sabotaged("identity-digest") { String::new() } else { Sha256::of(text.as_bytes()).to_string() };
    let kept = text.chars().take(longest - DIGEST - 1);
    kept.chain(['…']).chain(digest.chars().take(DIGEST)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn name(template: &str, claims: &serde_json::Value) -> String {
        let claims = serde_json::from_value(claims.clone()).expect("claims");
        NameTemplate::parse(template).expect("a template").name(&claims)
    }

    #[test]
    fn names_hold_nothing_that_could_be_taken_for_something_else() {
        let claims = json!({
            "project_path": "acme/tools", "ref": "v1\n{\"x\":1} \u{202e}", "groups": ["dev", "ops"],
            "kubernetes.io": { "namespace": "ci" }, "nothing": null,
        });
        for (template, expected) in [
            ("ci:{project_path}@{ref}", "ci:acme/tools@v1%0A%7B%22x%22:1%7D%20%E2%80%AE"),
            ("k8s:{/kubernetes.io/namespace}", "k8s:ci"),
            ("{groups}{missing}", "?|?"),
            ("{nothing}", "?"),
            ("plain", "plain"),
        ] {
            assert_eq!(name(template, &claims), expected);
        }
        for template in ["{", "}", "{}", "a{b{c}}", "a}b{c}"] {
            assert!(NameTemplate::parse(template).is_none(), "{template}");
        }
    }

    #[test]
    fn what_could_be_mixed_up_has_two_names() {
        let long = |last: &str| "x".repeat(200) + last;
        for (template, one, other) in [
            ("{a}", json!({"a": "b c"}), json!({"a": "b_c"})),
            ("{a}", json!({"a": "b c"}), json!({"a": "b%20c"})),
            ("{a}", json!({"a": "ü"}), json!({"a": "ö"})),
            ("{a}", json!({"a": "?"}), json!({})),
            ("{a}", json!({"a": "a\u{202e}"}), json!({"a": "a"})),
            ("{a}", json!({"a": long("1")}), json!({"a": long("2")})),
            ("{a}", json!({"a": long("1")}), json!({"a": name("{a}", &json!({"a": long("1")}))})),
            ("{a}@{b}", json!({"a": "x@y", "b": "z"}), json!({"a": "x", "b": "y@z"})),
            ("{a}@{b}", json!({"a": "x%40y", "b": "z"}), json!({"a": "x@y", "b": "z"})),
            ("{a}{b}", json!({"a": "x", "b": "yz"}), json!({"a": "xy", "b": "z"})),
            ("{a}on{b}", json!({"a": "x", "b": "yonz"}), json!({"a": "xony", "b": "z"})),
            ("{a}%{b}", json!({"a": "x ", "b": ""}), json!({"a": "x", "b": "20%"})),
            ("{a}?{b}", json!({"a": ""}), json!({"b": ""})),
            (
                "{a}{b}{c}",
                json!({"a": long("1"), "b": long(""), "c": "1"}),
                json!({"a": long("1"), "b": long(""), "c": "2"}),
            ),
        ] {
            let (one, other) = (name(template, &one), name(template, &other));
            assert_ne!(one, other, "{template}");
            assert!(one.chars().count().max(other.chars().count()) <= LONGEST_NAME, "{template}");
        }
        assert_eq!(name("{a}@{b}", &json!({"a": "x", "b": "y@z"})), "x@y@z", "the last value ends with the name");
    }

    /// Some texts of few characters, so that what could be mixed up is met.
    fn value() -> impl Strategy<Value = Option<String>> {
        proptest::option::weighted(0.9, "[a2@%? |:…\n-]{0,3}|x{85,125}")
    }

    proptest! {
        #[test]
        fn a_name_stands_for_one_set_of_values(
            template in proptest::sample::select(&[
                "{a}{b}", "{a}@{b}", "{a}a{b}", "{a}%{b}", "{a}?{b}", "{a}-{b}|{a}", "2{a}:…{b}", "{a}…{b}", "{a}|{b}",
            ][..]),
            values in proptest::collection::vec((value(), value()), 2..40),
        ) {
            let template = NameTemplate::parse(template).expect("a template");
            let mut known = HashMap::new();
            for (a, b) in values {
                let found = template.fill(|key| if key.as_str() == "a" { a.clone() } else { b.clone() });
                prop_assert!(found.chars().all(|c| (' '..='~').contains(&c) || c == '…'), "{found:?}");
                let first = known.entry(found.clone()).or_insert_with(|| (a.clone(), b.clone()));
                prop_assert_eq!(&(a, b), &*first, "{}", found);
            }
        }
    }
}
