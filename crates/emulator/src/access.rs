//! May a principal do this? Its own rights joined with the permissions policies of the domain and the repository.
//!
//! Within the owner's account either side suffices; from another account both must allow the action; a denial in a
//! policy always wins. Of a policy, `Effect`, `Principal` and `Action` are read; resources and conditions count as met.
//! A policy never refuses a change of policies, so that an owner cannot lock itself out. Both planes decide here.

use serde_json::Value;

use crate::store::{AllowedActions, DomainKey, RepositoryKey, ResourcePolicy, Store};

/// The principal that wants to act.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessSubject<'a> {
    /// The ARN, which contains the account.
    pub arn: &'a str,
    pub allowed: &'a AllowedActions,
}

/// Whether a principal may act, with the reason if it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessDecision {
    Allowed,
    /// The principal's own rights do not allow it.
    NotInIdentityPolicy,
    /// The principal is of another account, and no policy there allows it.
    NotInResourcePolicy,
    /// A policy denies it.
    Forbidden,
}

impl AccessDecision {
    /// The service's sentence for a refusal; `None` if the action is allowed.
    pub(crate) fn refusal(self, arn: &str, action: &str, resource: &str) -> Option<String> {
        let reason = match self {
            Self::Allowed => return None,
            Self::NotInIdentityPolicy => {
                format!("because no identity-based policy allows the {action} action")
            }
            Self::NotInResourcePolicy => {
                format!("because no resource-based policy allows the {action} action")
            }
            Self::Forbidden => "with an explicit deny in a resource-based policy".to_owned(),
        };
        Some(format!("User: {arn} is not authorized to perform: {action} on resource: {resource} {reason}"))
    }
}

/// Decides by the policies in the store. A domain that does not exist counts as the principal's own, without a policy:
/// the caller reports that it does not exist.
pub(crate) fn decide(
    store: &Store,
    subject: AccessSubject<'_>,
    action: &str,
    domain: &DomainKey,
    repository: Option<&RepositoryKey>,
) -> AccessDecision {
    let Ok(domain) = store.domain(domain) else {
        return by_policies(subject, action, account(subject.arn), &[]);
    };
    let of_repository = repository.and_then(|key| store.repository(key).ok()?.policy);
    let policies: Vec<ResourcePolicy> = domain.policy.into_iter().chain(of_repository).collect();
    by_policies(subject, action, &domain.key.owner, &policies)
}

fn by_policies(subject: AccessSubject<'_>, action: &str, owner: &str, policies: &[ResourcePolicy]) -> AccessDecision {
    let changes_policies = action.ends_with("PermissionsPolicy");
    let effects: Vec<PolicyEffect> =
        policies.iter().flat_map(|policy| effects(&policy.document, subject.arn, action)).collect();
    let forbidden = effects.contains(&PolicyEffect::Deny) && !changes_policies;
    let offered = effects.contains(&PolicyEffect::Allow);
    let own = subject.allowed.allows(action);
    let same_account = account(subject.arn) == owner;
    if forbidden {
        AccessDecision::Forbidden
    } else if same_account && (own || offered) {
        AccessDecision::Allowed
    } else if !own {
        AccessDecision::NotInIdentityPolicy
    } else if offered {
        AccessDecision::Allowed
    } else {
        AccessDecision::NotInResourcePolicy
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyEffect {
    Allow,
    Deny,
}

/// The effects of the statements that name this principal and this action.
fn effects(document: &str, arn: &str, action: &str) -> Vec<PolicyEffect> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let speaks = |statement: &&Value| {
        let actions = words(&statement["Action"]);
        let principals = &statement["Principal"];
        let principals = if principals.is_object() { &principals["AWS"] } else { principals };
        actions.iter().any(|pattern| covers(pattern, action))
            && words(principals).iter().any(|principal| names(principal, arn))
    };
    let statements = one_or_many(&document["Statement"]).iter().filter(speaks);
    statements
        .filter_map(|statement| match statement["Effect"].as_str()? {
            "Allow" => Some(PolicyEffect::Allow),
            "Deny" => Some(PolicyEffect::Deny),
            _ => None,
        })
        .collect()
}

/// A policy writes a list of one value as the value itself.
fn one_or_many(value: &Value) -> &[Value] {
    match value {
        Value::Array(many) => many,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

fn words(value: &Value) -> Vec<&str> {
    one_or_many(value).iter().filter_map(Value::as_str).collect()
}

/// Action names ignore case; a final star matches any rest.
fn covers(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => action.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => action.eq_ignore_ascii_case(pattern),
    }
}

/// Whether a policy's principal means this ARN: everyone, an account, the user itself, or the role of a session.
fn names(principal: &str, arn: &str) -> bool {
    let account = account(arn);
    let role = arn.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next());
    principal == "*"
        || principal == account
        || principal == arn
        || principal == format!("arn:aws:iam::{account}:root")
        || role.is_some_and(|role| {
            let rest = principal.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_prefix(account));
            let path = rest.and_then(|rest| rest.strip_prefix(":role/"));
            path.is_some_and(|path| path.rsplit('/').next() == Some(role))
        })
}

fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "codeartifact:ReadFromRepository";
    const OWNER: &str = "111122223333";
    const GUEST: &str = "arn:aws:sts::444455556666:assumed-role/build/run-1";
    const HOST: &str = "arn:aws:iam::111122223333:user/host";

    fn decision(arn: &str, allowed: &AllowedActions, policy: &str) -> AccessDecision {
        let policy = ResourcePolicy { revision: "1".to_owned(), document: policy.to_owned() };
        by_policies(AccessSubject { arn, allowed }, READ, OWNER, &[policy])
    }

    fn statement(effect: &str, principal: &str) -> String {
        format!(
            r#"{{"Statement": {{"Effect": "{effect}", "Principal": {principal},
                "Action": "codeartifact:read*", "Resource": "*"}}}}"#
        )
    }

    #[test]
    fn another_account_needs_both_sides() {
        let nothing = AllowedActions::Only(std::collections::BTreeSet::new());
        for principal in [
            r#""*""#,
            r#"{"AWS": "444455556666"}"#,
            r#"{"AWS": ["arn:aws:iam::444455556666:root"]}"#,
            r#"{"AWS": "arn:aws:iam::444455556666:role/team/build"}"#,
        ] {
            let policy = statement("Allow", principal);
            assert_eq!(decision(GUEST, &AllowedActions::All, &policy), AccessDecision::Allowed, "{principal}");
            assert_eq!(decision(GUEST, &nothing, &policy), AccessDecision::NotInIdentityPolicy, "{principal}");
        }
        for principal in [r#"{"AWS": "777788889999"}"#, r#"{"AWS": "arn:aws:iam::444455556666:role/other"}"#] {
            let policy = statement("Allow", principal);
            assert_eq!(
                decision(GUEST, &AllowedActions::All, &policy),
                AccessDecision::NotInResourcePolicy,
                "{principal}"
            );
        }
        assert_eq!(decision(GUEST, &AllowedActions::All, "{}"), AccessDecision::NotInResourcePolicy);
    }

    #[test]
    fn in_the_owners_account_one_side_suffices_and_a_denial_wins() {
        let nothing = AllowedActions::Only(std::collections::BTreeSet::new());
        assert_eq!(decision(HOST, &AllowedActions::All, "{}"), AccessDecision::Allowed);
        assert_eq!(decision(HOST, &nothing, &statement("Allow", r#""*""#)), AccessDecision::Allowed);
        assert_eq!(decision(HOST, &nothing, "{}"), AccessDecision::NotInIdentityPolicy);
        assert_eq!(decision(HOST, &AllowedActions::All, &statement("Deny", r#""*""#)), AccessDecision::Forbidden);
    }

    #[test]
    fn no_owner_is_locked_out_of_changing_a_policy() {
        let deny =
            ResourcePolicy { revision: "1".to_owned(), document: statement("Deny", r#""*""#).replace("read", "") };
        let subject = AccessSubject { arn: HOST, allowed: &AllowedActions::All };
        let change = "codeartifact:PutDomainPermissionsPolicy";
        assert_eq!(by_policies(subject, change, OWNER, std::slice::from_ref(&deny)), AccessDecision::Allowed);
        assert_eq!(by_policies(subject, READ, OWNER, &[deny]), AccessDecision::Forbidden);
    }
}
