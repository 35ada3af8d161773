//! When keys are fetched, and what is used when they cannot be.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// An issuer's documents, which can change and fail.
#[derive(Default)]
struct StandInDocuments {
    key_ids: Mutex<Vec<&'static str>>,
    fails: Mutex<bool>,
    issuer: Mutex<&'static str>,
    fetched: AtomicUsize,
}

impl FetchDocument for StandInDocuments {
    fn fetch(
        &self,
        url: Url,
        _limit: usize,
        is_configured: bool,
    ) -> BoxFuture<'static, Result<IssuerDocument, String>> {
        let document = if *self.fails.lock() {
            Err("away".to_owned())
        } else if url.path().ends_with("openid-configuration") {
            Ok(json!({"issuer": *self.issuer.lock(), "jwks_uri": "https://ci.invalid/keys"}))
        } else {
            assert!(is_configured, "the keys are at the configured host");
            self.fetched.fetch_add(1, Ordering::SeqCst);
            let key = |id: &&str| json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43), "kid": id});
            Ok(json!({"keys": self.key_ids.lock().iter().map(key).collect::<Vec<_>>()}))
        };
        Box::pin(async move {
            document.map(|document| IssuerDocument { bytes: Bytes::from(document.to_string()), date: None })
        })
    }
}

fn issuer() -> Result<Arc<Issuer>, Box<dyn std::error::Error>> {
    let text = "name = \"ci\"\nurl = \"https://ci.invalid/\"\naudience = \"wheelport\"";
    Ok(Arc::new(Issuer::read(toml::from_str(text)?)?))
}

fn stand_in(key_ids: &[&'static str]) -> (Arc<StandInDocuments>, KeyCache) {
    let documents = Arc::new(StandInDocuments::default());
    *documents.key_ids.lock() = key_ids.to_vec();
    *documents.issuer.lock() = "https://ci.invalid";
    (Arc::clone(&documents), KeyCache::new(documents, Tasks::new()))
}

async fn find(cache: &KeyCache, issuer: &Arc<Issuer>, id: &str) -> Result<usize, NoKey> {
    cache.find(issuer, Some(id)).await.map(|(_, position)| position)
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_every_ten_minutes_and_for_an_unknown_one_once_a_minute() -> Outcome {
    let (documents, cache) = stand_in(&["a"]);
    let issuer = issuer()?;
    let fetched = || documents.fetched.load(Ordering::SeqCst);
    assert_eq!((find(&cache, &issuer, "a").await, fetched()), (Ok(0), 1));
    for _ in 0..100 {
        assert_eq!(find(&cache, &issuer, "b").await, Err(NoKey::Unknown));
    }
    assert_eq!(fetched(), 1, "the keys came a moment ago");
    *documents.key_ids.lock() = vec!["b"];
    tokio::time::advance(UNKNOWN_KEY_PAUSE).await;
    assert_eq!((find(&cache, &issuer, "b").await, fetched()), (Ok(0), 2));
    assert_eq!(find(&cache, &issuer, "a").await, Err(NoKey::Unknown), "a key that was taken away is gone");
    tokio::time::advance(FRESH_FOR).await;
    assert_eq!((find(&cache, &issuer, "b").await, fetched()), (Ok(0), 3));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_kept_while_the_issuer_is_away() -> Outcome {
    let (documents, cache) = stand_in(&["a"]);
    let issuer = issuer()?;
    *documents.fails.lock() = true;
    assert_eq!(find(&cache, &issuer, "a").await, Err(NoKey::Unavailable));
    *documents.fails.lock() = false;
    assert_eq!(find(&cache, &issuer, "a").await, Err(NoKey::Unavailable), "the last failure is a moment ago");
    tokio::time::advance(FAILURE_PAUSE).await;
    assert_eq!(find(&cache, &issuer, "a").await, Ok(0));
    *documents.fails.lock() = true;
    for _ in 0..10 {
        tokio::time::advance(FRESH_FOR).await;
        assert_eq!(find(&cache, &issuer, "a").await, Ok(0));
        assert_eq!(find(&cache, &issuer, "b").await, Err(NoKey::Unknown));
    }
    let states = cache.states(&[issuer]);
    assert!(states[0].has_failed && states[0].number == 1 && states[0].age >= Some(FRESH_FOR * 10), "{states:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_discovery_document_of_another_issuer_is_not_believed() -> Outcome {
    let (documents, cache) = stand_in(&["a"]);
    *documents.issuer.lock() = "https://other.invalid";
    assert_eq!(find(&cache, &issuer()?, "a").await, Err(NoKey::Unavailable));
    assert_eq!(documents.fetched.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test]
async fn keys_may_come_from_a_file_and_are_read_again_after_a_reload() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("keys");
    let key = |id: &str| json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43), "kid": id}]});
    std::fs::write(&path, key("a").to_string())?;
    let text = format!("name = \"ci\"\nurl = \"http://ci.invalid\"\naudience = \"w\"\nkeys_file = {path:?}");
    let issuer = Arc::new(Issuer::read(toml::from_str(&text)?)?);
    let (_, cache) = stand_in(&[]);
    assert_eq!(find(&cache, &issuer, "a").await, Ok(0));
    std::fs::write(&path, key("b").to_string())?;
    assert_eq!(find(&cache, &issuer, "b").await, Err(NoKey::Unknown));
    cache.reload(&[Arc::clone(&issuer)]);
    assert_eq!(find(&cache, &issuer, "b").await, Ok(0));
    std::fs::write(&path, "nothing")?;
    cache.reload(&[Arc::clone(&issuer)]);
    assert_eq!(find(&cache, &issuer, "b").await, Ok(0), "the last good keys are kept");
    Ok(())
}
