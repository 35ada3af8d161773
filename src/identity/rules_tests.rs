//! Tables that make sense and tables that do not.

use std::num::NonZeroU32;

use serde::Deserialize;
use wheelport_index::ProjectName;

use super::super::tables::IssuerTable;
use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn rules(text: &str) -> Result<IdentityRules, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct File {
        issuer: Vec<IssuerTable>,
        identity: Vec<IdentityTable>,
        publisher: Vec<PublisherTable>,
    }
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let (issuers, identities, publishers) = (file.issuer, file.identity, file.publisher);
    IdentityRules::new(IdentityTables { issuers, identities, publishers })
}

const ISSUER: &str = "[[issuer]]\nname = \"ci\"\nurl = \"https://ci.invalid\"\naudience = \"wheelport\"\n";

fn digest(token: &str) -> String {
    Sha256::of(token.as_bytes()).to_string()
}

#[test]
fn static_tokens_are_found_by_their_digest() -> Outcome {
    let rules = rules(&format!(
        "[[publisher]]\nname = \"one\"\ntoken_sha256 = \"{}\"\nprojects = [\"acme-*\"]\nroutes = [\"main\"]\n\
         [[identity]]\nname = \"two\"\ntoken_sha256 = \"{}\"\nread = [\"main\"]\n",
        digest("one"),
        digest("two")
    ))?;
    let bearer = |token: &str| rules.bearer(&Sha256::of(token.as_bytes())).cloned();
    let one = bearer("one").ok_or("unknown")?;
    assert_eq!((&*one.name, one.kind), ("one", IdentityKind::StaticToken));
    assert!(one.grants.may_publish("main", &ProjectName::parse("acme-x")?));
    assert!(!one.grants.may_publish("main", &ProjectName::parse("other")?));
    assert!(!one.grants.may_publish_through("data") && !one.grants.may_read("main"));
    let two = bearer("two").ok_or("unknown")?;
    assert!(two.grants.may_read("main") && !two.grants.may_publish_through("main"));
    assert!(bearer("three").is_none());
    assert!(rules.has_token_for("main") && !rules.has_token_for("data"));
    assert!(rules.can_anyone_read("main") && !rules.can_anyone_read("data"));
    assert_eq!((rules.unknown_route(&["main"]), rules.unknown_route(&["data"])), (None, Some("main")));
    Ok(())
}

#[test]
fn the_first_rule_names_and_all_rules_grant() -> Outcome {
    let rules = rules(&format!(
        "{ISSUER}\
         [[identity]]\nname = \"ci:{{project}}\"\nissuer = \"ci\"\nclaims = {{ project = \"acme/*\" }}\n\
         read = [\"*\"]\ndownloads_per_minute = 10\n\
         [[identity]]\nname = \"other\"\nissuer = \"ci\"\nclaims = {{ branch = \"main\" }}\npublish = [\"main\"]\n\
         projects = [\"acme-*\"]\ndownloads_per_minute = 20\n"
    ))?;
    let issuer = Arc::clone(&rules.issuers()[0]);
    let claimant = |claims: serde_json::Value| -> Result<Identity, serde_json::Error> {
        Ok(rules.claimant(&issuer, &serde_json::from_value(claims)?))
    };
    let both = claimant(serde_json::json!({"project": "acme/x", "branch": "main"}))?;
    assert_eq!(&*both.name, "ci:acme/x");
    assert!(both.grants.may_read("any") && both.grants.may_publish("main", &ProjectName::parse("acme-y")?));
    assert_eq!(both.caps.downloads.map(NonZeroU32::get), Some(20));
    let second = claimant(serde_json::json!({"project": "x", "branch": "main"}))?;
    assert!(&*second.name == "other" && !second.grants.may_read("main"));
    let none = claimant(serde_json::json!({"project": "x"}))?;
    assert!(&*none.name == "ci" && none.grants == Grants::default());
    Ok(())
}

#[test]
fn tables_that_make_no_sense_are_named() {
    let digest = "0".repeat(64);
    let identity = |rest: &str| format!("{ISSUER}[[identity]]\nname = \"a\"\n{rest}");
    for (text, part) in [
        ("[[publisher]]\nname = \"ci\"\ntoken_sha256 = \"hunter2\"".to_owned(), "never the token itself"),
        (format!("[[publisher]]\nname = \" \"\ntoken_sha256 = \"{digest}\""), "needs a name"),
        (format!("[[publisher]]\nname = \"a\"\ntoken_sha256 = \"{digest}\"\nprojects = [\"a b\"]"), "`a b`"),
        (
            format!(
                "[[publisher]]\nname = \"a\"\ntoken_sha256 = \"{digest}\"\n\
                 [[identity]]\nname = \"b\"\ntoken_sha256 = \"{digest}\"\nread = [\"*\"]"
            ),
            "same name or token",
        ),
        (format!("[[publisher]]\nname = \"a\"\ntoken_sha256 = \"{digest}\"\ntoken = \"x\""), "token"),
        (identity("issuer = \"ci\"\nread = [\"*\"]"), "sub = \"*\""),
        (identity("issuer = \"gone\"\nclaims = { a = \"b\" }\nread = [\"*\"]"), "no [[issuer]] `gone`"),
        (identity("issuer = \"ci\"\nclaims = { a = \"b\" }"), "it may do nothing"),
        (identity("issuer = \"ci\"\nclaims = { a = \"b\" }\nread = [\"*\"]\nprojects = [\"a\"]"), "names no route"),
        (identity("read = [\"*\"]"), "either an issuer"),
        (identity("client_certificate = \"a b\"\nread = [\"*\"]"), "spiffe://acme/build/*"),
        (identity("client_certificate = \"a\"\nissuer = \"ci\"\nread = [\"*\"]"), "either an issuer"),
        (identity("client_certificate = \"a\"\nclaims = { a = \"b\" }\nread = [\"*\"]"), "no claims"),
        (identity(&format!("issuer = \"ci\"\ntoken_sha256 = \"{digest}\"\nread = [\"*\"]")), "either an issuer"),
        (identity(&format!("claims = {{ a = \"b\" }}\ntoken_sha256 = \"{digest}\"\nread = [\"*\"]")), "no claims"),
        (format!("{ISSUER}{ISSUER}"), "same name or url"),
        (ISSUER.replace("https", "http"), "over https"),
        (ISSUER.replace("https://ci.invalid", "ci"), "such as \"https://"),
        (ISSUER.replace("wheelport", " "), "`aud`"),
        (ISSUER.replace("\"ci\"", "\"a b\""), "letters, digits"),
    ] {
        let refused = rules(&text).err().unwrap_or_default();
        assert!(refused.contains(part), "{text}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
