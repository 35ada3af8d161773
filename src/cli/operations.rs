//! Asking a running server through its listener for operations.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use url::Url;

use super::outcome::CommandError;
use super::plain_http::{PlainUrl, reachable};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the server is, and what it wants to see.
#[derive(Debug, Args)]
pub(super) struct Operations {
    /// The server's address for operations
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_OPS_LISTEN")]
    pub(super) ops_listen: SocketAddr,
    /// A file with the operators' secret, where the server wants one
    #[arg(long, value_name = "FILE", env = "WHEELPORT_OPS_SECRET_FILE")]
    ops_secret_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum OperationsError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Secret { path: PathBuf, source: std::io::Error },
    #[error("http://{at} does not respond: {reason}; is the server running, and is this its address for operations?")]
    Unreachable { at: SocketAddr, reason: String },
    #[error("the server does not say: {0}")]
    Refused(String),
}

/// What a server says.
pub(super) enum Answer {
    Done(Value),
    /// What was wrong, with the status line.
    Refused(String),
}

impl Operations {
    /// Sends one request.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> Result<Answer, CommandError> {
        self.send(method, path, query, "").await
    }

    /// Sends one request with a body.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &str,
    ) -> Result<Answer, CommandError> {
        self.send_patiently(method, path, query, body, TIMEOUT).await
    }

    /// Sends one request with a body that the server may work on for so long.
    pub(super) async fn send_patiently(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &str,
        limit: Duration,
    ) -> Result<Answer, CommandError> {
        let secret = self.secret()?;
        let at = reachable(self.ops_listen);
        let mut url = Url::parse(&format!("http://{at}{path}")).expect("an address and a fixed path are a URL");
        let given = query.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        url.query_pairs_mut().extend_pairs(given);
        let target = PlainUrl::of(&url, &["http"]).expect("a plain URL");
        let asking = target.request(method, "wheelport-operations", secret.as_deref(), body);
        let response = match tokio::time::timeout(limit, asking).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(CommandError::start(OperationsError::Unreachable { at, reason: error.to_string() }));
            }
            Err(_) => {
                let reason = format!("nothing within {} s", limit.as_secs());
                return Err(CommandError::start(OperationsError::Unreachable { at, reason }));
            }
        };
        Ok(read(&response, at))
    }

    /// Sends one request whose failure is no finding: no answer and a refusal are both exit code 2.
    pub(super) async fn find_out(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &str,
    ) -> Result<Value, CommandError> {
        match self.send(method, path, query, body).await.map_err(CommandError::usage)? {
            Answer::Done(report) => Ok(report),
            Answer::Refused(why) => Err(CommandError::usage(OperationsError::Refused(why))),
        }
    }

    /// The operators' secret, if one is given.
    pub(super) fn secret(&self) -> Result<Option<String>, CommandError> {
        let Some(path) = &self.ops_secret_file else { return Ok(None) };
        let read = fs::read_to_string(path);
        let unreadable = |source| CommandError::usage(OperationsError::Secret { path: path.clone(), source });
        read.map(|text| Some(text.trim().to_owned())).map_err(unreadable)
    }
}

fn read(response: &str, at: SocketAddr) -> Answer {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    let status = head.split("\r\n").next().unwrap_or_default();
    match serde_json::from_str(body) {
        Ok(value) if status.starts_with("HTTP/1.1 200") => Answer::Done(value),
        // Only the listener for clients answers with problem documents.
        Ok(Value::Object(problem)) if problem.contains_key("detail") => {
            let detail = problem["detail"].as_str().unwrap_or_default();
            Answer::Refused(format!("{detail} ({status}); is {at} the server's address for operations?"))
        }
        _ => Answer::Refused(format!("{} ({status})", body.trim())),
    }
}

/// What an operator has to know where the word that was given does not hold on all replicas.
pub(super) fn limited_to(spread: &serde_json::Value) -> Option<&'static str> {
    match spread.as_str()? {
        "later" => Some("in force on this replica; the others follow once the store that they share can be reached"),
        "here-alone" => Some(
            "in force on this replica ONLY: without `[fleet] store` the others cannot know of it; give the same \
             command to each of them",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_for_clients_is_recognised() {
        let at: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
        let of = |text: &str| match read(text, at) {
            Answer::Refused(why) => why,
            Answer::Done(value) => panic!("{value}"),
        };
        let problem = "HTTP/1.1 404 Not Found\r\n\r\n{\"title\":\"x\",\"detail\":\"There is nothing here.\"}";
        let asked =
            "There is nothing here. (HTTP/1.1 404 Not Found); is 127.0.0.1:8080 the server's address for operations?";
        assert_eq!(of(problem), asked);
        assert_eq!(of("HTTP/1.1 404 Not Found\r\n\r\nno such route\n"), "no such route (HTTP/1.1 404 Not Found)");
    }
}
