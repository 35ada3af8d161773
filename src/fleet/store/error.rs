//! How an operation on the store can fail, from the status and the few fields of S3's error document.

use http::StatusCode;

/// Why an operation on the store did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such object, or no such upload.
    #[error("the store has no such object")]
    Missing,
    /// There is no such bucket.
    #[error("the store has no such bucket")]
    NoBucket,
    /// The bucket is in another region.
    #[error("the bucket is in another region than requests are signed for")]
    Region,
    /// An object is there that should not be, or not in the version that was expected.
    #[error("the object is there already, or in another version")]
    Exists,
    /// Another request for the same object was under way; the same one again may succeed.
    #[error("another request for the object was under way")]
    Raced,
    /// The object is what the caller has already.
    #[error("the object has not changed")]
    NotModified,
    /// The store refuses these credentials, or what they may do; S3's word for it.
    #[error("the store refuses access: {0}")]
    Denied(String),
    /// The clock of this machine is wrong.
    #[error("the store refuses the time of this machine's clock")]
    Clock,
    /// There are no credentials to ask with.
    #[error("no credentials for the store: {0}")]
    Credentials(String),
    /// The store asks for fewer requests.
    #[error("the store asks for fewer requests")]
    Throttled,
    /// The bytes that arrived have another checksum than was announced.
    #[error("the store received or sent other bytes than announced")]
    Checksum,
    /// It is larger than what the caller takes.
    #[error("the object is too large")]
    TooLarge,
    /// It kept silent.
    #[error("the store did not respond in time")]
    TimedOut,
    /// It could not be reached, broke off, or does not speak the protocol.
    #[error("the store cannot be reached: {0}")]
    Broken(String),
    /// The bytes that were to be sent did not come.
    #[error("what was to be stored broke off")]
    Source,
    /// The store responded with something else.
    #[error("the store responded {status} {code}")]
    Refused { status: u16, code: String },
    /// It was not asked, because it has kept silent before.
    #[error("the store is not asked for the moment")]
    Open,
}

impl StoreError {
    /// The metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NoBucket => "no-bucket",
            Self::Region => "region",
            Self::Exists => "exists",
            Self::Raced => "raced",
            Self::NotModified => "not-modified",
            Self::Denied(_) => "denied",
            Self::Clock => "clock",
            Self::Credentials(_) => "credentials",
            Self::Throttled => "throttled",
            Self::Checksum => "checksum",
            Self::TooLarge => "too-large",
            Self::TimedOut => "timed-out",
            Self::Broken(_) => "broken",
            Self::Source => "source",
            Self::Refused { .. } => "refused",
            Self::Open => "open",
        }
    }
}

/// What a response without success means. `body` is the beginning of its error document.
pub(super) fn classify(status: StatusCode, body: &[u8]) -> StoreError {
    let code = error_code(body).unwrap_or_default();
    match (status.as_u16(), code) {
        (_, "NoSuchBucket") => StoreError::NoBucket,
        (301 | 307, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed") => StoreError::Region,
        (_, "RequestTimeTooSkewed" | "RequestExpired") => StoreError::Clock,
        (_, "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling" | "ThrottlingException") => {
            StoreError::Throttled
        }
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            StoreError::Checksum
        }
        (304, _) => StoreError::NotModified,
        (404, _) => StoreError::Missing,
        (412, _) => StoreError::Exists,
        (409, _) => StoreError::Raced,
        (429 | 503, "" | "ServiceUnavailable") => StoreError::Throttled,
        (401 | 403, "") => StoreError::Denied(status.to_string()),
        (401 | 403, code) => StoreError::Denied(code.to_owned()),
        (status, code) => StoreError::Refused { status, code: code.to_owned() },
    }
}

/// The longest code that is taken from an error document, in bytes.
const MAX_CODE: usize = 64;

/// The text of `<Code>`: a word, or nothing.
fn error_code(body: &[u8]) -> Option<&str> {
    let code = element(std::str::from_utf8(body).ok()?, "Code")?;
    let is_word = !code.is_empty() && code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

/// The text of the first element of this name that has no attributes and no children. S3's few documents need no more.
pub(super) fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = document;
    loop {
        let (_, after) = rest.split_once('<')?;
        rest = after;
        if let Some(text) = rest.strip_prefix(name).and_then(|rest| rest.strip_prefix('>')) {
            return text.split_once('<').map(|(text, _)| text.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: &str) -> StoreError {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>");
        classify(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    #[test]
    fn errors_are_told_apart_by_status_and_code() {
        assert_eq!(error(404, "NoSuchKey"), StoreError::Missing);
        assert_eq!(error(404, "NoSuchBucket"), StoreError::NoBucket);
        assert_eq!(error(301, "PermanentRedirect"), StoreError::Region);
        assert_eq!(error(400, "AuthorizationHeaderMalformed"), StoreError::Region);
        assert_eq!(error(412, "PreconditionFailed"), StoreError::Exists);
        assert_eq!(error(409, "ConditionalRequestConflict"), StoreError::Raced);
        assert_eq!(error(403, "AccessDenied"), StoreError::Denied("AccessDenied".into()));
        assert_eq!(error(403, "RequestTimeTooSkewed"), StoreError::Clock);
        assert_eq!(error(503, "SlowDown"), StoreError::Throttled);
        assert_eq!(error(400, "BadDigest"), StoreError::Checksum);
        assert_eq!(error(500, "InternalError"), StoreError::Refused { status: 500, code: "InternalError".into() });
    }

    #[test]
    fn a_document_that_is_none_leaves_the_status() {
        let status = StatusCode::FORBIDDEN;
        for body in [&b""[..], b"<Code>", b"<Code>two words</Code>", b"\xff<Code>A</Code>", b"<Code><b/></Code>"] {
            assert_eq!(classify(status, body), StoreError::Denied(status.to_string()), "{body:?}");
        }
    }

    #[test]
    fn elements_are_found_among_others() {
        let document = "<R xmlns=\"x\"><UploadIdMarker>1</UploadIdMarker><UploadId> a-b </UploadId></R>";
        assert_eq!(element(document, "UploadId"), Some("a-b"));
        assert_eq!(element(document, "Key"), None);
    }
}
