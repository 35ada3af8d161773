//! Signs requests to the store with SigV4. S3 takes paths as they are and wants the digest of the body in a header.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use http::Request;

use super::error::StoreError;
use wheelport_index::Sha256;

const SERVICE: &str = "s3";

/// Adds the signature of a request whose body has this digest.
pub(super) fn sign_request<B>(
    request: &mut Request<B>,
    payload: Sha256,
    credentials: &Credentials,
    region: &str,
    time: SystemTime,
) -> Result<(), StoreError> {
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(time)
        .settings(settings())
        .build()
        .map_err(|error| StoreError::Broken(error.to_string()))?
        .into();
    let address = request.uri().to_string();
    let headers: Vec<_> =
        request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let body = SignableBody::Precomputed(payload.to_string());
    let instructions = SignableRequest::new(request.method().as_str(), address, headers.into_iter(), body)
        .and_then(|signable| sign(signable, &parameters))
        .map_err(|error| StoreError::Broken(error.to_string()))?
        .into_parts()
        .0;
    instructions.apply_to_request_http1x(request);
    Ok(())
}

fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The examples of S3's documentation of SigV4 (24 May 2013, a bucket in us-east-1).
    fn signature(request: http::request::Builder, payload: &[u8]) -> String {
        let credentials =
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, None, "test");
        let mut request = request.header("host", "examplebucket.s3.amazonaws.com").body(()).expect("a request");
        let time = UNIX_EPOCH + Duration::from_hours(380_376);
        sign_request(&mut request, Sha256::of(payload), &credentials, "us-east-1", time).expect("a signature");
        let text = request.headers()["authorization"].to_str().expect("text").to_owned();
        text.split_once("Signature=").expect("a signature").1.to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_documented_examples() {
        let get = Request::get("https://examplebucket.s3.amazonaws.com/test.txt").header("range", "bytes=0-9");
        assert_eq!(signature(get, b""), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let put = Request::put("https://examplebucket.s3.amazonaws.com/test%24file.text")
            .header("date", "Fri, 24 May 2013 00:00:00 GMT")
            .header("x-amz-storage-class", "REDUCED_REDUNDANCY");
        assert_eq!(
            signature(put, b"Welcome to Amazon S3."),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        let list = Request::get("https://examplebucket.s3.amazonaws.com/?lifecycle");
        assert_eq!(signature(list, b""), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    }
}
