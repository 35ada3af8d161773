//! Round trips with the real SDK over a loopback socket.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_codeartifact::Client;
use aws_sdk_codeartifact::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codeartifact::primitives::DateTime;
use aws_sdk_codeartifact::types::{
    AllowPublish, AllowUpstream, HashAlgorithm, PackageFormat, PackageOriginRestrictions, PackageVersionErrorCode,
    PackageVersionStatus, PackageVersionSummary, Tag, UpstreamRepository,
};
use aws_types::region::Region;

use super::*;
use crate::oddities::Oddities;
use crate::shared::RequestStats;
use crate::store::{DomainKey, NewAsset, NewDomain, NewRepository, Store, TokenVerdict, VersionMetadata};
use crate::switchboard::Switchboard;
use wheelport_index::{FileName, ProjectName};
use wheelport_runtime::{Clock, Tasks};

/// A control plane on a free port, with the domain `acme` and the repository `python` in it.
struct TestControl {
    url: String,
    clock: Clock,
    shared: Arc<EmulatorState>,
    control: ControlService,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl Drop for TestControl {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn acme() -> DomainKey {
    DomainKey::new(DEFAULT_ACCOUNT, "acme")
}

async fn emulated(settings: ControlSettings) -> TestControl {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Clock::system();
    let store = Store::open(dir.path().to_owned(), clock.clone()).await.expect("a new store");
    let domain = NewDomain { key: acme(), encryption_key: "arn:aws:kms:x".to_owned(), tags: BTreeMap::new() };
    store.create_domain(domain).await.expect("a new domain");
    let python = NewRepository {
        key: acme().repository("python"),
        description: None,
        upstreams: Vec::new(),
        tags: BTreeMap::new(),
    };
    store.create_repository(python).await.expect("a new repository");
    let data_address = OnceLock::new();
    data_address.get_or_init(|| ([127, 0, 0, 1], 4321).into());
    let shared = Arc::new(EmulatorState {
        store,
        clock: clock.clone(),
        oddities: Switchboard::new(Oddities::default()),
        stats: RequestStats::default(),
        region: "eu-central-1".to_owned(),
        default_domain: DomainKey::new(DEFAULT_ACCOUNT, "other"),
        data_address,
    });
    let control = ControlService::new(Arc::clone(&shared), settings);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let tasks = Tasks::new();
    let service = router(control.clone());
    tasks.spawn_loop("control", async move {
        axum::serve(listener, service).await.expect("serving does not fail");
    });
    TestControl { url, clock, shared, control, tasks, _dir: dir }
}

async fn plain() -> TestControl {
    emulated(ControlSettings::default()).await
}

fn administrator() -> Credentials {
    Credentials::new(DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY, None, None, "test")
}

impl TestControl {
    fn client(&self) -> Client {
        self.client_of(administrator())
    }

    fn client_of(&self, credentials: Credentials) -> Client {
        let config = aws_sdk_codeartifact::Config::builder()
            .behavior_version(aws_sdk_codeartifact::config::BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .endpoint_url(&self.url)
            .retry_config(aws_sdk_codeartifact::config::retry::RetryConfig::disabled())
            .credentials_provider(credentials)
            .build();
        Client::from_conf(config)
    }

    fn sts(&self, credentials: Credentials) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .endpoint_url(&self.url)
            .retry_config(aws_sdk_sts::config::retry::RetryConfig::disabled())
            .credentials_provider(credentials)
            .build();
        aws_sdk_sts::Client::from_conf(config)
    }

    async fn publish(&self, project: &str, version: &str) {
        let name = format!("{project}-{version}.tar.gz");
        let mut writer = self.shared.store.blobs().create().await.expect("room on disk");
        writer.write(format!("bytes of {name}").as_bytes()).await.expect("room on disk");
        let asset = NewAsset {
            project: ProjectName::parse(project).expect("a valid name"),
            version: version.to_owned(),
            name: FileName::parse(&name).expect("a valid name"),
            requires_python: None,
            metadata: VersionMetadata {
                summary: Some("A sample".to_owned()),
                description: Some("# Sample".to_owned()),
                requires_dist: vec!["idna>=3".to_owned()],
                ..VersionMetadata::default()
            },
        };
        let bytes = writer.finish().await.expect("room on disk");
        self.shared.store.publish(acme().repository("python"), asset, bytes).await.expect("published");
    }
}

/// Code and message of a refusal.
fn refusal<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> (String, String) {
    let error = result.err().expect("the call is refused");
    let code = error.code().map_or_else(|| format!("{error:?}"), str::to_owned);
    (code, error.message().unwrap_or_default().to_owned())
}

fn status_of<T, E: std::fmt::Debug>(result: Result<T, SdkError<E>>) -> Option<u16> {
    result.err()?.raw_response().map(|response| response.status().as_u16())
}

#[tokio::test]
async fn a_token_lives_as_long_as_requested() {
    let emulated = plain().await;
    let client = emulated.client();
    for (asked, expected) in [(None, 43_200), (Some(900), 900), (Some(43_200), 43_200)] {
        let response = client.get_authorization_token().domain("acme").set_duration_seconds(asked).send().await;
        let response = response.expect("a token");
        let life = response.expiration().map(DateTime::secs).unwrap_or_default()
            - i64::try_from(emulated.clock.unix_seconds()).expect("far future");
        assert!((expected - 2..=expected).contains(&life), "{asked:?}: {life}");
        let token = response.authorization_token().unwrap_or_default();
        assert!(matches!(emulated.shared.store.verify_token(token), TokenVerdict::Valid(_)));
    }
    for asked in [0, 1, 899, 43_201] {
        let response = client.get_authorization_token().domain("acme").duration_seconds(asked).send().await;
        assert_eq!(refusal(response).0, "ValidationException", "{asked}");
    }
    let unknown = client.get_authorization_token().domain("nowhere").send().await;
    assert!(
        unknown
            .err()
            .and_then(SdkError::into_service_error_opt)
            .is_some_and(|error| error.is_resource_not_found_exception())
    );
}

/// Like `into_service_error`, but without the panic for other kinds.
trait IntoServiceError<E> {
    fn into_service_error_opt(self) -> Option<E>;
}

impl<E> IntoServiceError<E> for SdkError<E> {
    fn into_service_error_opt(self) -> Option<E> {
        match self {
            Self::ServiceError(context) => Some(context.into_err()),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_session_of_a_role_signs_until_it_ends() {
    let emulated = plain().await;
    let sts = emulated.sts(administrator());
    let identity = sts.get_caller_identity().send().await.expect("an identity");
    assert_eq!(identity.arn(), Some("arn:aws:iam::111122223333:user/administrator"));

    let role = "arn:aws:iam::111122223333:role/team/reader";
    let session = sts.assume_role().role_arn(role).role_session_name("build").duration_seconds(900);
    let session = session.send().await.expect("a session").credentials.expect("credentials");
    let keys = Credentials::new(
        session.access_key_id(),
        session.secret_access_key(),
        Some(session.session_token().to_owned()),
        None,
        "test",
    );
    let identity = emulated.sts(keys.clone()).get_caller_identity().send().await.expect("an identity");
    assert_eq!(identity.arn(), Some("arn:aws:sts::111122223333:assumed-role/reader/build"));

    let client = emulated.client_of(keys);
    let token = client.get_authorization_token().domain("acme").duration_seconds(0).send().await;
    let expiration = token.expect("a token").expiration;
    assert_eq!(expiration.map(|end| end.secs()), Some(session.expiration().secs()));

    emulated.clock.shift(901);
    let ended = client.list_domains().send().await;
    assert_eq!(refusal(ended).0, "ExpiredTokenException");
}

#[tokio::test]
async fn wrong_keys_and_clocks_are_told_apart() {
    let emulated = plain().await;
    let stranger = Credentials::new("AKIASTRANGER", "secret", None, None, "test");
    let response = emulated.client_of(stranger).list_domains().send().await;
    assert_eq!(refusal(response).0, "UnrecognizedClientException");

    let wrong = Credentials::new(DEFAULT_ACCESS_KEY, "secret", None, None, "test");
    let response = emulated.client_of(wrong.clone()).list_domains().send().await;
    assert_eq!(refusal(response).0, "InvalidSignatureException");
    let response = emulated.sts(wrong).get_caller_identity().send().await;
    assert_eq!(refusal(response).0, "SignatureDoesNotMatch");

    emulated.clock.shift(3600);
    let late = emulated.client().list_domains().send().await;
    let (code, message) = refusal(late);
    assert_eq!(code, "InvalidSignatureException");
    assert!(message.starts_with("Signature expired: "), "{message}");
}

#[tokio::test]
async fn roles_have_conditions() {
    let settings = serde_json::from_value(serde_json::json!({"roles": [
        {"arn": "arn:aws:iam::111122223333:role/partner", "external_id": "ticket"},
        {"arn": "arn:aws:iam::111122223333:role/careful", "mfa_required": true},
    ]}));
    let identities = settings.expect("valid settings");
    let emulated = emulated(ControlSettings { identities, ..ControlSettings::default() }).await;
    let sts = emulated.sts(administrator());
    let assume = |role: &str| {
        let arn = format!("arn:aws:iam::111122223333:role/{role}");
        sts.assume_role().role_arn(arn).role_session_name("build")
    };
    assert_eq!(refusal(assume("partner").external_id("other").send().await).0, "AccessDenied");
    assert!(assume("partner").external_id("ticket").send().await.is_ok());
    assert_eq!(refusal(assume("careful").send().await).0, "AccessDenied");
    let with_code = assume("careful").serial_number("arn:aws:iam::111122223333:mfa/me").token_code("123456");
    assert!(with_code.send().await.is_ok());
    assert_eq!(refusal(assume("free").duration_seconds(10).send().await).0, "ValidationError");
}

#[tokio::test]
async fn a_web_identity_needs_no_keys_but_a_token() {
    let emulated = plain().await;
    let sts = emulated.sts(Credentials::new("none", "none", None, None, "test"));
    let assume = |token: &str| {
        let arn = "arn:aws:iam::111122223333:role/pod";
        sts.assume_role_with_web_identity().role_arn(arn).role_session_name("pod").web_identity_token(token)
    };
    // {"alg":"none"} . {"sub":"pod","exp":4102444800} and {"alg":"none"} . {"sub":"pod","exp":1}
    let good = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwb2QiLCJleHAiOjQxMDI0NDQ4MDB9.c2ln";
    let ended = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwb2QiLCJleHAiOjF9.c2ln";
    let session = assume(good).send().await.expect("a session");
    assert_eq!(session.subject_from_web_identity_token(), Some("pod"));
    assert_eq!(refusal(assume(ended).send().await).0, "ExpiredTokenException");
    assert_eq!(refusal(assume("nonsense").send().await).0, "InvalidIdentityToken");
}

#[tokio::test]
async fn each_missing_right_is_named() {
    for (actions, missing) in
        [(vec!["sts:*"], "codeartifact:GetAuthorizationToken"), (vec!["codeartifact:*"], "sts:GetServiceBearerToken")]
    {
        let principals = serde_json::json!({"principals": [
            {"access_key": "AKIALIMITED", "secret_key": "s", "user": "limited", "actions": actions}]});
        let identities = serde_json::from_value(principals).expect("valid settings");
        let emulated = emulated(ControlSettings { identities, ..ControlSettings::default() }).await;
        let client = emulated.client_of(Credentials::new("AKIALIMITED", "s", None, None, "test"));
        let response = client.get_authorization_token().domain("acme").send().await;
        let (code, message) = refusal(response);
        assert_eq!(code, "AccessDeniedException");
        assert!(message.contains(&format!("is not authorized to perform: {missing} on resource: ")), "{message}");
    }
}

#[tokio::test]
async fn injected_faults_come_once_and_in_order() {
    let emulated = plain().await;
    let client = emulated.client();
    let faults = emulated.control.faults();
    faults.inject(Operation::GetAuthorizationToken, CallFault::throttling(7));
    faults.inject(Operation::GetAuthorizationToken, CallFault::internal("Internal server error"));
    let ask = || client.get_authorization_token().domain("acme").send();
    let throttled = ask().await.err().and_then(SdkError::into_service_error_opt).expect("a refusal");
    let aws_sdk_codeartifact::operation::get_authorization_token::GetAuthorizationTokenError::ThrottlingException(
        throttled,
    ) = throttled
    else {
        panic!("not throttled: {throttled:?}");
    };
    assert_eq!(throttled.retry_after_seconds(), Some(7));
    assert_eq!(status_of(ask().await), Some(500));
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn domains_and_repositories_go_through_their_lives() {
    let emulated = plain().await;
    let client = emulated.client();
    let tag = Tag::builder().key("team").value("data").build().expect("complete");
    let domain = client.create_domain().domain("labs").tags(tag).send().await.expect("created").domain;
    let domain = domain.expect("described");
    let created = domain.created_time().map(DateTime::secs).unwrap_or_default();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(created).expect("after 1970"));
    assert!(emulated.clock.now().duration_since(now).is_ok_and(|age| age < Duration::from_mins(1)));
    let arn = domain.arn().unwrap_or_default().to_owned();
    assert_eq!(arn, "arn:aws:codeartifact:eu-central-1:111122223333:domain/labs");
    assert_eq!(refusal(client.create_domain().domain("labs").send().await).0, "ConflictException");
    assert_eq!(refusal(client.create_domain().domain("Labs").send().await).0, "ValidationException");
    let tags = client.list_tags_for_resource().resource_arn(&arn).send().await.expect("listed");
    assert_eq!(tags.tags().first().map(Tag::value), Some("data"));
    client.untag_resource().resource_arn(&arn).tag_keys("team").send().await.expect("untagged");
    let tags = client.list_tags_for_resource().resource_arn(&arn).send().await.expect("listed");
    assert!(tags.tags().is_empty());

    for name in ["store", "team"] {
        let up = UpstreamRepository::builder().repository_name("store").build().expect("complete");
        let create = client.create_repository().domain("labs").repository(name).description("for tests");
        let create = if name == "team" { create.upstreams(up) } else { create };
        create.send().await.expect("created");
    }
    let connect = || client.associate_external_connection().domain("labs").external_connection("public:pypi");
    let store = connect().repository("store").send().await.expect("connected").repository.expect("described");
    assert_eq!(store.external_connections()[0].external_connection_name(), Some("public:pypi"));
    assert_eq!(refusal(connect().repository("store").send().await).0, "ConflictException");
    let team = client.describe_repository().domain("labs").repository("team").send().await.expect("there");
    assert_eq!(team.repository().expect("described").upstreams()[0].repository_name(), Some("store"));

    let page = client.list_repositories_in_domain().domain("labs").max_results(1).into_paginator();
    let names: Vec<_> = page.items().send().collect::<Result<Vec<_>, _>>().await.expect("listed");
    assert_eq!(names.iter().filter_map(|one| one.name()).collect::<Vec<_>>(), ["store", "team"]);

    assert_eq!(refusal(client.delete_domain().domain("labs").send().await).0, "ConflictException");
    for name in ["store", "team"] {
        client.delete_repository().domain("labs").repository(name).send().await.expect("deleted");
    }
    client.delete_domain().domain("labs").send().await.expect("deleted");
    assert_eq!(refusal(client.describe_domain().domain("labs").send().await).0, "ResourceNotFoundException");
}

#[tokio::test]
async fn an_endpoint_is_the_emulators_own_address() {
    let emulated = plain().await;
    let ask = |format| {
        let client = emulated.client();
        async move {
            let ask = client.get_repository_endpoint().domain("acme").repository("python").format(format);
            ask.send().await.map(|response| response.repository_endpoint.unwrap_or_default())
        }
    };
    let url = ask(PackageFormat::Pypi).await.expect("an address");
    assert_eq!(url, "http://127.0.0.1:4321/pypi/d/acme-111122223333/python/");
    let url = ask(PackageFormat::Npm).await.expect("an address");
    assert_eq!(url, "http://127.0.0.1:4321/npm/d/acme-111122223333/python/");
    assert_eq!(refusal(ask("floppy".into()).await).0, "ValidationException");
}

#[tokio::test]
async fn policies_are_kept_and_versioned() {
    let emulated = plain().await;
    let client = emulated.client();
    let get = || client.get_domain_permissions_policy().domain("acme").send();
    assert_eq!(refusal(get().await).0, "ResourceNotFoundException");
    let put = |revision: Option<&str>| {
        let put = client.put_domain_permissions_policy().domain("acme").policy_document("{}");
        put.set_policy_revision(revision.map(str::to_owned)).send()
    };
    let policy = put(None).await.expect("kept").policy.expect("described");
    assert_eq!(refusal(put(Some("other")).await).0, "ConflictException");
    assert_eq!(get().await.expect("there").policy, Some(policy));
    client.delete_domain_permissions_policy().domain("acme").send().await.expect("deleted");
    assert_eq!(refusal(get().await).0, "ResourceNotFoundException");

    let put = client.put_repository_permissions_policy().domain("acme").repository("python");
    put.policy_document("{}").send().await.expect("kept");
    let delete = client.delete_repository_permissions_policy().domain("acme").repository("python");
    delete.send().await.expect("deleted");
}

#[tokio::test]
async fn packages_are_listed_page_by_page() {
    let emulated = plain().await;
    for project in ["alpha", "beta", "beta-tools", "gamma"] {
        emulated.publish(project, "1.0").await;
    }
    let client = emulated.client();
    let list = || client.list_packages().domain("acme").repository("python");
    let all = list().max_results(2).into_paginator().items().send().collect::<Result<Vec<_>, _>>().await;
    let all = all.expect("listed");
    let names: Vec<_> = all.iter().filter_map(|package| package.package()).collect();
    assert_eq!(names, ["alpha", "beta", "beta-tools", "gamma"]);
    let some = list().format(PackageFormat::Pypi).package_prefix("beta").send().await.expect("listed");
    assert_eq!(some.packages().len(), 2);
    let none = list().format(PackageFormat::Npm).send().await.expect("listed");
    assert!(none.packages().is_empty());
    assert_eq!(refusal(list().next_token("nonsense").send().await).0, "ValidationException");

    let restrictions = PackageOriginRestrictions::builder().publish(AllowPublish::Block).upstream(AllowUpstream::Allow);
    let restrict = client.put_package_origin_configuration().domain("acme").repository("python");
    let restrict = restrict.format(PackageFormat::Pypi).package("gamma");
    restrict.restrictions(restrictions.build().expect("complete")).send().await.expect("changed");
    let blocked = list().publish(AllowPublish::Block).send().await.expect("listed");
    assert_eq!(blocked.packages()[0].package(), Some("gamma"));

    let oddities = Oddities { list_lag: "1h".parse().expect("a duration"), ..Oddities::default() };
    emulated.shared.oddities.set(oddities).expect("valid statuses");
    assert!(list().send().await.expect("listed").packages().is_empty());
}

#[tokio::test]
async fn a_version_is_described_with_its_assets() {
    let emulated = plain().await;
    emulated.publish("sample", "1.0").await;
    let client = emulated.client();
    let describe = |version: &str| {
        let describe = client.describe_package_version().domain("acme").repository("python");
        describe.format(PackageFormat::Pypi).package("sample").package_version(version).send()
    };
    let version = describe("1.0").await.expect("there").package_version.expect("described");
    assert_eq!(version.summary(), Some("A sample"));
    assert_eq!(version.status(), Some(&PackageVersionStatus::Published));
    assert_eq!(refusal(describe("2.0").await).0, "ResourceNotFoundException");

    let assets = client.list_package_version_assets().domain("acme").repository("python");
    let assets = assets.format(PackageFormat::Pypi).package("sample").package_version("1.0").send().await;
    let assets = assets.expect("listed");
    let asset = &assets.assets()[0];
    let get = client.get_package_version_asset().domain("acme").repository("python");
    let get = get.format(PackageFormat::Pypi).package("sample").package_version("1.0").asset(asset.name());
    let got = get.send().await.expect("the bytes");
    assert_eq!(got.asset_name(), Some("sample-1.0.tar.gz"));
    assert_eq!(got.package_version_revision(), version.revision());
    let bytes = got.asset.collect().await.expect("the bytes").into_bytes();
    assert_eq!(bytes, "bytes of sample-1.0.tar.gz");
    let sha256 = asset.hashes().and_then(|hashes| hashes.get(&HashAlgorithm::Sha256));
    assert_eq!(sha256, Some(&wheelport_index::Sha256::of(&bytes).to_string()));

    let readme = client.get_package_version_readme().domain("acme").repository("python");
    let readme = readme.format(PackageFormat::Pypi).package("sample").package_version("1.0").send().await;
    assert_eq!(readme.expect("there").readme(), Some("# Sample"));
    let needs = client.list_package_version_dependencies().domain("acme").repository("python");
    let needs = needs.format(PackageFormat::Pypi).package("sample").package_version("1.0").send().await;
    assert_eq!(needs.expect("listed").dependencies()[0].package(), Some("idna"));
}

#[tokio::test]
async fn many_versions_change_at_once() {
    let emulated = plain().await;
    for version in ["1.0", "1.1", "1.2"] {
        emulated.publish("sample", version).await;
    }
    let client = emulated.client();
    let update = client.update_package_versions_status().domain("acme").repository("python");
    let update = update.format(PackageFormat::Pypi).package("sample").versions("1.0").versions("9.9");
    let outcome = update.target_status(PackageVersionStatus::Unlisted).send().await.expect("changed");
    let changed = outcome.successful_versions().and_then(|versions| versions.get("1.0"));
    assert_eq!(changed.and_then(|one| one.status()), Some(&PackageVersionStatus::Unlisted));
    let failed = outcome.failed_versions().and_then(|versions| versions.get("9.9"));
    assert_eq!(failed.and_then(|one| one.error_code()), Some(&PackageVersionErrorCode::NotFound));

    let list = || client.list_package_versions().domain("acme").repository("python").format(PackageFormat::Pypi);
    let listed = list().package("sample").status(PackageVersionStatus::Published).send().await.expect("listed");
    assert_eq!(listed.versions().iter().map(PackageVersionSummary::version).collect::<Vec<_>>(), ["1.1", "1.2"]);
    assert_eq!(listed.default_display_version(), Some("1.2"));

    let dispose = client.dispose_package_versions().domain("acme").repository("python");
    let dispose = dispose.format(PackageFormat::Pypi).package("sample").versions("1.1").send().await;
    assert!(dispose.expect("disposed").failed_versions().is_some_and(std::collections::HashMap::is_empty));

    client.create_repository().domain("acme").repository("copies").send().await.expect("created");
    let copy = client.copy_package_versions().domain("acme").format(PackageFormat::Pypi).package("sample");
    let copy = copy.source_repository("python").destination_repository("copies");
    let outcome = copy.versions("1.1").versions("1.2").send().await.expect("copied");
    assert!(outcome.successful_versions().is_some_and(|versions| versions.contains_key("1.2")));
    let failed = outcome.failed_versions().and_then(|versions| versions.get("1.1"));
    assert_eq!(failed.and_then(|one| one.error_code()), Some(&PackageVersionErrorCode::NotAllowed));

    let delete = client.delete_package_versions().domain("acme").repository("python");
    let delete = delete.format(PackageFormat::Pypi).package("sample").versions("1.2").send().await;
    delete.expect("deleted");
    let all = list().package("sample").send().await.expect("listed");
    assert_eq!(all.versions().len(), 2);
    let delete = client.delete_package().domain("acme").repository("python");
    delete.format(PackageFormat::Pypi).package("sample").send().await.expect("deleted");
    assert_eq!(refusal(list().package("sample").send().await).0, "ResourceNotFoundException");
}

#[tokio::test]
async fn what_is_not_emulated_says_so() {
    let emulated = plain().await;
    let client = emulated.client();
    let create = client.create_package_group().domain("acme").package_group("/pypi/*").send().await;
    let (code, message) = refusal(create);
    assert_eq!((code.as_str(), message.as_str()), ("NotImplementedException", "CreatePackageGroup is not emulated"));
    let groups = client.list_package_groups().domain("acme").send().await.expect("listed");
    assert_eq!(groups.package_groups()[0].pattern(), Some("/*"));
}

#[tokio::test]
async fn an_instance_finds_credentials_of_a_role() {
    let emulated = plain().await;
    let client = aws_config::imds::Client::builder().endpoint(&emulated.url).expect("a valid address");
    let provider = aws_config::imds::credentials::ImdsCredentialsProvider::builder();
    let provider = provider.imds_client(client.build()).build();
    let found = aws_credential_types::provider::ProvideCredentials::provide_credentials(&provider).await;
    let found = found.expect("credentials");
    assert!(found.expiry().is_some());
    let identity = emulated.sts(found).get_caller_identity().send().await.expect("an identity");
    let arn = identity.arn().unwrap_or_default();
    assert!(arn.contains(":assumed-role/workload/"), "{arn}");
}
