//! Objects in parts: for those larger than one request takes, and for those whose digest is not known before their last
//! byte. Nothing appears before the caller has verified the whole and completes it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::ObjectStore;
use super::client::{Payload, StoreRequest};
use super::error::{StoreError, element};
use super::key::ObjectKey;
use super::metrics::StoreOperation;
use super::operations::{CHECKSUM, ObjectTag, ObjectWrite, checksum};
use wheelport_index::Sha256;

/// The length of a part, in bytes; S3 takes none below 5 MiB but the last.
const PART: usize = 16 << 20;
/// The most parts of an object.
const MAX_PARTS: usize = 10_000;
/// The longest document that the store responds with, in bytes.
const MAX_DOCUMENT: usize = 16 << 10;
/// How long the store may take to put an object together, after its response began.
const ASSEMBLY: Duration = Duration::from_mins(1);
const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");

/// An upload in parts. It holds one part in memory. One that is neither completed nor aborted is left to the rule of
/// the bucket that aborts unfinished uploads.
pub struct MultipartUpload {
    store: ObjectStore,
    key: ObjectKey,
    id: String,
    pending: BytesMut,
    parts: Vec<UploadedPart>,
}

struct UploadedPart {
    tag: String,
    checksum: String,
}

impl ObjectStore {
    /// Begins an object in parts.
    pub async fn begin(&self, key: &ObjectKey) -> Result<MultipartUpload, StoreError> {
        let mut headers = HeaderMap::from_iter([(ALGORITHM, HeaderValue::from_static("SHA256"))]);
        self.client.encryption(&mut headers);
        let document = self.multipart(key, Method::POST, "?uploads=".into(), headers, Payload::Nothing).await?.1;
        let id = element(&document, "UploadId").filter(|id| is_upload_id(id));
        let id = id.ok_or_else(|| StoreError::Broken("it gave the upload no name".into()))?.to_owned();
        Ok(MultipartUpload { store: self.clone(), key: key.clone(), id, pending: BytesMut::new(), parts: Vec::new() })
    }

    /// One request of an upload; returns what the store responded.
    async fn multipart(
        &self,
        key: &ObjectKey,
        method: Method,
        query: String,
        headers: HeaderMap,
        payload: Payload,
    ) -> Result<(HeaderMap, String), StoreError> {
        let operation = StoreOperation::Multipart;
        let request = StoreRequest { operation, method, key, query, headers, payload };
        let response = self.client.send(request).await?.response;
        let headers = response.headers().clone();
        let (mut document, mut body) = (Vec::new(), response.into_body());
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| StoreError::Broken(error.to_string()))?;
                document.extend_from_slice(&frame.into_data().unwrap_or_default());
                if document.len() > MAX_DOCUMENT {
                    return Err(StoreError::TooLarge);
                }
            }
            Ok(())
        };
        timeout(ASSEMBLY, reading).await.map_err(|_| StoreError::TimedOut)??;
        let document = String::from_utf8(document).map_err(|_| StoreError::Broken("it sent no text".into()))?;
        Ok((headers, document))
    }
}

impl MultipartUpload {
    /// Adds bytes; sends them when they make a part.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.pending.extend_from_slice(bytes);
        while self.pending.len() >= PART {
            let part = self.pending.split_to(PART).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<(), StoreError> {
        if self.parts.len() >= MAX_PARTS {
            return Err(StoreError::TooLarge);
        }
        let (digest, length) = (checksum(Sha256::of(&part))?, part.len() as u64);
        let headers =
            HeaderMap::from_iter([(CHECKSUM, digest.clone()), (header::CONTENT_LENGTH, HeaderValue::from(length))]);
        let query = format!("?partNumber={}&uploadId={}", self.parts.len() + 1, self.id);
        let (headers, _) = self.store.multipart(&self.key, Method::PUT, query, headers, whole(part)).await?;
        self.store.client.metrics.written(length);
        let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let tag = text(headers.get(header::ETAG)).filter(|tag| !tag.contains(['<', '&', '>']));
        let tag = tag.ok_or_else(|| StoreError::Broken("it gave a part no version".into()))?;
        self.parts.push(UploadedPart { tag, checksum: text(Some(&digest)).unwrap_or_default() });
        Ok(())
    }

    /// Makes the object appear, if nothing is there; the caller has verified all bytes.
    pub async fn complete(mut self) -> Result<(), StoreError> {
        let last = self.pending.split().freeze();
        if !last.is_empty() || self.parts.is_empty() {
            self.send(last).await?;
        }
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))]);
        ObjectWrite::Create.apply(&mut headers);
        let (query, document) = (format!("?uploadId={}", self.id), Bytes::from(self.list()));
        let payload = whole(document);
        let (headers, document) = self.store.multipart(&self.key, Method::POST, query, headers, payload).await?;
        // It responds 200 before it knows, and tells an error in the document.
        match element(&document, "Code") {
            Some("PreconditionFailed") => Err(StoreError::Exists),
            Some(code) => Err(StoreError::Refused { status: 200, code: code.chars().take(64).collect() }),
            None if document.contains("ETag") || ObjectTag::of(&headers).is_some() => Ok(()),
            None => Err(StoreError::Broken("it did not say whether the object is complete".into())),
        }
    }

    fn list(&self) -> String {
        let parts = self.parts.iter().zip(1..).map(|(part, number)| {
            let UploadedPart { tag, checksum } = part;
            format!(
                "<Part><ETag>{tag}</ETag><ChecksumSHA256>{checksum}</ChecksumSHA256>\
                 <PartNumber>{number}</PartNumber></Part>"
            )
        });
        format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>())
    }

    /// Gives the upload up; the store forgets its parts.
    pub async fn abort(self) -> Result<(), StoreError> {
        let query = format!("?uploadId={}", self.id);
        let request = self.store.multipart(&self.key, Method::DELETE, query, HeaderMap::new(), Payload::Nothing);
        request.await.map(drop)
    }
}

/// Bytes as a source, so that the limit is for silences and not for the whole request.
fn whole(bytes: Bytes) -> Payload {
    let (length, sha256) = (bytes.len() as u64, Sha256::of(&bytes));
    Payload::Source { bytes: Box::pin(futures_util::stream::iter([Ok(bytes)])), length, sha256 }
}

/// Upload ids go into an address as they are.
fn is_upload_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=1024).contains(&id.len()) && id.bytes().all(is_plain)
}
