//! The client of the object store against real stores, each operation with what it must refuse.

use std::io;

use bytes::Bytes;
use wheelport::fleet::{FleetSettings, ObjectKey, ObjectStore, ObjectWrite, SourceBytes, StoreError, StoreLocation};
use wheelport_index::{ProjectName, Sha256};
use wheelport_runtime::HumanDuration;

use super::bad_store::settings_of;
use super::servers::{Server, client, ministack, moto, new_bucket};
use super::support::client::Client;
use super::support::scripted::{Reply, Scripted};

/// A store of each kind, with the name for messages.
async fn stores() -> Vec<(&'static str, ObjectStore)> {
    let mut stores = Vec::new();
    for (name, server) in [("ministack", ministack as fn() -> &'static Server), ("moto", moto)] {
        stores.push((name, client(&new_bucket(server().port).await)));
    }
    stores
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::page("aws/eu-central-1/111122223333/acme/python", &ProjectName::parse(name).expect("a name"))
}

fn source(chunks: Vec<Result<&'static [u8], io::Error>>) -> SourceBytes {
    Box::pin(futures_util::stream::iter(chunks.into_iter().map(|chunk| chunk.map(Bytes::from_static))))
}

#[tokio::test]
async fn objects_are_written_on_condition_and_read_with_their_version() {
    for (name, store) in stores().await {
        let key = key("conditions");
        assert_eq!(store.read(&key, None, 100).await, Err(StoreError::Missing), "{name}");
        let first = store.put(&key, Bytes::from_static(b"one"), ObjectWrite::Create).await.expect(name);
        assert_eq!(
            store.put(&key, Bytes::from_static(b"x"), ObjectWrite::Create).await,
            Err(StoreError::Exists),
            "{name}"
        );
        let (bytes, tag) = store.read(&key, None, 100).await.expect(name);
        assert_eq!((&*bytes, tag.as_ref()), (&b"one"[..], Some(&first)), "{name}");
        assert_eq!(store.read(&key, Some(&first), 100).await, Err(StoreError::NotModified), "{name}");
        let replace = ObjectWrite::Replace(first.clone());
        let second = store.put(&key, Bytes::from_static(b"two"), replace.clone()).await.expect(name);
        assert_eq!(store.put(&key, Bytes::from_static(b"x"), replace).await, Err(StoreError::Exists), "{name}");
        assert_eq!(store.read(&key, Some(&first), 100).await.expect(name).1, Some(second), "{name}");
        assert_eq!(store.read(&key, None, 2).await, Err(StoreError::TooLarge), "{name}");
        assert_eq!(store.head(&key).await.expect(name).length, Some(3), "{name}");
        store.delete(&key, None).await.expect(name);
        store.delete(&key, None).await.expect("removed already");
        assert_eq!(store.head(&key).await.err(), Some(StoreError::Missing), "{name}");
    }
}

#[tokio::test]
async fn files_stream_both_ways_and_half_a_file_is_none() {
    for (name, store) in stores().await {
        let sha256 = Sha256::of(b"hello world");
        let key = ObjectKey::blob(sha256);
        let broken = source(vec![Ok(b"hello "), Err(io::Error::other("gone"))]);
        let outcome = store.put_stream(&key, broken, 11, sha256, ObjectWrite::Create).await;
        assert_eq!(outcome, Err(StoreError::Source), "{name}");
        assert_eq!(store.head(&key).await.err(), Some(StoreError::Missing), "{name}");
        let whole = source(vec![Ok(b"hello "), Ok(b"world")]);
        store.put_stream(&key, whole, 11, sha256, ObjectWrite::Create).await.expect(name);
        let mut object = store.get(&key).await.expect(name);
        let mut bytes = Vec::new();
        while let Some(chunk) = object.body.next().await {
            bytes.extend_from_slice(&chunk.expect(name));
        }
        assert_eq!(bytes, b"hello world", "{name}");
        assert_eq!(object.head.length, Some(11), "{name}");
        // moto does not tell.
        assert_eq!(object.head.sha256.is_some(), name == "ministack", "{name}");
    }
}

#[tokio::test]
async fn a_file_with_another_digest_is_refused() {
    let store = client(&new_bucket(ministack().port).await);
    let sha256 = Sha256::of(b"something else");
    let (key, bytes) = (ObjectKey::blob(sha256), source(vec![Ok(b"hello")]));
    let outcome = store.put_stream(&key, bytes, 5, sha256, ObjectWrite::Create).await;
    assert_eq!(outcome, Err(StoreError::Checksum));
}

#[tokio::test]
async fn an_object_in_parts_appears_when_it_is_completed() {
    const LENGTH: usize = (16 << 20) + 5;
    for (name, store) in stores().await {
        let key = key("parts");
        let mut upload = store.begin(&key).await.expect(name);
        upload.push(&vec![b'a'; LENGTH]).await.expect(name);
        assert_eq!(store.head(&key).await.err(), Some(StoreError::Missing), "{name}");
        upload.complete().await.expect(name);
        assert_eq!(store.head(&key).await.expect(name).length, Some(LENGTH as u64), "{name}");
        let mut other = store.begin(&key).await.expect(name);
        other.push(b"b").await.expect(name);
        other.abort().await.expect(name);
        assert_eq!(store.head(&key).await.expect(name).length, Some(LENGTH as u64), "{name}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_and_a_store_that_is_away_are_told_apart() {
    let settings = new_bucket(ministack().port).await;
    let missing = FleetSettings { store: Some("s3://no-such-bucket".parse().expect("a store")), ..settings.clone() };
    assert_eq!(client(&missing).read(&key("a"), None, 9).await, Err(StoreError::NoBucket));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("an address");
    let endpoint = format!("http://{closed}").parse().expect("an address");
    let away = client(&FleetSettings { store_endpoint: Some(endpoint), ..settings });
    for _ in 0..3 {
        assert!(matches!(away.head(&key("a")).await, Err(StoreError::Broken(_))));
    }
    assert_eq!(away.head(&key("a")).await.err(), Some(StoreError::Open), "three failures open the breaker");
}

#[tokio::test]
async fn the_probe_finds_what_a_store_can_do() {
    for (name, store) in stores().await {
        let traits = store.probe().await.expect(name);
        // moto answers on several threads and sometimes lets two writers replace one version; that is then found.
        assert!(traits.can_lease() || name != "ministack", "{name}: {traits:?}");
        // It takes any bytes for any checksum.
        assert_eq!(traits.refuses_checksum, name == "ministack");
    }
}

/// The headers of encryption go with everything that writes, and real stores take them.
#[tokio::test]
async fn what_is_written_is_encrypted_with_the_key_that_is_configured() {
    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let encrypted = |settings: FleetSettings| FleetSettings { store_kms_key: Some(KEY.to_owned()), ..settings };
    for (name, server) in [("ministack", ministack as fn() -> &'static Server), ("moto", moto)] {
        let settings = encrypted(new_bucket(server().port).await);
        let (store, key) = (client(&settings), key("encrypted"));
        store.put(&key, Bytes::from_static(b"one"), ObjectWrite::Create).await.expect(name);
        assert_eq!(&*store.read(&key, None, 100).await.expect(name).0, b"one", "{name}");
        if name != "ministack" {
            // It asks whoever looks who they are.
            continue;
        }
        // The store says with what it encrypted the object.
        let StoreLocation { bucket, prefix } = settings.store.expect("a store");
        let path = format!("/{bucket}/{prefix}/v1/{key}");
        let head = Client(([127, 0, 0, 1], server().port).into()).ask("HEAD", &path).send().await.expect(200);
        assert_eq!(head.header("x-amz-server-side-encryption"), Some("aws:kms"), "{name}");
        assert_eq!(head.header("x-amz-server-side-encryption-aws-kms-key-id"), Some(KEY), "{name}");
    }
    let scripted = Scripted::start().await;
    scripted.on("PUT *", Reply::ok("").header("etag", "\"1\""));
    let upload = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    scripted.on("POST *", Reply::ok(upload));
    let store = client(&encrypted(settings_of(&scripted, HumanDuration::secs(3))));
    store.put(&key("one"), Bytes::from_static(b"one"), ObjectWrite::Create).await.expect("written");
    let sha256 = Sha256::of(b"two");
    let chunks = source(vec![Ok(b"two")]);
    store.put_stream(&ObjectKey::blob(sha256), chunks, 3, sha256, ObjectWrite::Create).await.expect("written");
    drop(store.begin(&ObjectKey::blob(sha256)).await.expect("begun"));
    let requests = scripted.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    for seen in requests {
        assert_eq!(seen.header("x-amz-server-side-encryption"), Some("aws:kms"), "{seen:?}");
        assert_eq!(seen.header("x-amz-server-side-encryption-aws-kms-key-id"), Some(KEY), "{seen:?}");
        let signed = seen.header("authorization").expect("a signature");
        assert!(signed.contains("x-amz-server-side-encryption-aws-kms-key-id"), "it is signed: {signed}");
    }
}
