//! Who is known: put together at the start, and replaced when the files that say so change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use url::Url;

use crate::config::Settings;
use crate::identity::{FetchDocument, Identities, IssuerDocument, KeyState};
use crate::telemetry::Metrics;
use crate::upstream::{Client, ClientError};
use wheelport_runtime::{Clock, Tasks, blocking};

/// How often the files are looked at. A token that is taken out of them is good for that long at most.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often the keys of issuers are fetched without being needed, so that requests find them fresh.
const WARM_INTERVAL: Duration = Duration::from_mins(8);

/// Fetches documents of issuers over the client of the process.
struct IssuerDocuments(Client);

impl FetchDocument for IssuerDocuments {
    fn fetch(&self, url: Url, limit: usize, is_configured: bool) -> BoxFuture<'static, Result<IssuerDocument, String>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (bytes, date) = client.document(&url, limit, is_configured).await?;
            Ok(IssuerDocument { bytes, date })
        })
    }
}

/// Who is known to these settings, for a command that asks once.
pub(crate) fn identities_of(settings: &Settings, clock: Clock, tasks: &Tasks) -> Result<Identities, ClientError> {
    let documents = Arc::new(IssuerDocuments(Client::new(settings.upstream.clone())?));
    let (rules, signing) = (settings.identities.clone(), settings.signing_keys.clone());
    Ok(Identities::new(rules, signing, documents, clock, tasks.clone()))
}

/// Puts it together and keeps it up to date.
pub(super) fn start(
    settings: &Settings,
    client: &Client,
    clock: Clock,
    tasks: &Tasks,
    metrics: &Metrics,
) -> Arc<Identities> {
    let (rules, signing) = (settings.identities.clone(), settings.signing_keys.clone());
    if signing.is_random() && !rules.issuers().is_empty() {
        tracing::info!("tokens are signed with a key of this process; replicas need [tokens] key_file");
    }
    let documents = Arc::new(IssuerDocuments(client.clone()));
    let identities = Arc::new(Identities::new(rules, signing, documents, clock, tasks.clone()));
    metrics.register(|registry| {
        identities.metrics().register(registry);
        registry.register_collector(Box::new(KeyGauges(Arc::clone(&identities))));
    });
    let warmed = Arc::clone(&identities);
    tasks.spawn_loop("fetch keys of issuers", async move {
        loop {
            warmed.warm().await;
            tokio::time::sleep(WARM_INTERVAL).await;
        }
    });
    if settings.source.is_some() {
        tasks.spawn_loop("reload identities", reload(settings.clone(), Arc::clone(&identities)));
    }
    identities
}

/// The files that were looked at, and what tells one state of each from another.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

fn stamps(files: Vec<PathBuf>) -> Stamps {
    let of = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        (path, stamp)
    };
    files.into_iter().map(of).collect()
}

/// Looks at the files again and again. They are read once more at the start, because they may have changed since.
async fn reload(mut settings: Settings, identities: Arc<Identities>) {
    let mut seen = Stamps::new();
    loop {
        let files = settings.identity_files();
        let now = blocking(move || stamps(files)).await.unwrap_or_default();
        if now != seen
            && let Some(source) = settings.source.clone()
        {
            seen = now;
            match blocking(move || source.load()).await {
                Ok(Ok(changed)) => {
                    identities.replace(changed.identities.clone(), changed.signing_keys.clone());
                    settings = changed;
                    tracing::info!(issuers = settings.identities.issuers().len(), "identities were read");
                }
                Ok(Err(reason)) => {
                    tracing::warn!(%reason, "the configuration cannot be used; identities stay as they were");
                }
                Err(_) => tracing::error!("reading the configuration panicked; identities stay as they were"),
            }
        }
        tokio::time::sleep(RELOAD_INTERVAL).await;
    }
}

/// How the keys of issuers are, when metrics are scraped.
struct KeyGauges(Arc<Identities>);

impl std::fmt::Debug for KeyGauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyGauges")
    }
}

/// A gauge with one value per issuer: name, help, and the value.
type KeyGauge = (&'static str, &'static str, fn(&KeyState) -> Option<f64>);

const GAUGES: [KeyGauge; 3] = [
    ("issuer_keys", "Keys of the issuer that can be used", |state| {
        Some(f64::from(u32::try_from(state.number).unwrap_or(u32::MAX)))
    }),
    ("issuer_keys_age_seconds", "Time since the keys of the issuer were fetched", |state| {
        state.age.map(|age| age.as_secs_f64())
    }),
    ("issuer_keys_failed", "Whether the last fetch of the keys of the issuer failed", |state| {
        Some(f64::from(u8::from(state.has_failed)))
    }),
];

impl Collector for KeyGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let states = self.0.key_states();
        for (name, help, value) in GAUGES {
            let gauge = ConstGauge::new(0.0_f64);
            let mut metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            for state in &states {
                let Some(value) = value(state) else { continue };
                let labels = [("issuer", state.issuer.to_string())];
                ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
