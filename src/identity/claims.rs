//! What an ID token says: claims by name or JSON pointer, and what rules compare them with.
//!
//! Claims are written by the one who runs the pipeline. Only what a rule names is looked at. The names that are made of
//! them are in `name_template.rs`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use wheelport_runtime::sabotaged;

use super::wildcard::Wildcard;

/// The claims of a token.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(Map<String, Value>);

/// A claim's name or, with a slash in front, a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct ClaimKey(String);

/// What a claim has to be: one of these.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a text such as \"acme/*\", or a list of texts")]
pub(super) enum ClaimTexts {
    One(Wildcard),
    Several(Vec<Wildcard>),
}

/// What all claims have to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct ClaimConditions(BTreeMap<ClaimKey, ClaimTexts>);

impl Claims {
    fn value(&self, ClaimKey(key): &ClaimKey) -> Option<&Value> {
        let Some(pointer) = key.strip_prefix('/') else { return self.0.get(key) };
        let mut parts = pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~"));
        let first = self.0.get(&parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// The text of a claim that is one thing.
    pub(super) fn simple(&self, key: &ClaimKey) -> Option<String> {
        self.value(key).and_then(simple)
    }

    /// A claim of the standard, if it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A time in seconds, whole or not.
    pub(super) fn seconds(&self, name: &str) -> Option<Result<u64, ()>> {
        let value = self.0.get(name)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
        let whole = |seconds: f64| (0.0..1e15).contains(&seconds).then_some(seconds as u64);
        Some(value.as_u64().or_else(|| value.as_f64().and_then(whole)).ok_or(()))
    }

    /// Whether the audience is this one, or this one among others.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(text)) => text == audience,
            Some(Value::Array(several)) => several.iter().any(|value| value.as_str() == Some(audience)),
            _ => false,
        }
    }
}

impl ClaimKey {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl ClaimConditions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every claim is as it has to be. A claim that is missing never is.
    pub(super) fn cover(&self, claims: &Claims) -> bool {
        self.0.iter().all(|(key, texts)| claims.value(key).is_some_and(|value| texts.cover(value)))
            || sabotaged("identity-claims")
    }
}

impl ClaimTexts {
    fn cover(&self, value: &Value) -> bool {
        let covers = |text: &str| match self {
            Self::One(wildcard) => wildcard.covers(text),
            Self::Several(several) => several.iter().any(|wildcard| wildcard.covers(text)),
        };
        match value {
            Value::Array(values) => values.iter().filter_map(simple).any(|text| covers(&text)),
            value => simple(value).is_some_and(|text| covers(&text)),
        }
    }
}

/// The text of a value that is one thing.
fn simple(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn claims() -> Result<Claims, serde_json::Error> {
        serde_json::from_value(serde_json::json!({
            "iss": "https://ci.invalid",
            "aud": ["other", "wheelport"],
            "project_path": "acme/tools",
            "ref": "v1\n{\"x\":1}",
            "ref_protected": true,
            "run": 7,
            "groups": ["dev", "ops"],
            "exp": 12.5,
            "nbf": -1,
            "kubernetes.io": { "namespace": "ci", "serviceaccount": { "name": "builder" } },
            "nothing": null,
        }))
    }

    fn conditions(text: &str) -> Result<ClaimConditions, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn conditions_hold_for_names_and_pointers_and_never_for_what_is_missing() -> Outcome {
        let claims = claims()?;
        for (text, expected) in [
            ("project_path = \"acme/tools\"", true),
            ("project_path = \"acme/*\"", true),
            ("project_path = [\"x\", \"acme/t*\"]", true),
            ("project_path = \"acme\"", false),
            ("ref_protected = \"true\"", true),
            ("run = \"7\"", true),
            ("groups = \"ops\"", true),
            ("groups = \"o\"", false),
            ("missing = \"*\"", false),
            ("nothing = \"*\"", false),
            ("\"kubernetes.io\" = \"*\"", false),
            ("\"/kubernetes.io/namespace\" = \"ci\"", true),
            ("\"/kubernetes.io/serviceaccount/name\" = \"build*\"", true),
            ("\"/kubernetes.io/nothing/name\" = \"*\"", false),
            ("\"/run/x\" = \"*\"", false),
            ("project_path = \"acme/*\"\nrun = \"8\"", false),
        ] {
            assert_eq!(conditions(text)?.cover(&claims), expected, "{text}");
        }
        Ok(())
    }

    #[test]
    fn claims_of_the_standard_are_read_strictly() -> Outcome {
        let claims = claims()?;
        assert!(claims.is_for("wheelport") && claims.is_for("other") && !claims.is_for("wheel"));
        assert_eq!(
            (claims.seconds("exp"), claims.seconds("nbf"), claims.seconds("x")),
            (Some(Ok(12)), Some(Err(())), None)
        );
        assert_eq!((claims.text("iss"), claims.text("aud")), (Some("https://ci.invalid"), None));
        Ok(())
    }
}
