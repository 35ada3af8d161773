//! `wheelport iam-policy`: the least that AWS has to allow, as a policy to attach.
//!
//! The policies are the files of `deploy/iam`; this command fills in their placeholders, words in capitals. It makes no
//! request.

use std::io::Write as _;

use clap::{Args, ValueEnum};

use super::outcome::{CommandError, Ended};
use crate::config::RepositoryOverrides;
use crate::control::{AccountId, DomainName, RegionName, RepositoryName};

#[derive(Debug, Clone, Args)]
// The policies know no account by themselves, so the default that `serve` names does not hold here.
#[command(mut_arg("domain_owner", |owner| owner.help("Account that owns the domain, twelve digits")))]
pub(super) struct IamPolicyArgs {
    /// Which policy
    #[arg(value_enum, default_value_t = PolicyTemplate::Read)]
    policy: PolicyTemplate,
    #[command(flatten)]
    repository: RepositoryOverrides,
    /// Region of the domain
    #[arg(long, value_name = "REGION", env = "AWS_REGION")]
    region: Option<RegionName>,
    /// The other account, for the cross-account policies
    #[arg(long, value_name = "ACCOUNT")]
    reader: Option<AccountId>,
    /// The bucket that replicas share, for `fleet`
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// The name of the queue of events, for `fleet`
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The id of the KMS key that encrypts the bucket, for `fleet`
    #[arg(long, value_name = "ID")]
    key: Option<String>,
}

/// What the policy is for and where it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyTemplate {
    /// For Wheelport's role: install
    Read,
    /// For Wheelport's role: install and publish
    Publish,
    /// For Wheelport's role, besides one of these: where versions come from and how old they are
    Origins,
    /// For Wheelport's role, besides one of these: what replicas share
    Fleet,
    /// For the domain: another account mints tokens
    CrossAccountDomain,
    /// For the repository: another account installs
    CrossAccountRepository,
}

impl PolicyTemplate {
    fn text(self) -> &'static str {
        match self {
            Self::Read => include_str!("../../deploy/iam/read.json"),
            Self::Publish => include_str!("../../deploy/iam/publish.json"),
            Self::Origins => include_str!("../../deploy/iam/origins.json"),
            Self::Fleet => include_str!("../../deploy/iam/fleet.json"),
            Self::CrossAccountDomain => include_str!("../../deploy/iam/cross-account-domain.json"),
            Self::CrossAccountRepository => include_str!("../../deploy/iam/cross-account-repository.json"),
        }
    }
}

/// A word in capitals that stands for a value of the reader's account.
struct Placeholder<'a> {
    word: &'static str,
    flag: &'static str,
    value: Option<&'a str>,
}

impl IamPolicyArgs {
    fn placeholders(&self) -> [Placeholder<'_>; 8] {
        let placeholder = |word, flag, value| Placeholder { word, flag, value };
        [
            placeholder("REGION", "--region", self.region.as_ref().map(RegionName::as_str)),
            placeholder("ACCOUNT", "--domain-owner", self.repository.domain_owner.as_ref().map(AccountId::as_str)),
            placeholder("DOMAIN", "--domain", self.repository.domain.as_ref().map(DomainName::as_str)),
            placeholder("REPOSITORY", "--repository", self.repository.name.as_ref().map(RepositoryName::as_str)),
            placeholder("READER", "--reader", self.reader.as_ref().map(AccountId::as_str)),
            placeholder("BUCKET", "--bucket", self.bucket.as_deref()),
            placeholder("QUEUE", "--queue", self.queue.as_deref()),
            placeholder("KEY", "--key", self.key.as_deref()),
        ]
    }
}

/// Prints the policy. Names the placeholders without a value on standard error.
pub(super) fn run(args: &IamPolicyArgs) -> Result<Ended, CommandError> {
    let placeholders = args.placeholders();
    let (text, missing) = fill(args.policy.text(), &placeholders);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::start)?;
    if !missing.is_empty() {
        let flags: Vec<String> =
            missing.iter().map(|placeholder| format!("{} ({})", placeholder.word, placeholder.flag)).collect();
        writeln!(std::io::stderr(), "Still to be filled in: {}", flags.join(", ")).map_err(CommandError::start)?;
    }
    Ok(Ended::Well)
}

/// Replaces placeholders in one pass, so that a repository may be called `DOMAIN`. Also returns the placeholders that
/// have no value.
fn fill<'a>(template: &str, placeholders: &'a [Placeholder<'a>]) -> (String, Vec<&'a Placeholder<'a>>) {
    let mut text = String::with_capacity(template.len() + 128);
    let mut missing: Vec<&Placeholder<'_>> = Vec::new();
    for token in template.split_inclusive(|c: char| !c.is_ascii_uppercase()) {
        let word = token.trim_end_matches(|c: char| !c.is_ascii_uppercase());
        let found = placeholders.iter().find(|placeholder| placeholder.word == word);
        match found.map(|placeholder| (placeholder, placeholder.value)) {
            Some((_, Some(value))) => text.push_str(value),
            Some((placeholder, None)) => {
                text.push_str(word);
                if !missing.iter().any(|known| known.word == word) {
                    missing.push(placeholder);
                }
            }
            None => text.push_str(word),
        }
        text.push_str(&token[word.len()..]);
    }
    (text, missing)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: IamPolicyArgs,
    }

    fn filled(line: &[&str]) -> (String, Vec<&'static str>) {
        let line = CommandLine::try_parse_from([&["iam-policy"], line].concat()).expect("the line is valid");
        let placeholders = line.args.placeholders();
        let (text, missing) = fill(line.args.policy.text(), &placeholders);
        (text, missing.into_iter().map(|placeholder| placeholder.word).collect())
    }

    #[test]
    fn every_policy_is_filled_in_and_stays_json() {
        for policy in PolicyTemplate::value_variants() {
            let name = policy.to_possible_value().expect("no policy is hidden");
            let (text, missing) = filled(&[
                name.get_name(),
                "--domain=acme",
                "--domain-owner=111122223333",
                "--repository=DOMAIN",
                "--region=eu-central-1",
                "--reader=444455556666",
                "--bucket=acme-wheelport",
                "--queue=wheelport-events",
                "--key=1a2b",
            ]);
            assert!(missing.is_empty(), "{missing:?}");
            let policy: Value = serde_json::from_str(&text).expect("a policy is JSON");
            assert_eq!(policy["Version"], "2012-10-17");
            for word in ["REGION", "ACCOUNT:", "REPOSITORY", "READER", "BUCKET", "QUEUE", "key/KEY", "acme:"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }

    #[test]
    fn values_stand_where_the_service_expects_them() {
        let (text, _) = filled(&[
            "publish",
            "--domain=acme",
            "--domain-owner=111122223333",
            "--repository=DOMAIN",
            "--region=eu-central-1",
        ]);
        for arn in [
            "\"arn:aws:codeartifact:eu-central-1:111122223333:domain/acme\"",
            "\"arn:aws:codeartifact:eu-central-1:111122223333:repository/acme/DOMAIN\"",
            "\"arn:aws:codeartifact:eu-central-1:111122223333:package/acme/DOMAIN/pypi//*\"",
        ] {
            assert!(text.contains(arn), "{arn} in {text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_once_and_left_in_place() {
        let (text, missing) = filled(&["read", "--domain=acme", "--region=eu-central-1"]);
        assert_eq!(missing, ["ACCOUNT", "REPOSITORY"]);
        assert!(text.contains("arn:aws:codeartifact:eu-central-1:ACCOUNT:repository/acme/REPOSITORY"), "{text}");
    }
}
