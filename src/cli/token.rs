//! `wheelport token`: exchanges a token at a server for a short-lived one, for people's machines and for image builds.
//!
//! So what lies in a `netrc`, or comes to an installer from a keyring, is good for a quarter of an hour, and no one
//! puts a token into a URL.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::outcome::{CommandError, Ended};
use crate::upstream::{Client, ClientError, ClientSettings};

const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest response that is read, in bytes.
const LONGEST_RESPONSE: usize = 64 << 10;

/// Exchange a token at a server for one that is good for fifteen minutes
///
/// The token is an ID token or a static one. docs/IDENTITY.md has a script called `keyring` with which pip and uv ask
/// for the short-lived one by themselves, when they need it (`--keyring-provider subprocess`). Ends with exit code 1
/// if the server refuses the token, and with 2 if it cannot be asked.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The server: a URL of which scheme and host count, or a host that speaks https
    #[arg(value_name = "URL")]
    url: String,
    /// A file that holds the token to exchange; `-` reads standard input
    #[arg(long, value_name = "FILE", env = "WHEELPORT_TOKEN_FILE")]
    token_file: PathBuf,
    /// What is printed
    #[arg(long, value_name = "FORMAT", default_value = "token")]
    format: TokenFormat,
    /// Certificate authorities besides those of the system (PEM)
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TokenFormat {
    /// The token alone.
    Token,
    /// An entry for a netrc file.
    Netrc,
}

#[derive(Debug, thiserror::Error)]
enum MintRequestError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error("'{0}' is neither an http or https URL nor a host")]
    Url(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0} exchanges no tokens; its operator has to configure an [[issuer]], or use the token as it is")]
    NotOffered(Url),
    #[error("{0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct ExchangeResponse {
    token: Option<String>,
    message: Option<String>,
}

pub(super) async fn run(args: TokenArgs) -> Result<Ended, CommandError> {
    let server = server(&args.url).ok_or_else(|| CommandError::usage(MintRequestError::Url(args.url.clone())))?;
    let token = super::identity::read(&args.token_file)
        .map_err(|source| CommandError::usage(MintRequestError::Token { path: args.token_file.clone(), source }))?;
    let token = exchange(&server, token.trim(), args.ca_file).await.map_err(|error| match error {
        MintRequestError::Refused(_) => CommandError::refused(error),
        _ => CommandError::unanswered(error),
    })?;
    let text = match args.format {
        TokenFormat::Token => format!("{}\n", *token),
        TokenFormat::Netrc => {
            format!("machine {} login __token__ password {}\n", server.host_str().unwrap_or_default(), *token)
        }
    };
    let text = Zeroizing::new(text);
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(CommandError::start)?;
    Ok(Ended::Well)
}

/// The root of the server.
fn server(raw: &str) -> Option<Url> {
    let url = if raw.contains("://") { Url::parse(raw) } else { Url::parse(&format!("https://{raw}")) };
    let mut url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())?;
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url)
}

async fn exchange(server: &Url, token: &str, ca_file: Option<PathBuf>) -> Result<Zeroizing<String>, MintRequestError> {
    let client = Client::new(ClientSettings { ca_file, ..ClientSettings::default() })?;
    let mint = server.join("_/oidc/mint-token").map_err(|_| MintRequestError::Url(server.to_string()))?;
    let body = json!({ "token": token }).to_string().into();
    let posting = tokio::time::timeout(TIMEOUT, client.post(&mint, body, LONGEST_RESPONSE)).await;
    let posted = posting.unwrap_or_else(|_| Err(format!("{mint} did not respond in time")));
    let (status, body) = posted.map_err(MintRequestError::Unreachable)?;
    if status == http::StatusCode::NOT_FOUND {
        return Err(MintRequestError::NotOffered(server.clone()));
    }
    let response = serde_json::from_slice(&body).unwrap_or(ExchangeResponse { token: None, message: None });
    match response.token {
        Some(token) if status.is_success() => Ok(Zeroizing::new(token)),
        _ => {
            let said = response.message.unwrap_or_else(|| format!("{mint} responded with status {}", status.as_u16()));
            let error =
                if status.is_client_error() { MintRequestError::Refused } else { MintRequestError::Unreachable };
            Err(error(said))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_names_the_server_leads_to_its_root() {
        for (raw, expected) in [
            ("https://pypi.invalid/simple/?x#y", Some("https://pypi.invalid/")),
            ("http://user:secret@127.0.0.1:8080/pypi/main/", Some("http://127.0.0.1:8080/")),
            ("pypi.invalid", Some("https://pypi.invalid/")),
            ("pypi.invalid:8443", Some("https://pypi.invalid:8443/")),
            ("ftp://pypi.invalid/", None),
            ("", None),
        ] {
            assert_eq!(server(raw).as_ref().map(Url::as_str), expected, "{raw}");
        }
    }
}
