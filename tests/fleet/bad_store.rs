//! Object stores that are wrong in one way, over the scripted server. Requests carry a path-style address.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use wheelport::fleet::FleetSettings;
use wheelport_index::Sha256;
use wheelport_runtime::HumanDuration;

use super::support::scripted::{Reply, Scripted, Seen};

/// How long conditions of a racy store do not see what was written.
const BLIND_FOR: Duration = Duration::from_millis(150);

/// How a store keeps conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// It reads none of them.
    Ignored,
    /// It keeps them one after the other, and lets everyone win who comes at the same time.
    Racy,
}

type Objects = Arc<Mutex<HashMap<String, (Bytes, Instant)>>>;

/// A store that works but for its conditions.
pub(crate) async fn careless(conditions: Conditions) -> Scripted {
    let (server, objects) = (Scripted::start().await, Objects::default());
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let objects = Arc::clone(&objects);
        server.on(&format!("{method} *"), Reply::with(move |seen| serve(&objects, conditions, seen)));
    }
    server
}

fn serve(objects: &Objects, conditions: Conditions, seen: &Seen) -> Reply {
    let (mut objects, path) = (objects.lock(), seen.path().to_owned());
    let tag = |bytes: &Bytes| format!("\"{}\"", Sha256::of(bytes));
    let held = objects.get(&path).cloned();
    match seen.method.as_str() {
        "PUT" => {
            let visible = held.filter(|(_, written)| written.elapsed() > BLIND_FOR);
            let is_refused = match (seen.header("if-none-match"), seen.header("if-match")) {
                (Some(_), _) => visible.is_some(),
                (_, Some(wanted)) => visible.is_some_and(|(bytes, _)| tag(&bytes) != wanted),
                (None, None) => false,
            };
            if is_refused && conditions == Conditions::Racy {
                return error(412, "PreconditionFailed");
            }
            let reply = Reply::ok("").header("etag", tag(&seen.body));
            objects.insert(path, (seen.body.clone(), Instant::now()));
            reply
        }
        "DELETE" => {
            objects.remove(&path);
            Reply::status(204)
        }
        // A HEAD has no body.
        _ => match held {
            Some((bytes, _)) if seen.method == "GET" => Reply::ok(bytes.clone()).header("etag", tag(&bytes)),
            Some((bytes, _)) => Reply::ok("").header("etag", tag(&bytes)),
            None if seen.method == "GET" => error(404, "NoSuchKey"),
            None => Reply::status(404),
        },
    }
}

/// What S3 says in place of a success.
pub(crate) fn error(status: u16, code: &str) -> Reply {
    Reply::status(status).body(format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code></Error>"))
}

/// A store that says this to every write, and has nothing.
pub(crate) async fn refusing_writes(reply: Reply) -> Scripted {
    let server = Scripted::start().await;
    server.on("GET *", error(404, "NoSuchKey")).on("HEAD *", Reply::status(404)).on("DELETE *", Reply::status(204));
    server.on("PUT *", reply.clone()).on("POST *", reply);
    server
}

/// A store that says this to everything.
pub(crate) async fn always(reply: Reply) -> Scripted {
    let server = Scripted::start().await;
    for method in ["GET", "PUT", "POST", "DELETE"] {
        server.on(&format!("{method} *"), reply.clone());
    }
    server.on("HEAD *", reply.body(""));
    server
}

/// Settings for a scripted store.
pub(crate) fn settings_of(server: &Scripted, timeout: HumanDuration) -> FleetSettings {
    FleetSettings {
        store: Some("s3://bucket/prefix".parse().expect("a store")),
        store_endpoint: Some(server.url("").parse().expect("an address")),
        store_timeout: timeout,
        ..FleetSettings::default()
    }
}
