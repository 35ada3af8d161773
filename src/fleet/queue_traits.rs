//! What the attributes of a queue say: whether EventBridge may send to it, and how it treats messages. Pure.
//!
//! A policy of a queue is read as far as it can decide about EventBridge. What a condition means that is about
//! something else, only the service knows; that is said and not guessed.

use std::time::Duration;

use globset::GlobBuilder;
use serde_json::Value;

use wheelport_runtime::sabotaged;

/// Who sends what rules of EventBridge match.
const SENDER: &str = "events.amazonaws.com";
const ACTION: &str = "sqs:SendMessage";
/// The key of AWS's own, of which no policy can be changed so that EventBridge may use it.
const KEY_OF_AWS: &str = "alias/aws/sqs";

/// What a queue says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueTraits {
    pub arn: String,
    pub sending: SendRight,
    /// About how many messages could be received now.
    pub waiting: u64,
    /// How long a message that was received is hidden from others.
    pub visibility: Option<Duration>,
    /// How often a message is received before it goes to the dead-letter queue, where there is one.
    pub most_receives: Option<u64>,
    pub encryption: QueueEncryption,
}

/// Whether EventBridge may send to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendRight {
    /// For these rules, or for any where none is named.
    Allowed { rules: Vec<String> },
    /// No statement of the policy lets it.
    Missing,
    /// A statement forbids it.
    Denied,
    /// It depends on what is not understood here.
    Unclear,
}

/// What encrypts the messages of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueEncryption {
    /// Nothing, or what needs no right.
    Open,
    /// AWS's own KMS key, with which EventBridge cannot send.
    KeyOfAws,
    /// Another KMS key, whose policy decides.
    Key,
}

impl QueueTraits {
    /// Reads attributes by their names.
    pub(super) fn read<'a>(attribute: impl Fn(&str) -> Option<&'a str>) -> Self {
        let number = |name| attribute(name).and_then(|text| text.parse().ok());
        let arn = attribute("QueueArn").unwrap_or_default().to_owned();
        let redrive = attribute("RedrivePolicy").and_then(|text| serde_json::from_str::<Value>(text).ok());
        Self {
            sending: SendRight::of(attribute("Policy"), &arn),
            waiting: number("ApproximateNumberOfMessages").unwrap_or(0),
            visibility: number("VisibilityTimeout").map(Duration::from_secs),
            most_receives: redrive.and_then(|redrive| whole(&redrive["maxReceiveCount"])),
            encryption: match attribute("KmsMasterKeyId") {
                None | Some("") => QueueEncryption::Open,
                Some(key) if key.ends_with(KEY_OF_AWS) => QueueEncryption::KeyOfAws,
                Some(_) => QueueEncryption::Key,
            },
            arn,
        }
    }

    /// Whether looking at a message that waits could be what moves it to the dead-letter queue.
    pub fn may_lose_by_looking(&self) -> bool {
        self.waiting > 0 && self.most_receives.is_some_and(|most| most <= 2) && !sabotaged("dead-letter-look")
    }
}

/// A number, which some tools write as a text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether something is so, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Yes,
    No,
    Unknown,
}

impl SendRight {
    fn of(policy: Option<&str>, arn: &str) -> Self {
        if sabotaged("queue-policy") {
            return Self::Allowed { rules: Vec::new() };
        }
        let Some(text) = policy.filter(|text| !text.is_empty()) else { return Self::Missing };
        let Ok(policy) = serde_json::from_str::<Value>(text) else { return Self::Unclear };
        let (mut rules, mut is_allowed, mut is_unclear) = (Vec::new(), false, false);
        for statement in several(&policy["Statement"]) {
            match (statement["Effect"].as_str(), concerns(statement, arn)) {
                (_, Certainty::No) => {}
                (Some("Deny"), Certainty::Yes) => return Self::Denied,
                (Some("Allow"), Certainty::Yes) => {
                    is_allowed = true;
                    rules.extend(sources(statement).map(str::to_owned));
                }
                _ => is_unclear = true,
            }
        }
        match (is_allowed, is_unclear) {
            (_, true) => Self::Unclear,
            (true, false) => Self::Allowed { rules },
            (false, false) => Self::Missing,
        }
    }
}

/// Whether a statement is about EventBridge sending to this queue.
fn concerns(statement: &Value, arn: &str) -> Certainty {
    if ["NotPrincipal", "NotAction", "NotResource"].iter().any(|key| !statement[key].is_null()) {
        return Certainty::Unknown;
    }
    let principal = &statement["Principal"];
    let everyone = [principal, &principal["AWS"]].iter().any(|of| several(of).any(|one| one == "*"));
    let is_sender = everyone || several(&principal["Service"]).any(|one| one == SENDER);
    let names = |value: &Value, text: &str| several(value).filter_map(Value::as_str).any(|glob| covers(glob, text));
    if !is_sender || !names(&statement["Action"], ACTION) || !names(&statement["Resource"], arn) {
        return Certainty::No;
    }
    conditions(statement)
}

/// Whether the conditions of a statement hold for a rule of EventBridge.
fn conditions(statement: &Value) -> Certainty {
    let Some(operators) = statement["Condition"].as_object() else { return Certainty::Yes };
    let mut outcome = Certainty::Yes;
    for (operator, keys) in operators {
        for (key, values) in keys.as_object().into_iter().flatten() {
            let is_compared = ["ArnEquals", "ArnLike", "StringEquals", "StringLike"].contains(&operator.as_str());
            match key.to_ascii_lowercase().as_str() {
                "aws:sourcearn" if is_compared => {
                    if !several(values).filter_map(Value::as_str).any(is_rule) {
                        return Certainty::No;
                    }
                }
                // EventBridge sends over TLS, and always for the account of the rule.
                "aws:securetransport" if operator == "Bool" => {
                    if several(values).any(|value| value == "false" || value == false) {
                        return Certainty::No;
                    }
                }
                "aws:sourceaccount" if is_compared && statement["Effect"] == "Allow" => {}
                _ => outcome = Certainty::Unknown,
            }
        }
    }
    outcome
}

/// The rules that a statement names.
fn sources(statement: &Value) -> impl Iterator<Item = &str> {
    let keys = statement["Condition"].as_object().into_iter().flatten().filter_map(|(_, keys)| keys.as_object());
    let named = keys.flatten().filter(|(key, _)| key.eq_ignore_ascii_case("aws:SourceArn"));
    named.flat_map(|(_, values)| several(values)).filter_map(Value::as_str)
}

/// Whether an ARN, or a glob over ARNs, may be that of a rule.
fn is_rule(arn: &str) -> bool {
    arn.split(':').nth(2).is_none_or(|service| covers(service, "events"))
}

/// The parts of what may be one thing or a list.
fn several(value: &Value) -> impl Iterator<Item = &Value> {
    let (one, list) = match value {
        Value::Array(list) => (None, Some(list)),
        Value::Null => (None, None),
        one => (Some(one), None),
    };
    one.into_iter().chain(list.into_iter().flatten())
}

/// Whether a text with `*` and `?` covers another, in any case as the names of actions are compared.
fn covers(glob: &str, text: &str) -> bool {
    let glob = GlobBuilder::new(glob).case_insensitive(true).backslash_escape(false).build();
    glob.is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:111122223333:wheelport-events";
    const RULE: &str = "arn:aws:events:eu-central-1:111122223333:rule/wheelport-packages";

    fn allowing(changes: &Value) -> Value {
        let mut statement = json!({
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": QUEUE, "Condition": {"ArnEquals": {"aws:SourceArn": RULE}},
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            statement[key] = value.clone();
        }
        statement
    }

    fn right(statements: &Value) -> SendRight {
        SendRight::of(Some(&json!({"Version": "2012-10-17", "Statement": statements}).to_string()), QUEUE)
    }

    #[test]
    fn a_statement_has_to_let_eventbridge_send_to_this_queue() {
        let named = SendRight::Allowed { rules: vec![RULE.to_owned()] };
        let any = SendRight::Allowed { rules: Vec::new() };
        let topic = "arn:aws:sns:eu-central-1:111122223333:topic";
        for (changes, expected) in [
            (json!({}), &named),
            (json!({"Action": ["SQS:ReceiveMessage", "SQS:Send*"], "Resource": "*"}), &named),
            (json!({"Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}}), &named),
            (json!({"Principal": "*", "Condition": null}), &any),
            (json!({"Principal": {"AWS": "*"}, "Condition": null}), &any),
            (json!({"Condition": {"StringEquals": {"aws:SourceAccount": "111122223333"}}}), &any),
            (json!({"Condition": {"ArnLike": {"aws:SourceArn": topic}}}), &SendRight::Missing),
            (json!({"Principal": {"Service": "sns.amazonaws.com"}}), &SendRight::Missing),
            (json!({"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}), &SendRight::Missing),
            (json!({"Action": "sqs:ReceiveMessage"}), &SendRight::Missing),
            (json!({"Resource": format!("{QUEUE}-dead")}), &SendRight::Missing),
            (json!({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}), &SendRight::Unclear),
            (json!({"NotAction": "sqs:DeleteMessage"}), &SendRight::Unclear),
        ] {
            assert_eq!(right(&json!([allowing(&changes)])), *expected, "{changes}");
        }
        assert_eq!(right(&allowing(&json!({}))), named, "one statement need be no list");
        assert_eq!(right(&json!([])), SendRight::Missing);
        assert_eq!(SendRight::of(None, QUEUE), SendRight::Missing);
        assert_eq!(SendRight::of(Some("no JSON"), QUEUE), SendRight::Unclear);
    }

    #[test]
    fn what_forbids_wins_unless_it_is_about_connections_without_tls() {
        let deny = |condition: &Value| {
            let denying = json!({"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Condition": condition});
            right(&json!([allowing(&json!({})), allowing(&denying)]))
        };
        assert_eq!(deny(&Value::Null), SendRight::Denied);
        let plain = json!({"Bool": {"aws:SecureTransport": "false"}});
        assert!(matches!(deny(&plain), SendRight::Allowed { .. }));
        assert_eq!(deny(&json!({"StringNotEquals": {"aws:SourceAccount": "1"}})), SendRight::Unclear);
    }

    #[test]
    fn the_way_of_messages_is_read_and_looking_never_costs_one() {
        let read = |waiting: &'static str, redrive: Option<&'static str>, key: Option<&'static str>| {
            QueueTraits::read(|name| match name {
                "VisibilityTimeout" => Some("60"),
                "ApproximateNumberOfMessages" => Some(waiting),
                "RedrivePolicy" => redrive,
                "KmsMasterKeyId" => key,
                _ => None,
            })
        };
        let traits = read("0", Some(r#"{"maxReceiveCount": "5", "deadLetterTargetArn": "x"}"#), None);
        assert_eq!((traits.visibility, traits.most_receives), (Some(Duration::from_mins(1)), Some(5)));
        for (waiting, redrive, expected) in [
            ("1", None, false),
            ("1", Some(r#"{"maxReceiveCount": 5}"#), false),
            ("1", Some(r#"{"maxReceiveCount": 2}"#), true),
            ("0", Some(r#"{"maxReceiveCount": 1}"#), false),
        ] {
            assert_eq!(read(waiting, redrive, None).may_lose_by_looking(), expected, "{waiting} {redrive:?}");
        }
        for (key, expected) in [
            (None, QueueEncryption::Open),
            (Some("alias/aws/sqs"), QueueEncryption::KeyOfAws),
            (Some("arn:aws:kms:eu-central-1:111122223333:alias/aws/sqs"), QueueEncryption::KeyOfAws),
            (Some("1a2b"), QueueEncryption::Key),
        ] {
            assert_eq!(read("0", None, key).encryption, expected, "{key:?}");
        }
    }
}
