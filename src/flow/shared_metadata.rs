//! Core metadata in the store that replicas share: by the digest of its wheel, with the fact that a wheel has none.

use std::fmt::Write as _;

use bytes::Bytes;

use super::pages::PageService;
use super::route::Route;
use crate::cache::CoreMetadataRecord;
use crate::fleet::{Fleet, ObjectKey, ObjectWrite, StoreError, TierResult};
use wheelport_index::Sha256;
use wheelport_runtime::{Tasks, sabotaged};

/// The label of core metadata in metrics.
const KIND: &str = "metadata";
/// The longest object, in bytes.
const LARGEST: usize = 16 << 20;
/// The first word of an object.
const MAGIC: &str = "wheelport-metadata-1";

/// Shares core metadata. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedMetadata {
    fleet: Fleet,
    pages: PageService,
    tasks: Tasks,
}

impl SharedMetadata {
    pub(super) fn new(fleet: Fleet, pages: PageService, tasks: Tasks) -> Self {
        Self { fleet, pages, tasks }
    }

    /// What another replica has found in a wheel.
    pub(super) async fn get(&self, route: &Route, wheel: Sha256) -> Option<CoreMetadataRecord> {
        let store = self.fleet.store()?;
        if !self.pages.may_read_shared(route).await {
            return None;
        }
        let key = ObjectKey::metadata(wheel);
        let (result, record) = match store.read(&key, None, LARGEST).await {
            Ok((object, _)) => match decode(wheel, &object) {
                Some(record) => (TierResult::Hit, Some(record)),
                None => (TierResult::Wrong, None),
            },
            Err(StoreError::Missing) => (TierResult::Miss, None),
            Err(_) => (TierResult::Error, None),
        };
        self.fleet.tier().count(KIND, result);
        if result == TierResult::Wrong {
            tracing::error!(%wheel, "the store holds core metadata that is not what it says; it is not served");
            if let Err(error) = store.delete(&key, None).await {
                tracing::warn!(%wheel, %error, "wrong core metadata stays in the store");
            }
        }
        record
    }

    /// Writes what was found in a wheel, in the background.
    pub(super) fn offer(&self, wheel: Sha256, record: &CoreMetadataRecord) {
        let Some(store) = self.fleet.store().cloned() else { return };
        let (object, tier) = (encode(wheel, record), self.fleet.tier().clone());
        self.tasks.spawn("share core metadata", async move {
            let result = match store.put(&ObjectKey::metadata(wheel), object, ObjectWrite::Create).await {
                Ok(_) | Err(StoreError::Exists) => TierResult::Written,
                Err(_) => TierResult::Unwritten,
            };
            tier.count(KIND, result);
        });
    }
}

/// A line that says what follows, and the metadata.
fn encode(wheel: Sha256, record: &CoreMetadataRecord) -> Bytes {
    let mut head = format!("{MAGIC} {wheel} ");
    let body = match record {
        CoreMetadataRecord::Absent => {
            head.push_str("absent\n");
            &Bytes::new()
        }
        CoreMetadataRecord::Present(metadata) => {
            // Writing to a string does not fail.
            let _ = writeln!(head, "{}", metadata.sha256);
            &metadata.bytes
        }
    };
    [head.as_bytes(), body].concat().into()
}

fn decode(wheel: Sha256, object: &Bytes) -> Option<CoreMetadataRecord> {
    let end = object.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&object[..end]).ok()?;
    let digest = head.strip_prefix(MAGIC)?.strip_prefix(' ')?.strip_prefix(&wheel.to_string())?.strip_prefix(' ')?;
    let body = object.slice(end + 1..);
    if digest == "absent" {
        return body.is_empty().then_some(CoreMetadataRecord::Absent);
    }
    let record = CoreMetadataRecord::present(body);
    let CoreMetadataRecord::Present(metadata) = &record else { return None };
    (digest == metadata.sha256.to_string() || sabotaged("shared-metadata-digest")).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_and_that_of_another_wheel_or_with_other_bytes_does_not() {
        let (wheel, other) = (Sha256([1; 32]), Sha256([2; 32]));
        for record in [CoreMetadataRecord::Absent, CoreMetadataRecord::present(Bytes::from_static(b"Name: a\n"))] {
            let object = encode(wheel, &record);
            assert_eq!(decode(wheel, &object), Some(record));
            assert_eq!(decode(other, &object), None);
            assert_eq!(decode(wheel, &[&object, &b"x"[..]].concat().into()), None);
        }
        assert_eq!(decode(wheel, &Bytes::from_static(b"Name: a")), None);
    }
}
