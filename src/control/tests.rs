//! The control plane against a scripted AWS on loopback.

use std::process::Command;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use secrecy::ExposeSecret as _;

use super::connect::{retries, time_limits};
use super::stub::{Reply, Seen, Stub, error, ok, xml};
use super::*;
use crate::token::{MintError, MintErrorKind};
use wheelport_runtime::Clock;

const TOKEN_PATH: &str = "/v1/authorization-token?";
const IDENTITY: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/x</Arn><UserId>A</UserId>\
    <Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";

fn domain() -> DomainId {
    DomainId {
        name: DomainName::parse("acme").expect("valid"),
        owner: Some(AccountId::parse("111122223333").expect("valid")),
        region: RegionName::parse("eu-central-1").expect("valid"),
    }
}

fn repository() -> RepositoryName {
    RepositoryName::parse("python").expect("valid")
}

fn control(endpoint: &str) -> ControlPlane {
    let keys = Credentials::new("AKIDEXAMPLE", "secret-canary", None, None, "test");
    let session = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .timeout_config(time_limits())
        .retry_config(retries())
        .sleep_impl(aws_sdk_codeartifact::config::SharedAsyncSleep::new(TokioSleep))
        .build();
    ControlPlane::assemble(AwsSettings::default(), session, Clock::system())
}

/// The SDK's own is not reachable from here.
#[derive(Debug)]
struct TokioSleep;

impl aws_sdk_codeartifact::config::AsyncSleep for TokioSleep {
    fn sleep(&self, time: Duration) -> aws_sdk_codeartifact::config::Sleep {
        aws_sdk_codeartifact::config::Sleep::new(tokio::time::sleep(time))
    }
}

fn token_response(seconds: u64) -> Reply {
    let ends = Clock::system().unix_seconds() + seconds;
    ok(&format!("{{\"authorizationToken\":\"token-canary\",\"expiration\":{ends}.25}}"))
}

async fn mint(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Result<u64, MintError>, Vec<Seen>) {
    let stub = Stub::start(script).await;
    let source = control(&stub.url).token_source(&domain(), TokenLifetime::default());
    let outcome = source.mint().await.map(|minted| {
        assert_eq!(minted.secret.expose_secret(), "token-canary");
        minted.lifetime.as_secs()
    });
    (outcome, stub.seen())
}

#[tokio::test]
async fn a_token_is_requested_as_the_service_model_says() {
    let (life, seen) = mint(|_| token_response(43_200)).await;
    assert!((43_190..=43_201).contains(&life.expect("minted")));
    let [request] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(request.method, "POST");
    assert!(request.target.starts_with(TOKEN_PATH), "{}", request.target);
    for parameter in ["domain=acme", "domain-owner=111122223333", "duration=43200"] {
        assert!(request.target.contains(parameter), "{}", request.target);
    }
    assert!(request.authorization.contains("/eu-central-1/codeartifact/aws4_request"));
    assert_eq!(request.body, "");
}

#[tokio::test]
async fn a_token_for_the_session_sends_zero() {
    let stub = Stub::start(|_| token_response(1_000)).await;
    let source = control(&stub.url).token_source(&domain(), TokenLifetime::Session);
    source.mint().await.map(drop).expect("minted");
    assert!(stub.seen()[0].target.contains("duration=0"), "{:?}", stub.seen());
}

#[tokio::test]
async fn odd_responses_give_no_token_or_no_lifetime() {
    for (body, expected) in [
        (r#"{"authorizationToken":"token-canary"}"#, Some(0)),
        (r#"{"authorizationToken":"token-canary","expiration":12}"#, Some(0)),
        (r#"{"authorizationToken":"","expiration":12}"#, None),
        (r#"{"authorizationToken":"a\nb","expiration":12}"#, None),
        (r#"{"expiration":12}"#, None),
        ("<html>hello</html>", None),
    ] {
        let (life, _) = mint(move |_| ok(body)).await;
        assert_eq!(life.as_ref().ok(), expected.as_ref(), "{body}: {life:?}");
    }
}

#[tokio::test]
async fn the_lifetime_is_counted_by_the_clock_of_aws() {
    let (life, _) = mint(|_| {
        let there = Clock::system().now() + Duration::from_hours(24);
        let (status, mut headers, body) = token_response(24 * 3_600 + 43_200);
        headers.push(("date", httpdate::fmt_http_date(there)));
        (status, headers, body)
    })
    .await;
    assert!((43_190..=43_201).contains(life.as_ref().expect("minted")), "{life:?}");
}

#[tokio::test]
async fn refusals_are_classified() {
    for (status, code, message, kind, words) in [
        (
            403,
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/x is not authorized to perform: sts:GetServiceBearerToken on resource: *",
            MintErrorKind::Denied,
            "identity policy",
        ),
        (
            403,
            "AccessDeniedException",
            "User: x is not authorized to perform: codeartifact:GetAuthorizationToken on resource: arn",
            MintErrorKind::Denied,
            "domain's ARN",
        ),
        (
            404,
            "ResourceNotFoundException",
            "Domain not found",
            MintErrorKind::NotFound,
            "domain acme of account 111122223333 in eu-central-1",
        ),
        (
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid",
            MintErrorKind::NoCredentials,
            "access key",
        ),
        (
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
            MintErrorKind::NoCredentials,
            "expired",
        ),
    ] {
        let (outcome, _) = mint(move |_| error(status, code, message)).await;
        let failure = outcome.expect_err("scripted");
        assert_eq!(failure.kind, kind, "{code}: {failure}");
        assert!(failure.message.contains(words), "{failure}");
        assert!(!failure.message.contains("canary"), "{failure}");
    }
}

#[tokio::test]
async fn throttling_carries_the_retry_after_of_the_service() {
    let (outcome, seen) = mint(|_| {
        let (status, mut headers, body) = error(429, "ThrottlingException", "Rate exceeded");
        headers.push(("retry-after", "1".to_owned()));
        (status, headers, body)
    })
    .await;
    let failure = outcome.expect_err("scripted");
    assert_eq!((failure.kind, failure.retry_after), (MintErrorKind::Throttled, Some(Duration::from_secs(1))));
    assert_eq!(seen.len(), 3, "the SDK's own attempts");
}

#[tokio::test]
async fn an_address_without_a_server_is_unreachable() {
    let source = control("http://127.0.0.1:1").token_source(&domain(), TokenLifetime::default());
    let failure = source.mint().await.map(drop).expect_err("no server listens");
    assert_eq!(failure.kind, MintErrorKind::Unreachable, "{failure}");
    assert!(failure.message.contains("refused"), "{failure}");
}

#[tokio::test]
async fn a_wrong_clock_is_noticed_and_named() {
    let stub = Stub::start(|_| {
        let there = Clock::system().now() - Duration::from_hours(1);
        let (status, mut headers, body) = error(403, "AccessDeniedException", "no");
        headers.push(("date", httpdate::fmt_http_date(there)));
        (status, headers, body)
    })
    .await;
    let control = control(&stub.url);
    let source = control.token_source(&domain(), TokenLifetime::default());
    let failure = source.mint().await.map(drop).expect_err("scripted");
    assert!(failure.message.contains("ahead of AWS's"), "{failure}");
    assert!(control.clock_skew().is_some_and(|seconds| (3_590..3_700).contains(&seconds)));
}

#[tokio::test]
async fn a_custom_endpoint_gets_the_repository_request() {
    let stub = Stub::start(|_| ok(r#"{"repositoryEndpoint":"http://127.0.0.1:9/pypi/python"}"#)).await;
    let url = control(&stub.url).repository_endpoint(&domain(), &repository()).await.expect("a response");
    assert_eq!(url.as_str(), "http://127.0.0.1:9/pypi/python/");
    let seen = stub.seen();
    assert!(seen[0].target.starts_with("/v1/repository/endpoint?"), "{seen:?}");
    assert!(seen[0].target.contains("format=pypi") && seen[0].target.contains("repository=python"), "{seen:?}");
}

#[tokio::test]
async fn all_pages_of_the_package_list_are_read() {
    let stub = Stub::start(|seen| {
        if seen.target.contains("next-token=two") {
            ok(r#"{"packages":[{"format":"pypi","package":"c"}]}"#)
        } else {
            ok(r#"{"packages":[{"format":"pypi","package":"a"},{"format":"pypi","package":"b"}],"nextToken":"two"}"#)
        }
    })
    .await;
    let names = control(&stub.url).list_packages(&domain(), &repository()).await;
    assert_eq!(names, Ok(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    let seen = stub.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].target.starts_with("/v1/packages?") && seen[0].target.contains("max-results=1000"));
}

#[tokio::test]
async fn a_list_that_names_the_same_page_again_ends() {
    let stub = Stub::start(|_| ok(r#"{"packages":[{"package":"a"}],"nextToken":"same"}"#)).await;
    let names = control(&stub.url).list_packages(&domain(), &repository()).await;
    assert_eq!(names.map(|names| names.len()), Ok(2));
}

#[tokio::test]
async fn sts_names_the_caller() {
    let stub = Stub::start(|_| xml(200, IDENTITY)).await;
    let identity = control(&stub.url).caller_identity().await.expect("a response");
    assert_eq!(
        (identity.account.as_str(), identity.arn.as_str()),
        ("111122223333", "arn:aws:iam::111122223333:user/x")
    );
}

// The standard AWS chain reads the environment of the process, so these stories run in a child: this test
// program again, with only `child_probe`, which prints what it found.

fn child(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("tests run from a file"));
    command.args(["--exact", "control::tests::child_probe", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env_clear().envs(variables.iter().copied());
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
    command
}

async fn run(mut command: Command) -> String {
    let output = wheelport_runtime::blocking(move || command.output()).await.expect("joined").expect("started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
#[ignore = "run by the tests below, with an environment of their own"]
async fn child_probe() {
    #[expect(clippy::disallowed_methods, reason = "a probe of the environment")]
    let settings = std::env::var("PROBE_SETTINGS").unwrap_or_default();
    let control = ControlPlane::connect(&toml::from_str(&settings).expect("valid settings")).await;
    println!("region={:?}", control.region());
    println!("credentials={:?}", control.credentials().await);
    println!("identity={:?}", control.caller_identity().await);
    let source = control.token_source(&domain(), TokenLifetime::default());
    println!("mint={:?}", source.mint().await.map(|minted| minted.lifetime.as_secs() > 40_000));
    println!("endpoint={:?}", control.repository_endpoint(&domain(), &repository()).await.map(String::from));
}

fn aws(seen: &Seen) -> Reply {
    if seen.body.contains("Action=AssumeRole") {
        return xml(
            200,
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-canary</SecretAccessKey>\
             <SessionToken>session-canary</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             <AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/r/wheelport</Arn>\
             <AssumedRoleId>A:wheelport</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>",
        );
    }
    match seen.target.as_str() {
        target if target.starts_with(TOKEN_PATH) => token_response(43_200),
        target if target.starts_with("/v1/repository/endpoint") => {
            ok(r#"{"repositoryEndpoint":"http://127.0.0.1:9/pypi/python/"}"#)
        }
        _ => xml(200, IDENTITY),
    }
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "env-canary"), ("AWS_REGION", "eu-central-1")];

#[tokio::test]
async fn service_endpoints_of_the_environment_are_honoured() {
    let (codeartifact, sts) = (Stub::start(aws).await, Stub::start(aws).await);
    let mut command = child(&KEYS);
    command.env("AWS_ENDPOINT_URL_CODEARTIFACT", &codeartifact.url).env("AWS_ENDPOINT_URL_STS", &sts.url);
    let found = run(command).await;
    assert!(found.contains("provider: \"environment variables\""), "{found}");
    assert!(found.contains("mint=Ok(true)"), "{found}");
    assert!(found.contains("endpoint=Ok(\"http://127.0.0.1:9/pypi/python/\")"), "{found}");
    assert_eq!((codeartifact.seen().len(), sts.seen().len()), (2, 1));
    assert!(!found.contains("canary"), "{found}");
}

#[tokio::test]
async fn the_general_endpoint_of_the_environment_is_honoured() {
    let stub = Stub::start(aws).await;
    let mut command = child(&KEYS);
    command.env("AWS_ENDPOINT_URL", &stub.url);
    let found = run(command).await;
    assert!(found.contains("mint=Ok(true)") && found.contains("account: \"111122223333\""), "{found}");
    assert_eq!(stub.seen().len(), 3);
}

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id() {
    let stub = Stub::start(aws).await;
    let mut command = child(&KEYS);
    command.env("AWS_ENDPOINT_URL", &stub.url).env(
        "PROBE_SETTINGS",
        "role_arn = \"arn:aws:iam::111122223333:role/r\"\nexternal_id = \"x-1\"\nregion = \"us-east-1\"",
    );
    let found = run(command).await;
    assert!(found.contains("provider: \"assumed role") && found.contains("mint=Ok(true)"), "{found}");
    assert!(found.contains("region=Some(\"us-east-1\")"), "the settings win over the environment: {found}");
    let seen = stub.seen();
    let assume = seen.iter().find(|seen| seen.body.contains("Action=AssumeRole")).expect("asked");
    for part in ["RoleSessionName=wheelport", "ExternalId=x-1"] {
        assert!(assume.body.contains(part), "{}", assume.body);
    }
    let mint = seen.iter().find(|seen| seen.target.starts_with(TOKEN_PATH)).expect("asked");
    assert!(mint.authorization.contains("Credential=ASIAROLE/"), "{}", mint.authorization);
    assert!(!found.contains("canary"), "{found}");
}

#[tokio::test]
async fn a_profile_of_the_settings_wins_over_keys_of_the_environment() {
    let stub = Stub::start(aws).await;
    let home = tempfile::tempdir().expect("a temporary directory");
    let config = home.path().join("config");
    std::fs::write(&config, "[profile p]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = y\n")
        .expect("written");
    let mut command = child(&KEYS);
    command.env("AWS_ENDPOINT_URL", &stub.url).env("AWS_CONFIG_FILE", &config);
    command.env("PROBE_SETTINGS", "profile = \"p\"");
    let found = run(command).await;
    assert!(found.contains("provider: \"profile\"") && found.contains("mint=Ok(true)"), "{found}");
    assert!(stub.seen().iter().all(|seen| seen.authorization.contains("Credential=AKIDPROFILE/")));
}

#[tokio::test]
async fn missing_credentials_are_explained_provider_by_provider() {
    let found = run(child(&[("AWS_REGION", "eu-central-1")])).await;
    assert!(found.contains("mint=Err(MintError { kind: NoCredentials"), "{found}");
    for provider in ["environment variables (", "profile files (", "web identity token (", "container credentials ("] {
        assert!(found.contains(provider), "{provider}: {found}");
    }
    assert!(
        found.contains(
            "endpoint=Ok(\"https://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/pypi/python/\")"
        ),
        "{found}"
    );
}
