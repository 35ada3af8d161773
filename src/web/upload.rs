//! Uploads: the right to publish before a byte is read, then the form to the flow, piece by piece, then the answer.
//!
//! A refusal is given after the rest of a form of reasonable size was read: most publishing tools look at the answer
//! only when they have sent everything, and would report a broken connection instead. Who waits for `100 Continue`
//! gets the refusal at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, VARY,
};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::account::Told;
use super::guard::{self, UploadPolicy};
use super::headers::{NO_STORE, harmless, values};
use super::negotiate::quality;
use super::publishers::Publisher;
use super::{Asking, RouteSite, Sent, Site, body};
use crate::error::Error;
use crate::flow::{Attempt, Publication, Received, Receiving};
use wheelport_index::FileName;

/// What goes to disk in one go, in bytes.
const BATCH: usize = 1 << 20;
/// How much of a refused form is read for the sake of its sender, in bytes.
const DRAIN_LIMIT: u64 = 256 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// An upload into a route.
pub(super) async fn upload(site: &Site, asking: &Asking<'_>, route: &RouteSite, sent: Sent) -> Result<Told, Error> {
    let headers = asking.headers;
    let client = guard::client_address(asking.peer, headers, &site.trusted_proxies);
    let mut attempt = Attempt::new(Arc::clone(&route.route.name), client, sent.request_id.as_str().to_owned());
    let Sent { mut body, credentials, .. } = sent;
    let received = match permitted(site, route, &credentials) {
        Ok(publisher) => {
            attempt.by(publisher.map_or_else(|| "anonymous".into(), |publisher| Arc::clone(publisher.name())));
            receive(site, headers, &mut body, publisher, &mut attempt).await
        }
        Err(error) => Err(error),
    };
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            attempt.finish(&Err(error.clone()));
            if !headers.contains_key(EXPECT) {
                drain(&mut body).await;
            }
            return Err(error);
        }
    };
    let file = received.form().file.clone();
    let publication = site.flow.publish(&route.route, received, attempt).await?;
    Ok(published(publication, &file, headers))
}

/// Who publishes, as far as that is known; `None` where nobody is asked.
fn permitted<'a>(site: &'a Site, route: &RouteSite, credentials: &HeaderMap) -> Result<Option<&'a Publisher>, Error> {
    let name = &route.route.name;
    match route.upload {
        UploadPolicy::Off => Err(Error::UploadOff { route: Arc::clone(name) }),
        UploadPolicy::Anonymous => Ok(None),
        UploadPolicy::Token => site.publishers.recognise(credentials, name).map(Some).ok_or(Error::UploadUnauthorized),
    }
}

async fn receive(
    site: &Site,
    headers: &HeaderMap,
    body: &mut Body,
    publisher: Option<&Publisher>,
    attempt: &mut Attempt,
) -> Result<Received, Error> {
    let settings = site.flow.upload_settings();
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > settings.max_form_size()) {
        return Err(settings.too_large());
    }
    if values(headers, &CONTENT_ENCODING).any(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
        return Err(Error::BadRequest { fault: "a form must not be compressed" });
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return Err(Error::BadRequest { fault: "an upload is a form with exactly one Content-Type" });
    };
    let mut receiving = site.flow.receive(content_type.clone()).await?;
    while let Some(batch) = next_batch(body, settings.stall_timeout.get()).await? {
        receiving = Receiving::take(receiving, batch).await?;
    }
    let received = receiving.finish()?;
    attempt.carries(&received);
    let project = &received.form().project;
    if publisher.is_some_and(|publisher| !publisher.may_publish(project)) {
        return Err(Error::UploadForbidden { project: project.clone() });
    }
    Ok(received)
}

/// What has arrived; waits only if that is nothing.
async fn next_batch(body: &mut Body, stall: Duration) -> Result<Option<Vec<Bytes>>, Error> {
    let broken = |_| Error::BadRequest { fault: "its body broke off" };
    let (mut batch, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let frame = if batch.is_empty() {
            let late = |_| Error::BadRequest { fault: "its body stopped coming" };
            tokio::time::timeout(stall, body.frame()).await.map_err(late)?
        } else {
            match body.frame().now_or_never() {
                Some(frame) => frame,
                None => break,
            }
        };
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            size += data.len();
            batch.push(data);
        }
    }
    Ok(Some(batch).filter(|batch| !batch.is_empty()))
}

async fn drain(body: &mut Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len) as u64;
            if read > DRAIN_LIMIT {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

fn published(publication: Publication, file: &FileName, asked: &HeaderMap) -> Told {
    let wants_json =
        quality(values(asked, &ACCEPT), &["application/json"]) > quality(values(asked, &ACCEPT), &["text/plain"]);
    let (content_type, text) = if wants_json {
        ("application/json", json!({ "status": publication.as_str(), "file": file.as_str() }).to_string())
    } else {
        let sentence = match publication {
            Publication::Published => format!("Published {file}.\n"),
            Publication::Unchanged => format!("{file} is there already, with the same content.\n"),
        };
        ("text/plain; charset=utf-8", sentence)
    };
    let mut response = body::whole(Bytes::from(text), &http::Method::POST);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    harmless(headers);
    Told::of(response, "upload")
}
