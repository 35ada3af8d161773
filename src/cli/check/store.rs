//! The steps about the object store that replicas share: what may be done in it, how fast it responds, and whether it
//! keeps conditions when many write at once.

use std::time::Duration;

use tokio::time::Instant;

use super::report::Finding;
use crate::control::{AwsSettings, ControlPlane, RoleArn};
use crate::fleet::{FleetSettings, ObjectStore, StoreAccess, StoreError, StoreTraits};
use wheelport_runtime::{Clock, HumanDuration};

const RIGHTS: &str = "store";
const CONDITIONS: &str = "store conditions";
/// How long the store may take here: a slow one is a finding of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the store can be used, with objects below its prefix that are removed again.
pub(super) async fn steps(settings: &FleetSettings, aws: &AwsSettings, clock: &Clock) -> Vec<Finding> {
    let store = match connect(settings, aws, clock).await {
        Ok(store) => store,
        Err(reason) => {
            let remedy = "correct the [fleet] table, and give this process AWS credentials";
            return vec![Finding::fail(RIGHTS, reason, remedy), Finding::skip(CONDITIONS, "the store cannot be used")];
        }
    };
    let began = Instant::now();
    if let Err((action, error)) = store.try_rights().await {
        let finding = Finding::fail(RIGHTS, error.to_string(), remedy(&error, action, &store));
        return vec![finding, Finding::skip(CONDITIONS, "the store cannot be used")];
    }
    // Three requests, one after the other.
    let each = began.elapsed() / 3;
    let rights = if each > settings.store_timeout.get() {
        Finding::warn(
            RIGHTS,
            format!("{} can be used, but takes {} ms a request", store.location(), each.as_millis()),
            "use a store in this region, or raise `[fleet] store_timeout`: after three slower requests in a row \
             replicas do without it for a while",
        )
    } else {
        Finding::ok(RIGHTS, format!("{} can be read, written and deleted from", store.location()))
    };
    vec![rights, conditions(store.probe().await, &store)]
}

async fn connect(settings: &FleetSettings, aws: &AwsSettings, clock: &Clock) -> Result<ObjectStore, String> {
    let role_arn = settings.store_role_arn.as_deref().map(RoleArn::parse).transpose();
    let role_arn = role_arn.map_err(|error| error.to_string())?;
    let plane = ControlPlane::connect(&AwsSettings { role_arn, ..aws.clone() }).await;
    let region = plane.region().map(|region| region.as_str().to_owned());
    let credentials = plane.provider().await.ok_or("there are no credentials for the store")?;
    let patience = settings.store_timeout.get().max(PATIENCE);
    let patience = HumanDuration::millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
    let settings = FleetSettings { store_timeout: patience, ..settings.clone() };
    let store = ObjectStore::new(&settings, StoreAccess { region, credentials }, clock.clone());
    store.map_err(|error| error.to_string())?.ok_or_else(|| "no store is configured".to_owned())
}

/// What the race showed.
fn conditions(outcome: Result<StoreTraits, StoreError>, store: &ObjectStore) -> Finding {
    let traits = match outcome {
        Ok(traits) => traits,
        Err(error) => {
            let remedy = remedy(&error, "s3:PutObject", store);
            return Finding::fail(CONDITIONS, error.to_string(), remedy);
        }
    };
    let StoreTraits { creates_once, replaces_version, deletes_version, refuses_checksum } = traits;
    let details: Vec<_> = [
        (creates_once, "of eight that create one object at once, more or fewer than one do"),
        (replaces_version, "a version that is gone is replaced (If-Match is not kept)"),
        (deletes_version, "a version that is gone is removed (If-Match of a DELETE is not kept)"),
        (refuses_checksum, "bytes with another checksum than announced are taken"),
    ]
    .into_iter()
    .filter(|(is_kept, _)| !is_kept)
    .map(|(_, text)| text.to_owned())
    .collect();
    if !traits.can_lease() {
        let summary = "the store does not keep conditions; replicas hold no leases in it";
        let remedy = "use a store with conditional writes (AWS S3 has them), or set `[fleet] redis` for leases; \
                      without either, replicas may fetch the same file more than once, and records of published \
                      files may be lost";
        return Finding::warn(CONDITIONS, summary, remedy).with_details(details);
    }
    Finding::ok(CONDITIONS, "conditional writes are kept under a race; replicas can hold leases").with_details(details)
}

fn remedy(error: &StoreError, action: &str, store: &ObjectStore) -> String {
    let location = store.location();
    match error {
        StoreError::Denied(_) => format!(
            "allow {action} on `{location}` to this process's role (`wheelport iam-policy fleet`), and, where the \
             bucket is encrypted with a KMS key, kms:GenerateDataKey and kms:Decrypt on the key"
        ),
        StoreError::NoBucket => format!("create the bucket `{}`, or correct `[fleet] store`", location.bucket),
        StoreError::Region => {
            format!("set `[fleet] store_region` to the bucket's region; requests are signed for {}", store.region())
        }
        StoreError::Clock => "correct this machine's clock".to_owned(),
        StoreError::Credentials(_) => {
            "give this process AWS credentials, by a role or by the environment, or correct `[fleet] store_role_arn`"
                .to_owned()
        }
        StoreError::TimedOut | StoreError::Broken(_) | StoreError::Open => {
            "open the way to the store from here, through a VPC endpoint for S3, or correct `[fleet] store_endpoint`"
                .to_owned()
        }
        _ => {
            "look what the store says, and whether `[fleet] store_endpoint` and `store_path_style` are right".to_owned()
        }
    }
}
