//! Operations on one object in one request each.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::ObjectStore;
use super::body::{ObjectBody, SourceBytes};
use super::client::{Payload, READ_STALL, StoreRequest, StoreResponse};
use super::error::StoreError;
use super::key::ObjectKey;
use super::metrics::StoreOperation;
use wheelport_index::Sha256;

pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
/// How often a write that raced with another is sent in all.
const RACE_TRIES: u32 = 4;
/// The longest version that a store may give an object, in bytes.
const MAX_TAG: usize = 256;

/// The version of an object: its entity tag, as the store wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectTag(HeaderValue);

impl ObjectTag {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get(header::ETAG).filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG).cloned().map(Self)
    }
}

/// Under which condition an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectWrite {
    /// None; what is there is replaced.
    Always,
    /// Nothing may be there.
    Create,
    /// This version has to be there.
    Replace(ObjectTag),
}

impl ObjectWrite {
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::Always => {}
            Self::Create => drop(headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"))),
            Self::Replace(ObjectTag(tag)) => drop(headers.insert(header::IF_MATCH, tag)),
        }
    }
}

/// What the store says of an object without its bytes.
#[derive(Debug, Clone)]
pub struct ObjectHead {
    pub length: Option<u64>,
    pub tag: Option<ObjectTag>,
    /// The SHA-256 with which it was stored, if the store knows it.
    pub sha256: Option<Sha256>,
}

/// An object whose bytes are arriving.
pub struct StoredObject {
    pub head: ObjectHead,
    pub body: ObjectBody,
}

impl ObjectStore {
    /// An object, as it arrives.
    pub async fn get(&self, key: &ObjectKey) -> Result<StoredObject, StoreError> {
        self.get_if(key, None).await
    }

    /// A small object as a whole, compared with its checksum. With `known`, an object of that version is
    /// [`StoreError::NotModified`].
    pub async fn read(
        &self,
        key: &ObjectKey,
        known: Option<&ObjectTag>,
        limit: usize,
    ) -> Result<(Bytes, Option<ObjectTag>), StoreError> {
        let StoredObject { head, body } = self.get_if(key, known).await?;
        if head.length.is_some_and(|length| length > limit as u64) {
            return Err(StoreError::TooLarge);
        }
        Ok((body.gather(limit, head.sha256).await?, head.tag))
    }

    async fn get_if(&self, key: &ObjectKey, known: Option<&ObjectTag>) -> Result<StoredObject, StoreError> {
        let mut headers = HeaderMap::from_iter([(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"))]);
        if let Some(ObjectTag(tag)) = known {
            headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        let StoreResponse { response, permit } = self.plain(StoreOperation::Get, Method::GET, key, headers).await?;
        let head = ObjectHead::of(response.headers());
        let read = self.client.metrics.read();
        let body = ObjectBody::new(response.into_body(), head.length, READ_STALL, read, permit);
        Ok(StoredObject { head, body })
    }

    /// What the store says of an object.
    pub async fn head(&self, key: &ObjectKey) -> Result<ObjectHead, StoreError> {
        let headers = HeaderMap::from_iter([(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"))]);
        let response = self.plain(StoreOperation::Head, Method::HEAD, key, headers).await?.response;
        Ok(ObjectHead::of(response.headers()))
    }

    /// Writes a small object; returns its version. A write that raced with another is repeated.
    pub async fn put(&self, key: &ObjectKey, bytes: Bytes, write: ObjectWrite) -> Result<ObjectTag, StoreError> {
        let sha256 = Sha256::of(&bytes);
        for attempt in 1.. {
            let outcome = self.put_once(key, Payload::Bytes(bytes.clone()), bytes.len() as u64, sha256, write.clone());
            match outcome.await {
                Err(StoreError::Raced) if attempt < RACE_TRIES => {
                    tokio::time::sleep(Duration::from_millis(20).mul_f64(f64::from(attempt) + fastrand::f64())).await;
                }
                outcome => return outcome,
            }
        }
        Err(StoreError::Raced)
    }

    /// Writes an object of known length and digest as its bytes come. The store compares them with the digest.
    pub async fn put_stream(
        &self,
        key: &ObjectKey,
        bytes: SourceBytes,
        length: u64,
        sha256: Sha256,
        write: ObjectWrite,
    ) -> Result<ObjectTag, StoreError> {
        let payload = Payload::Source { bytes, length, sha256 };
        self.put_once(key, payload, length, sha256, write).await
    }

    async fn put_once(
        &self,
        key: &ObjectKey,
        payload: Payload,
        length: u64,
        sha256: Sha256,
        write: ObjectWrite,
    ) -> Result<ObjectTag, StoreError> {
        let mut headers = HeaderMap::from_iter([
            (CHECKSUM, checksum(sha256)?),
            (header::CONTENT_LENGTH, HeaderValue::from(length)),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        ]);
        write.apply(&mut headers);
        self.client.encryption(&mut headers);
        let (operation, query) = (StoreOperation::Put, String::new());
        let request = StoreRequest { operation, method: Method::PUT, key, query, headers, payload };
        let response = self.client.send(request).await?.response;
        self.client.metrics.written(length);
        ObjectTag::of(response.headers()).ok_or_else(|| StoreError::Broken("it gave the object no version".into()))
    }

    /// Removes an object; with a version, only that one. One that is not there is removed.
    pub async fn delete(&self, key: &ObjectKey, version: Option<ObjectTag>) -> Result<(), StoreError> {
        let mut headers = HeaderMap::new();
        version.map_or(ObjectWrite::Always, ObjectWrite::Replace).apply(&mut headers);
        match self.plain(StoreOperation::Delete, Method::DELETE, key, headers).await {
            Ok(_) | Err(StoreError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn plain(
        &self,
        operation: StoreOperation,
        method: Method,
        key: &ObjectKey,
        headers: HeaderMap,
    ) -> Result<StoreResponse, StoreError> {
        let (query, payload) = (String::new(), Payload::Nothing);
        self.client.send(StoreRequest { operation, method, key, query, headers, payload }).await
    }
}

impl ObjectHead {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // That of an object in parts is one of the parts' digests and ends in their number.
        let sha256 = text(CHECKSUM).and_then(|text| BASE64.decode(text).ok());
        Self {
            length: text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            tag: ObjectTag::of(headers),
            sha256: sha256.and_then(|digest| digest.try_into().ok()).map(Sha256),
        }
    }
}

/// A digest as S3 writes it.
pub(super) fn checksum(sha256: Sha256) -> Result<HeaderValue, StoreError> {
    HeaderValue::try_from(BASE64.encode(sha256.0)).map_err(|_| StoreError::Checksum)
}
