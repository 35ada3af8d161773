//! What the store refuses, and what it still knows after it is opened again.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use wheelport_index::ProjectName;
use wheelport_runtime::Clock;

async fn store(dir: &Path) -> Store {
    Store::open(dir.to_owned(), Clock::system()).await.expect("a writable directory")
}

fn demo() -> DomainKey {
    DomainKey::new("111122223333", "demo")
}

fn new_domain(name: &str) -> NewDomain {
    let key = DomainKey::new("111122223333", name);
    NewDomain { key, encryption_key: "arn:aws:kms:x".to_owned(), tags: BTreeMap::new() }
}

fn new_repository(name: &str, upstreams: &[&str]) -> NewRepository {
    NewRepository {
        key: demo().repository(name),
        description: None,
        upstreams: upstreams.iter().map(|&name| name.to_owned()).collect(),
        tags: BTreeMap::new(),
    }
}

async fn with_repositories(dir: &Path, repositories: &[(&str, &[&str])]) -> Store {
    let store = store(dir).await;
    store.create_domain(new_domain("demo")).await.expect("a new domain");
    for (name, upstreams) in repositories {
        store.create_repository(new_repository(name, upstreams)).await.expect("a new repository");
    }
    store
}

#[tokio::test]
async fn names_quotas_and_duplicates_are_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = with_repositories(dir.path(), &[("aa", &[])]).await;
    assert!(matches!(store.create_domain(new_domain("demo")).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(store.create_domain(new_domain("Demo")).await, Err(StoreError::Validation(_))));
    for number in 1..domains::DOMAINS_PER_ACCOUNT {
        store.create_domain(new_domain(&format!("d{number}"))).await.expect("within the quota");
    }
    assert!(matches!(store.create_domain(new_domain("more")).await, Err(StoreError::Quota { .. })));
    let unknown = store.create_repository(new_repository("bb", &["cc"])).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { kind: ResourceKind::Repository, .. })));
    let full = store.delete_domain(demo()).await;
    assert!(matches!(full, Err(StoreError::Conflict { kind: ResourceKind::Domain, .. })));
}

#[tokio::test]
async fn upstreams_and_an_external_connection_exclude_each_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = with_repositories(dir.path(), &[("aa", &[]), ("bb", &["aa"])]).await;
    let connect = |name: &str| {
        let connection = ConnectionChange::Connect(name.to_owned());
        RepositoryChange { external_connection: connection, ..RepositoryChange::default() }
    };
    let (aa, bb) = (demo().repository("aa"), demo().repository("bb"));
    let refused = store.change_repository(bb, connect(PUBLIC_CONNECTION)).await;
    assert!(matches!(refused, Err(StoreError::Validation(_))));
    let refused = store.change_repository(aa.clone(), connect("public:elsewhere")).await;
    assert!(matches!(refused, Err(StoreError::Validation(_))));
    store.change_repository(aa.clone(), connect(PUBLIC_CONNECTION)).await.expect("no upstreams here");
    let twice = store.change_repository(aa, connect(PUBLIC_CONNECTION)).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn the_search_is_depth_first_in_order_and_each_repository_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let repositories: &[(&str, &[&str])] =
        &[("base", &[]), ("left", &["base"]), ("right", &["base"]), ("top", &["left", "right"])];
    let store = with_repositories(dir.path(), repositories).await;
    let name = ProjectName::parse("p").expect("a name");
    let order = || {
        let layers = store.layers(&demo().repository("top"), &name).expect("it exists");
        layers.into_iter().map(|layer| layer.repository).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order(), "top left base right");
    let block = OriginRestrictions { publish: OriginRestriction::Allow, upstream: OriginRestriction::Block };
    store.set_restrictions(demo().repository("left"), name.clone(), block).await.expect("it exists");
    assert_eq!(order(), "top left right base", "left lets nothing through");
    store.delete_repository(demo().repository("left")).await.expect("it exists");
    assert_eq!(store.repository(&demo().repository("top")).expect("it exists").upstreams, ["right"]);
}

#[tokio::test]
async fn everything_is_there_again_and_half_written_files_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = with_repositories(dir.path(), &[("aa", &[])]).await;
    let key = demo().repository("aa");
    let name = ProjectName::parse("p").expect("a name");
    let mut writer = first.blobs().create().await.expect("a file");
    writer.write(b"bytes").await.expect("disk space");
    let spooled = writer.finish().await.expect("disk space");
    let digest = spooled.sha256;
    let new = NewAsset {
        project: name.clone(),
        version: "1.0".to_owned(),
        name: wheelport_index::FileName::parse("p-1.0.zip").expect("a file name"),
        requires_python: None,
        metadata: VersionMetadata::default(),
    };
    first.publish(key.clone(), new, spooled).await.expect("a new file");
    let leftover = dir.path().join("temporary/leftover.part");
    std::fs::write(&leftover, b"half").expect("disk space");

    let second = store(dir.path()).await;
    let package = second.package(&key, &name).expect("published before");
    assert_eq!(package, first.package(&key, &name).expect("published before"));
    assert_eq!(package.restrictions, OriginRestrictions::PUBLISHED);
    assert!(second.blobs().path(&digest).exists() && !leftover.exists());
    second.delete_package(key.clone(), name.clone()).await.expect("it is there");
    assert!(!second.blobs().path(&digest).exists(), "nothing refers to the bytes any more");
    assert!(store(dir.path()).await.package(&key, &name).is_err());
}

#[tokio::test]
async fn policies_know_their_revision() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = with_repositories(dir.path(), &[]).await;
    let put = |document: &str, expected: Option<&str>| {
        store.set_domain_policy(demo(), Some(document.to_owned()), expected.map(str::to_owned))
    };
    let policy = put("{}", None).await.expect("no policy yet").expect("a put leaves one");
    assert!(matches!(put("{}", Some("other")).await, Err(StoreError::Conflict { .. })));
    assert!(matches!(put("[]", None).await, Err(StoreError::Validation(_))));
    put("{\"a\":1}", Some(&policy.revision)).await.expect("the right revision");
    store.set_domain_policy(demo(), None, None).await.expect("a policy to delete");
    assert!(matches!(store.set_domain_policy(demo(), None, None).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn every_change_of_a_version_is_announced_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = with_repositories(dir.path(), &[("aa", &[])]).await;
    let mut changes = store.watch(10).expect("the first to watch");
    assert!(store.watch(10).is_none(), "there is one receiver");
    let (key, name) = (demo().repository("aa"), ProjectName::parse("p").expect("a name"));
    let publish = async |file: &str| {
        let mut writer = store.blobs().create().await.expect("a file");
        writer.write(file.as_bytes()).await.expect("disk space");
        let new = NewAsset {
            project: name.clone(),
            version: "1.0".to_owned(),
            name: wheelport_index::FileName::parse(file).expect("a file name"),
            requires_python: None,
            metadata: VersionMetadata::default(),
        };
        store.publish(key.clone(), new, writer.finish().await.expect("disk space")).await.expect("accepted")
    };
    let change = async |action| {
        let versions = vec!["1.0".to_owned()];
        let request = VersionsRequest { versions, revisions: BTreeMap::new(), expected: None, action };
        store.change_versions(key.clone(), name.clone(), request).await.expect("it exists")
    };
    publish("p-1.0.zip").await;
    publish("p-1.0.zip").await;
    publish("p-1.0.tar.gz").await;
    store.set_restrictions(key.clone(), name.clone(), OriginRestrictions::IMPORTED).await.expect("it exists");
    change(VersionsAction::SetStatus(VersionStatus::Unlisted)).await;
    change(VersionsAction::SetStatus(VersionStatus::Unlisted)).await;
    change(VersionsAction::Delete).await;

    let mut seen = Vec::new();
    while let Ok(VersionChange { operation, status, assets_added, assets_removed, status_changed, .. }) =
        changes.try_recv()
    {
        seen.push((operation.as_str(), status.as_str(), assets_added, assets_removed, status_changed));
    }
    assert_eq!(
        seen,
        [
            ("Created", "Published", 1, 0, true),
            ("Updated", "Published", 1, 0, false),
            ("Updated", "Unlisted", 0, 0, true),
            ("Deleted", "Deleted", 0, 2, true),
        ]
    );
}
