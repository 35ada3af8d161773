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
    #[error("the server says: {0}")]
    Refused(String),
}

/// What a server says to a wish.
pub(super) enum Answer {
    Done(Value),
    /// What it is about is not there, in the server's words.
    No(String),
}

/// A wish, or a question.
#[derive(Clone, Copy)]
struct OperatorCall<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a [(&'a str, Option<&'a str>)],
    body: &'a str,
    /// How long the server may take.
    limit: Duration,
}

impl Operations {
    /// Asks the server to do something.
    pub(super) async fn ask(&self, path: &str, query: &[(&str, Option<&str>)]) -> Result<Answer, CommandError> {
        let answer = self.send(OperatorCall { method: "POST", path, query, body: "", limit: TIMEOUT }).await;
        answer.map_err(CommandError::unanswered)
    }

    /// Asks the server a question. Not to learn it is no answer.
    pub(super) async fn find_out(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &str,
    ) -> Result<Value, CommandError> {
        self.find_out_within(TIMEOUT, method, path, query, body).await
    }

    /// The same where the server may work on it for so long.
    pub(super) async fn find_out_within(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
        query: &[(&str, Option<&str>)],
        body: &str,
    ) -> Result<Value, CommandError> {
        match self.send(OperatorCall { method, path, query, body, limit }).await {
            Ok(Answer::Done(report)) => Ok(report),
            Ok(Answer::No(why)) => Err(CommandError::unanswered(OperationsError::Refused(why))),
            Err(error) => Err(CommandError::unanswered(error)),
        }
    }

    async fn send(&self, asked: OperatorCall<'_>) -> Result<Answer, OperationsError> {
        let secret = self.read_secret()?;
        let at = reachable(self.ops_listen);
        let mut url = Url::parse(&format!("http://{at}{}", asked.path)).expect("an address and a fixed path are a URL");
        let given = asked.query.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        url.query_pairs_mut().extend_pairs(given);
        let target = PlainUrl::of(&url, &["http"]).expect("a plain URL");
        let asking = target.request(asked.method, "wheelport-operations", secret.as_deref(), asked.body);
        let response = match tokio::time::timeout(asked.limit, asking).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(OperationsError::Unreachable { at, reason: error.to_string() }),
            Err(_) => {
                let reason = format!("nothing within {} s", asked.limit.as_secs());
                return Err(OperationsError::Unreachable { at, reason });
            }
        };
        read(&response, at)
    }

    /// The operators' secret, if one is given.
    pub(super) fn secret(&self) -> Result<Option<String>, CommandError> {
        self.read_secret().map_err(CommandError::usage)
    }

    fn read_secret(&self) -> Result<Option<String>, OperationsError> {
        let Some(path) = &self.ops_secret_file else { return Ok(None) };
        let read = fs::read_to_string(path);
        let unreadable = |source| OperationsError::Secret { path: path.clone(), source };
        read.map(|text| Some(text.trim().to_owned())).map_err(unreadable)
    }
}

fn read(response: &str, at: SocketAddr) -> Result<Answer, OperationsError> {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    let status = head.split("\r\n").next().unwrap_or_default();
    let is = |code: &str| status.strip_prefix("HTTP/1.1 ").is_some_and(|rest| rest.starts_with(code));
    match serde_json::from_str(body) {
        Ok(value) if is("200") => Ok(Answer::Done(value)),
        // Only the listener for clients answers with problem documents.
        Ok(Value::Object(problem)) if problem.contains_key("detail") => {
            let detail = problem["detail"].as_str().unwrap_or_default();
            let asked = format!("{detail} ({status}); is {at} the server's address for operations?");
            Err(OperationsError::Refused(asked))
        }
        _ if is("404") => Ok(Answer::No(format!("{} ({status})", body.trim()))),
        _ => Err(OperationsError::Refused(format!("{} ({status})", body.trim()))),
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
            Ok(Answer::No(why)) => why,
            Ok(Answer::Done(value)) => panic!("{value}"),
            Err(error) => error.to_string(),
        };
        let problem = "HTTP/1.1 404 Not Found\r\n\r\n{\"title\":\"x\",\"detail\":\"There is nothing here.\"}";
        let asked = "the server says: There is nothing here. (HTTP/1.1 404 Not Found); is 127.0.0.1:8080 \
                     the server's address for operations?";
        assert_eq!(of(problem), asked);
        assert_eq!(of("HTTP/1.1 404 Not Found\r\n\r\nno such route\n"), "no such route (HTTP/1.1 404 Not Found)");
    }
}
