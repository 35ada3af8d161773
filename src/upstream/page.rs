//! Pages: ask for JSON, take HTML where there is nothing better, and hand over decoded bytes of a known form.

use std::io::Read as _;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::address::{Stop, add_final_slash};
use super::body::Reader;
use super::error::{Malformed, Unavailability, UpstreamError};
use super::exchange::{Answer, Exchange};
use super::{Kind, Upstream};
use wheelport_index::ProjectName;
use wheelport_index::parse::Form;

const ANY_FORM: HeaderValue = HeaderValue::from_static(
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01",
);
const HTML_ONLY: HeaderValue = HeaderValue::from_static("text/html");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// How long an upstream that refused JSON is not asked for it again.
const HTML_ONLY_FOR: Duration = Duration::from_hours(1);
/// Larger compressed bodies are decompressed off the threads that serve requests.
const LONG_BODY: usize = 64 << 10;

/// A project's page as upstream wrote it.
#[derive(Debug, Clone)]
pub struct PageReply {
    /// Which form the body has.
    pub form: Form,
    /// The body, decompressed; bounded by [`ClientSettings::max_page_size`](super::ClientSettings::max_page_size).
    pub body: Bytes,
    /// Where it came from after redirects, with a final slash: what relative links are relative to.
    pub url: Url,
}

/// What a content type says about a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announced {
    Json,
    Html,
    /// A type that is too general: the body must look like JSON.
    PerhapsJson,
}

impl Upstream {
    /// One project's page. JSON where upstream has it; the whole answer within
    /// [`ClientSettings::answer_timeout`](super::ClientSettings::answer_timeout).
    pub async fn page(&self, name: &ProjectName) -> Result<PageReply, UpstreamError> {
        self.counted(Kind::Page, self.page_until(name, self.deadline())).await
    }

    async fn page_until(&self, name: &ProjectName, deadline: Instant) -> Result<PageReply, UpstreamError> {
        let mut html_only = self.is_html_only();
        let mut broken = false;
        loop {
            let answer = self.ask_for_page(name, html_only, deadline).await?;
            if answer.response.status() == StatusCode::NOT_ACCEPTABLE {
                if html_only {
                    return Err(Malformed::Status(StatusCode::NOT_ACCEPTABLE.as_u16()).into());
                }
                self.remember_html_only();
                html_only = true;
                continue;
            }
            let late = Err(UpstreamError::unavailable(Unavailability::Timeout));
            match timeout_at(deadline, self.read_page(answer)).await.unwrap_or(late) {
                // A page is small enough to begin again.
                Err(UpstreamError::Unavailable { reason: Unavailability::Broken, .. })
                    if !broken && self.inner.gate.may_repeat() =>
                {
                    broken = true;
                    self.inner.metrics.repeated(&self.inner.label, Unavailability::Broken.as_str());
                }
                outcome => return outcome,
            }
        }
    }

    async fn ask_for_page(
        &self,
        name: &ProjectName,
        html_only: bool,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, if html_only { HTML_ONLY } else { ANY_FORM });
        headers.insert(header::ACCEPT_ENCODING, GZIP);
        let exchange = Exchange {
            upstream: self,
            kind: Kind::Page,
            first: Stop { url: self.inner.endpoint.page(name), with_token: true },
            headers,
            usable: &[StatusCode::NOT_ACCEPTABLE],
            listed: false,
            resuming: false,
            deadline,
        };
        exchange.run().await
    }

    async fn read_page(&self, answer: Answer) -> Result<PageReply, UpstreamError> {
        let Answer { response, mut url, held } = answer;
        let announced = announced(response.headers()).ok_or(Malformed::ContentType)?;
        let is_gzip = is_gzip(response.headers())?;
        let limit = self.settings().max_page_size.bytes();
        let counter = self.inner.metrics.bytes(&self.inner.label, Kind::Page.as_str());
        let body = Reader::new(response, self.settings(), counter, Some(held)).whole(limit).await?;
        let body = if is_gzip { decompress(body, limit).await? } else { body };
        let form = match announced {
            Announced::Json => Form::Json,
            Announced::Html => Form::Html,
            Announced::PerhapsJson if body.trim_ascii_start().starts_with(b"{") => Form::Json,
            Announced::PerhapsJson => return Err(Malformed::ContentType.into()),
        };
        url.set_query(None);
        add_final_slash(&mut url);
        Ok(PageReply { form, body, url })
    }

    fn is_html_only(&self) -> bool {
        let until = self.inner.html_only_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn remember_html_only(&self) {
        tracing::info!(route = %self.inner.label, "upstream has no JSON pages; asking for HTML for an hour");
        let mut until = self.inner.html_only_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + HTML_ONLY_FOR);
    }
}

fn announced(headers: &HeaderMap) -> Option<Announced> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/vnd.pypi.simple.v1+json" => Some(Announced::Json),
        "application/vnd.pypi.simple.v1+html" | "text/html" => Some(Announced::Html),
        "application/json" => Some(Announced::PerhapsJson),
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
    // The task can only be lost with the whole runtime.
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
    fn the_content_type_decides_the_form() {
        let of = |value: &'static str| {
            announced(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert_eq!(of("application/vnd.pypi.simple.v1+json"), Some(Announced::Json));
        assert_eq!(of("Text/HTML; charset=utf-8"), Some(Announced::Html));
        assert_eq!(of("application/vnd.pypi.simple.v1+html"), Some(Announced::Html));
        assert_eq!(of("application/json"), Some(Announced::PerhapsJson));
        assert_eq!(of("application/xml"), None);
        assert_eq!(announced(&HeaderMap::new()), None);
    }

    #[test]
    fn only_gzip_is_undone() {
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
