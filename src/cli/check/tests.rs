//! The doctor from end to end: in a child process with an environment of its own, against a scripted AWS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use url::Url;

use super::target::{CacheTarget, CheckTarget};
use super::*;
use crate::control::stub::{Reply, Seen, Stub, error, ok, xml};
use crate::control::{AccountId, AwsSettings, DomainName, RepositoryName};
use crate::policy::{PolicySettings, RuleSet};
use crate::upstream::ClientSettings;
use wheelport_runtime::Size;

const PAGE: &str = "/pypi/python/simple/acme-lib/";
const IDENTITY: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/ci</Arn><UserId>A</UserId>\
    <Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

#[tokio::test]
#[ignore = "run by the tests below, with an environment of their own"]
async fn child_doctor() {
    #[expect(clippy::disallowed_methods, reason = "stands in for the process edge")]
    let environment = |name: &str| std::env::var(name).ok();
    let endpoint = environment("PROBE_ENDPOINT").and_then(|url| Url::parse(&url).ok());
    let doctor = Doctor {
        settings: None,
        targets: vec![CheckTarget {
            route: "pypi".to_owned(),
            domain: DomainName::parse("acme").expect("valid"),
            owner: AccountId::parse("111122223333").ok(),
            repository: RepositoryName::parse("python").expect("valid"),
            aws: AwsSettings::default(),
            upload: true,
            endpoint,
            asks_for_origins: false,
            follows_upstreams: environment("PROBE_FOLLOWS").is_some(),
            rules: Some(Arc::new(rules(environment("PROBE_PRIVATE"), environment("PROBE_RULES")))),
        }],
        cache: CacheTarget { dir: environment("PROBE_DIR").expect("set").into(), max_size: Size::mib(1).0 },
        tls: None,
        upstream: ClientSettings::default(),
        fleet: crate::fleet::FleetSettings::default(),
        environment: &environment,
        clock: Clock::system(),
    };
    let report = doctor.run().await;
    println!("{}\nBEGIN{}END\ncode={}", report.human(), report.json(), u8::from(!report.ok));
}

/// Names that are private, and a file of rules.
fn rules(private: Option<String>, file: Option<String>) -> RuleSet {
    let private: Vec<String> = private.into_iter().collect();
    let table = serde_json::from_value(serde_json::json!({ "private": private })).expect("a table");
    let routes = vec![Arc::from("pypi"), Arc::from("other")];
    PolicySettings { table, file: file.map(Into::into), routes }.read().expect("rules")
}

/// Whether one guard is switched off in this process; a child has an environment of its own.
fn sabotage() -> Option<(&'static str, String)> {
    const SWITCH: &str = "WHEELPORT_SABOTAGE";
    #[expect(clippy::disallowed_methods, reason = "passes on what is chosen for tests")]
    std::env::var(SWITCH).ok().map(|guard| (SWITCH, guard))
}

async fn visit(stub: Option<&Stub>, home: &Path, variables: &[(&str, &str)]) -> (String, serde_json::Value) {
    let mut command = Command::new(std::env::current_exe().expect("tests run from a file"));
    command.args(["--exact", "cli::check::tests::child_doctor", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", home);
    command.env("PROBE_DIR", home.join("cache")).env("AWS_REGION", "eu-central-1");
    if let Some(stub) = stub {
        command.env("AWS_ENDPOINT_URL", &stub.url).env("PROBE_ENDPOINT", format!("{}/pypi/python/", stub.url));
    }
    command.envs(variables.iter().copied()).envs(sabotage());
    let output = wheelport_runtime::blocking(move || command.output()).await.expect("joined").expect("started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("canary"), "{text}");
    let json = text.split_once("BEGIN").and_then(|(_, rest)| rest.split_once("END")).expect("a report").0;
    let json = serde_json::from_str(json).expect("valid JSON");
    (text, json)
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "key-canary")];

fn status(json: &serde_json::Value, step: &str) -> String {
    let findings = json["findings"].as_array().expect("a list");
    let finding = findings.iter().find(|finding| finding["step"] == step);
    finding.and_then(|finding| finding["status"].as_str()).unwrap_or("absent").to_owned()
}

fn healthy(seen: &Seen) -> Reply {
    let target = seen.target.as_str();
    if target.starts_with("/v1/authorization-token") {
        let ends = Clock::system().unix_seconds() + 43_200;
        ok(&format!("{{\"authorizationToken\":\"token-canary\",\"expiration\":{ends}}}"))
    } else if target.starts_with("/v1/packages") {
        ok(r#"{"packages":[{"format":"pypi","package":"acme-lib"}]}"#)
    } else if target == PAGE {
        let media = wheelport_index::media::JSON_V1.to_owned();
        (
            200,
            vec![("content-type", media)],
            r#"{"meta":{"api-version":"1.1"},"name":"acme-lib","files":[]}"#.to_owned(),
        )
    } else if target == "/" {
        xml(200, IDENTITY)
    } else {
        error(404, "ResourceNotFoundException", "nothing here")
    }
}

#[tokio::test]
async fn names_of_both_sides_are_named_and_so_is_the_right_to_ask() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let origins = |seen: &Seen| match seen.target.as_str() {
        versions if versions.starts_with("/v1/package/versions") => ok(concat!(
            r#"{"versions":[{"version":"1.0","status":"Published","origin":{"originType":"INTERNAL"}},"#,
            r#"{"version":"2.0","status":"Published","origin":{"originType":"EXTERNAL"}}]}"#
        )),
        package if package.starts_with("/v1/package?") => ok(r#"{"package":{"format":"pypi","name":"acme-lib"}}"#),
        _ => healthy(seen),
    };
    let stub = Stub::start(origins).await;
    let private = |glob| [KEYS[0], KEYS[1], ("PROBE_PRIVATE", glob)];
    let (text, json) = visit(Some(&stub), home.path(), &private("acme-*")).await;
    assert_eq!(status(&json, "origins"), "warn", "{text}");
    assert!(text.contains("1 of the first 1 names") && text.contains("code=0"), "{text}");
    let (text, json) = visit(Some(&stub), home.path(), &private("other-*")).await;
    assert_eq!(status(&json, "origins"), "ok", "{text}");
    assert!(text.contains("no listed name depends on them"), "{text}");
    let (text, json) = visit(Some(&stub), home.path(), &KEYS).await;
    assert_eq!(status(&json, "origins"), "absent", "{text}");
    let denied = |seen: &Seen| match seen.target.as_str() {
        package if package.starts_with("/v1/package?") => error(403, "AccessDeniedException", "not authorized"),
        _ => healthy(seen),
    };
    let stub = Stub::start(denied).await;
    let (text, json) = visit(Some(&stub), home.path(), &private("acme-*")).await;
    assert_eq!(status(&json, "origins"), "fail", "{text}");
    assert!(text.contains("wheelport iam-policy origins"), "{text}");
}

/// The calls that decisions and events lead to, by their right and the beginning of their target.
const ASKED: [(&str, &str); 4] = [
    ("DescribePackage", "/v1/package?"),
    ("ListPackageVersions", "/v1/package/versions?"),
    ("DescribePackageVersion", "/v1/package/version?"),
    ("DescribeRepository", "/v1/repository?"),
];

/// An AWS that responds to these calls, but for one.
async fn asked(denied: &'static str) -> Stub {
    let respond = move |seen: &Seen| match ASKED.iter().find(|(_, target)| seen.target.starts_with(target)) {
        Some((right, _)) if *right == denied => {
            let said = format!("User: x is not authorized to perform: codeartifact:{right} on resource: y");
            error(403, "AccessDeniedException", &said)
        }
        Some(("DescribePackage", _)) => ok(r#"{"package":{"format":"pypi","name":"acme-lib"}}"#),
        Some(("ListPackageVersions", _)) => ok(r#"{"versions":[{"version":"1.0","status":"Published"}]}"#),
        Some(("DescribePackageVersion", _)) => ok(r#"{"packageVersion":{"version":"1.0","publishedTime":1700000000}}"#),
        Some(_) if seen.target.contains("repository=shared") => ok(r#"{"repository":{"name":"shared"}}"#),
        Some(_) => ok(r#"{"repository":{"name":"python","upstreams":[{"repositoryName":"shared"}]}}"#),
        None => healthy(seen),
    };
    Stub::start(respond).await
}

#[tokio::test]
async fn each_right_that_rules_and_events_use_is_asked_for_and_the_missing_one_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let rules = home.path().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"cooldown\"\nyounger_than = \"7 days\"\n").expect("written");
    let rules = rules.display().to_string();
    let with = [KEYS[0], KEYS[1], ("PROBE_RULES", rules.as_str()), ("PROBE_FOLLOWS", "1")];
    for (denied, expected, words) in [
        ("nothing", ["ok", "ok", "ok"], "python, shared"),
        ("DescribePackage", ["fail", "ok", "ok"], "-> allow codeartifact:DescribePackage and"),
        ("ListPackageVersions", ["fail", "fail", "ok"], "-> allow codeartifact:ListPackageVersions on"),
        ("DescribePackageVersion", ["ok", "fail", "ok"], "-> allow codeartifact:DescribePackageVersion on"),
        ("DescribeRepository", ["ok", "ok", "warn"], "-> allow codeartifact:DescribeRepository on"),
    ] {
        let (text, json) = visit(Some(&asked(denied).await), home.path(), &with).await;
        assert_eq!(["origins", "ages", "upstreams"].map(|step| status(&json, step)), expected, "{denied}: {text}");
        assert!(text.contains(words), "{denied}: {text}");
    }
    // Nothing is asked that nothing uses: no rule, or one for another route.
    std::fs::write(&rules, "[[rule]]\nname = \"x\"\nyounger_than = \"7 days\"\nroutes = [\"other\"]\n")
        .expect("written");
    for variables in [&KEYS[..], &with[..3]] {
        let stub = asked("nothing").await;
        let (text, json) = visit(Some(&stub), home.path(), variables).await;
        assert!(["origins", "ages", "upstreams"].iter().all(|step| status(&json, step) == "absent"), "{text}");
        let is_asked = |seen: &Seen| ASKED.iter().any(|(_, target)| seen.target.starts_with(target));
        assert!(!stub.seen().iter().any(is_asked), "{:?}", stub.seen());
    }
}

#[tokio::test]
async fn a_healthy_setup_passes_every_step() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let stub = Stub::start(healthy).await;
    let (text, json) = visit(Some(&stub), home.path(), &KEYS).await;
    for step in ["configuration", "credentials", "identity", "region", "token", "endpoint", "list", "read"] {
        assert_eq!(status(&json, step), "ok", "{step}: {text}");
    }
    assert_eq!(status(&json, "upload"), "warn", "{text}");
    assert!(text.contains("code=0") && text.contains("-> allow codeartifact:PublishPackageVersion"), "{text}");
    assert!(text.contains("arn:aws:iam::111122223333:user/ci"), "{text}");
    assert!(stub.seen().iter().all(|seen| !seen.target.starts_with("/pypi") || seen.method == "GET"));
    let page = stub.seen().into_iter().find(|seen| seen.target == PAGE).expect("read");
    assert!(page.authorization.starts_with("Basic "), "{}", page.authorization);
}

#[tokio::test]
async fn missing_rights_are_named_one_by_one() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let stub = Stub::start(|seen| {
        if seen.target.starts_with("/v1/packages") {
            error(403, "AccessDeniedException", "User: x is not authorized to perform: codeartifact:ListPackages")
        } else if seen.target.starts_with("/pypi/") {
            error(403, "AccessDeniedException", "not authorized")
        } else {
            healthy(seen)
        }
    })
    .await;
    let (text, json) = visit(Some(&stub), home.path(), &KEYS).await;
    assert_eq!((status(&json, "list"), status(&json, "read")), ("warn".to_owned(), "fail".to_owned()), "{text}");
    assert!(text.contains("codeartifact:ReadFromRepository") && text.contains("code=1"), "{text}");
}

#[tokio::test]
async fn a_missing_bearer_right_is_named_and_the_rest_is_skipped() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let stub = Stub::start(|seen| {
        if seen.target.starts_with("/v1/authorization-token") {
            error(
                403,
                "AccessDeniedException",
                "User: x is not authorized to perform: sts:GetServiceBearerToken on resource: *",
            )
        } else {
            healthy(seen)
        }
    })
    .await;
    let (text, json) = visit(Some(&stub), home.path(), &KEYS).await;
    assert_eq!((status(&json, "token"), status(&json, "read")), ("fail".to_owned(), "skip".to_owned()), "{text}");
    assert!(text.contains("sts:GetServiceBearerToken") && text.contains("identity policy"), "{text}");
}

#[tokio::test]
async fn a_stray_source_profile_is_found_and_explained() {
    let home = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(home.path().join(".aws")).expect("created");
    let config = "[profile mfa]\nregion = eu-central-1\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/x\n";
    std::fs::write(home.path().join(".aws/config"), config).expect("written");
    let (text, json) = visit(None, home.path(), &[("AWS_PROFILE", "mfa")]).await;
    assert_eq!(
        (status(&json, "profile"), status(&json, "credentials")),
        ("fail".to_owned(), "fail".to_owned()),
        "{text}"
    );
    for words in [
        "config:3:",
        "credential type source_profile requires role_arn, profile mfa",
        "mint session keys first",
        "2. profile files: profile `mfa` is selected",
        "skip  token [pypi]",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_report_too() {
    let report = Report::of_bad_configuration("unknown key `domian`, line 3");
    assert!(!report.ok);
    assert!(report.human().starts_with("fail  configuration: unknown key `domian`, line 3\n"), "{}", report.human());
}
