//! Pages: request JSON, accept HTML where upstream has no JSON, and return decompressed bytes of a known format.

use std::io::Read as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::address::{Hop, add_final_slash};
use super::admission::RequestClass;
use super::body::BodyReader;
use super::error::{Malformed, Unavailability, UpstreamError, Witness};
use super::exchange::{Exchange, RangeUse, UsableResponse};
use super::settings::DEFAULT_MAX_PAGE_SIZE;
use super::{RequestKind, Upstream};
use wheelport_index::parse::PageFormat;
use wheelport_index::{ProjectName, media};

const ANY_FORM: HeaderValue = HeaderValue::from_static(
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01",
);
const HTML_ONLY: HeaderValue = HeaderValue::from_static(media::TEXT_HTML);
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// How long no JSON is requested from an upstream that refused it.
const HTML_ONLY_FOR: Duration = Duration::from_hours(1);
/// Larger compressed bodies are decompressed off the threads that serve requests.
const LONG_BODY: usize = 64 << 10;
/// A longer page waits for its turn, compressed or not.
const LARGE_PAGE: u64 = 1 << 20;

/// A project's page as upstream sent it.
#[derive(Debug)]
pub struct PageReply {
    pub format: PageFormat,
    /// The body, decompressed; bounded by [`ClientSettings::max_page_size`](super::ClientSettings::max_page_size).
    pub body: Bytes,
    /// The address it came from after redirects, with a final slash: the base of relative links.
    pub url: Url,
    /// What it proves; nothing if another host sent it.
    pub witness: Option<Witness>,
    /// The turn of a large page, held until it is parsed.
    pub turn: Option<OwnedSemaphorePermit>,
}

/// What a content type says about a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageContentType {
    Json,
    Html,
    /// Too general a type: the body must look like JSON.
    PerhapsJson,
}

impl Upstream {
    /// Requests one project's page, as JSON where upstream has it. The complete page comes within
    /// [`ClientSettings::response_timeout`](super::ClientSettings::response_timeout).
    pub async fn page(&self, name: &ProjectName) -> Result<PageReply, UpstreamError> {
        self.counted(RequestKind::Page, self.page_until(name, self.deadline())).await
    }

    async fn page_until(&self, name: &ProjectName, deadline: Instant) -> Result<PageReply, UpstreamError> {
        let mut html_only = self.is_html_only();
        let mut restarted = false;
        loop {
            let usable = self.request_page(name, html_only, deadline).await?;
            if usable.response.status() == StatusCode::NOT_ACCEPTABLE {
                if html_only {
                    return Err(Malformed::Status(StatusCode::NOT_ACCEPTABLE.as_u16()).into());
                }
                self.remember_html_only();
                html_only = true;
                continue;
            }
            let late = Err(UpstreamError::unavailable(Unavailability::Timeout));
            match timeout_at(deadline, self.read_page(usable)).await.unwrap_or(late) {
                // A page is small enough to start over.
                Err(UpstreamError::Unavailable { reason: Unavailability::Broken, .. })
                    if !restarted && self.inner.admission.may_retry() =>
                {
                    restarted = true;
                    self.inner.metrics.retried(&self.inner.label, Unavailability::Broken.as_str());
                }
                outcome => return outcome,
            }
        }
    }

    async fn request_page(
        &self,
        name: &ProjectName,
        html_only: bool,
        deadline: Instant,
    ) -> Result<UsableResponse, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, if html_only { HTML_ONLY } else { ANY_FORM });
        headers.insert(header::ACCEPT_ENCODING, GZIP);
        let exchange = Exchange {
            upstream: self,
            kind: RequestKind::Page,
            class: RequestClass::Short,
            first: Hop { url: self.inner.endpoint.page(name), with_token: true },
            headers,
            usable: &[StatusCode::NOT_ACCEPTABLE],
            listed: false,
            range: RangeUse::Whole,
            deadline,
        };
        exchange.run().await
    }

    async fn read_page(&self, usable: UsableResponse) -> Result<PageReply, UpstreamError> {
        let UsableResponse { response, mut url, permit, witness } = usable;
        let content_type = page_content_type(response.headers()).ok_or(Malformed::ContentType)?;
        let is_gzip = is_gzip(response.headers())?;
        let limit = self.settings().max_page_size.unwrap_or(DEFAULT_MAX_PAGE_SIZE).bytes();
        let counter = self.inner.metrics.bytes(&self.inner.label, RequestKind::Page.as_str());
        let (mut body, mut turn) = (BodyReader::new(response, self.settings(), counter, Some(permit)), None);
        let mut bytes = BytesMut::new();
        if !body.gather(&mut bytes, LARGE_PAGE.min(limit)).await? {
            turn = self.inner.client.large_page_turn().await;
            if !body.gather(&mut bytes, limit).await? {
                return Err(UpstreamError::TooLarge { limit });
            }
        }
        let mut body = bytes.freeze();
        if is_gzip {
            let first = if turn.is_some() { limit } else { LARGE_PAGE.min(limit) };
            body = match decompress(body.clone(), first).await {
                Err(UpstreamError::TooLarge { .. }) if first < limit => {
                    turn = self.inner.client.large_page_turn().await;
                    decompress(body, limit).await?
                }
                decompressed => decompressed?,
            };
        }
        let format = match content_type {
            PageContentType::Json => PageFormat::Json,
            PageContentType::Html => PageFormat::Html,
            PageContentType::PerhapsJson if body.trim_ascii_start().starts_with(b"{") => PageFormat::Json,
            PageContentType::PerhapsJson => return Err(Malformed::ContentType.into()),
        };
        url.set_query(None);
        add_final_slash(&mut url);
        Ok(PageReply { format, body, url, witness, turn })
    }

    fn is_html_only(&self) -> bool {
        self.inner.html_only_until.lock().is_some_and(|until| Instant::now() < until)
    }

    fn remember_html_only(&self) {
        tracing::info!(route = %self.inner.label, "upstream has no JSON pages; requesting HTML for an hour");
        *self.inner.html_only_until.lock() = Some(Instant::now() + HTML_ONLY_FOR);
    }
}

fn page_content_type(headers: &HeaderMap) -> Option<PageContentType> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        media::JSON_V1 => Some(PageContentType::Json),
        media::HTML_V1 | media::TEXT_HTML => Some(PageContentType::Html),
        media::LEGACY_JSON => Some(PageContentType::PerhapsJson),
        _ => None,
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Malformed> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(false) };
    if codings.next().is_some() {
        return Err(Malformed::ContentEncoding);
    }
    match coding.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "identity" => Ok(false),
        _ => Err(Malformed::ContentEncoding),
    }
}

async fn decompress(body: Bytes, limit: u64) -> Result<Bytes, UpstreamError> {
    if body.len() < LONG_BODY {
        return gunzip(&body, limit);
    }
    // It fails only while the process stops: `gunzip` does not panic.
    wheelport_runtime::blocking(move || gunzip(&body, limit))
        .await
        .unwrap_or(Err(UpstreamError::unavailable(Unavailability::Shutdown)))
}

fn gunzip(compressed: &[u8], limit: u64) -> Result<Bytes, UpstreamError> {
    let mut body = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(compressed).take(limit.saturating_add(1));
    decoder.read_to_end(&mut body).map_err(|_| Malformed::Compression)?;
    if body.len() as u64 > limit {
        return Err(UpstreamError::TooLarge { limit });
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory can be written");
        encoder.finish().expect("memory can be written")
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_damage_is_noticed() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 8 << 10);
        assert_eq!(gunzip(&bomb, 1 << 20).map(|body| body.len()), Ok(1 << 20));
        assert_eq!(gunzip(&bomb, 1 << 19), Err(UpstreamError::TooLarge { limit: 1 << 19 }));
        let damaged = Err(UpstreamError::Malformed(Malformed::Compression));
        assert_eq!(gunzip(&bomb[..bomb.len() - 4], 1 << 20), damaged);
        assert_eq!(gunzip(b"<html>", 1 << 20), damaged);
    }

    #[test]
    fn the_content_type_decides_the_format() {
        let of = |value: &'static str| {
            page_content_type(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert_eq!(of(media::JSON_V1), Some(PageContentType::Json));
        assert_eq!(of("Text/HTML; charset=utf-8"), Some(PageContentType::Html));
        assert_eq!(of(media::HTML_V1), Some(PageContentType::Html));
        assert_eq!(of(media::LEGACY_JSON), Some(PageContentType::PerhapsJson));
        assert_eq!(of("application/xml"), None);
        assert_eq!(page_content_type(&HeaderMap::new()), None);
    }

    #[test]
    fn only_gzip_is_decompressed() {
        let of = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, value);
            }
            is_gzip(&headers)
        };
        assert_eq!(of(&[]), Ok(false));
        assert_eq!(of(&["identity"]), Ok(false));
        assert_eq!(of(&["GZip"]), Ok(true));
        for values in [&["br"] as &[_], &["gzip, gzip"], &["gzip", "gzip"], &["deflate"]] {
            assert_eq!(of(values), Err(Malformed::ContentEncoding), "{values:?}");
        }
    }
}
