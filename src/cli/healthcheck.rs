//! `wheelport healthcheck`: checks a running server, for container engines that can only start a program.
//!
//! It needs no configuration, no AWS and no shell. The server's status alone decides.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::outcome::{CommandError, Ended};
use super::plain_http::{PlainUrl, reachable};
use super::unverified_tls;
use crate::config::DEFAULT_LISTEN;

#[derive(Debug, Clone, Args)]
pub(super) struct HealthcheckArgs {
    /// What to request; wins over --listen [default: /healthz at the address of --listen]
    #[arg(long, value_name = "URL", conflicts_with = "ready")]
    url: Option<Url>,
    /// Check that the server is useful to clients (/readyz), not only that the process is alive
    #[arg(long)]
    ready: bool,
    /// Where the server listens; the first address is checked, over loopback if it is a wildcard
    /// [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_LISTEN", value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// The server speaks TLS; its certificate is not verified, because nothing depends on who answers
    #[arg(long)]
    tls: bool,
    // Where the environment of the container has a certificate for the server, it speaks TLS.
    #[arg(long, value_name = "FILE", env = "WHEELPORT_TLS_CERTIFICATE", hide = true)]
    tls_certificate: Option<PathBuf>,
    /// How long everything together may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    timeout: u64,
}

#[derive(Debug, thiserror::Error)]
enum HealthcheckError {
    #[error("`{0}` cannot be checked; give http://HOST:PORT/PATH or https://HOST:PORT/PATH")]
    Address(Url),
}

/// Sends one request; prints the response only if it is not a success.
pub(super) async fn run(args: HealthcheckArgs) -> Result<Ended, CommandError> {
    let url = url_of(&args);
    let Some(target) = PlainUrl::of(&url, &["http", "https"]) else {
        return Err(CommandError::usage(HealthcheckError::Address(url)));
    };
    let response = tokio::time::timeout(Duration::from_secs(args.timeout), ask(&url, &target)).await;
    let problem = match response {
        Ok(Ok(response)) if is_good(&response) => return Ok(Ended::Well),
        Ok(Ok(response)) => format!("{url} responds: {}", response.trim()),
        Ok(Err(error)) => format!("{url} does not respond: {error}"),
        Err(_) => format!("{url} does not respond within {} s", args.timeout),
    };
    println!("{problem}");
    Ok(Ended::Badly)
}

async fn ask(url: &Url, target: &PlainUrl<'_>) -> io::Result<String> {
    const AGENT: &str = "wheelport-healthcheck";
    if url.scheme() == "http" {
        return target.request("GET", AGENT, None, "").await;
    }
    let connection = unverified_tls::encrypt(target.connect().await?, target.host().to_owned()).await?;
    target.request_over(connection, "GET", AGENT, None, "").await
}

fn url_of(args: &HealthcheckArgs) -> Url {
    if let Some(url) = &args.url {
        return url.clone();
    }
    let at = reachable(args.listen.first().copied().unwrap_or(DEFAULT_LISTEN));
    let path = if args.ready { "readyz" } else { "healthz" };
    let scheme = if args.tls || args.tls_certificate.is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{at}/{path}")).expect("an address and a fixed path are a URL")
}

/// Whether the status line says 2xx.
fn is_good(response: &str) -> bool {
    response.strip_prefix("HTTP/1.1 ").is_some_and(|rest| rest.starts_with('2'))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn args(listen: &[&str]) -> HealthcheckArgs {
        let listen = listen.iter().map(|address| address.parse().expect("an address")).collect();
        HealthcheckArgs { url: None, ready: false, listen, tls: false, tls_certificate: None, timeout: 5 }
    }

    #[test]
    fn a_wildcard_listener_is_checked_over_loopback() {
        for (listen, asked) in [
            (vec![], "http://127.0.0.1:8080/healthz"),
            (vec!["0.0.0.0:8081"], "http://127.0.0.1:8081/healthz"),
            (vec!["[::]:8081"], "http://[::1]:8081/healthz"),
            (vec!["192.0.2.7:80", "0.0.0.0:8081"], "http://192.0.2.7/healthz"),
        ] {
            assert_eq!(url_of(&args(&listen)).as_str(), asked);
        }
        assert_eq!(url_of(&HealthcheckArgs { ready: true, ..args(&[]) }).path(), "/readyz");
        let certificate = Some(PathBuf::from("/tls/tls.crt"));
        assert_eq!(url_of(&HealthcheckArgs { tls_certificate: certificate, ..args(&[]) }).scheme(), "https");
        assert_eq!(url_of(&HealthcheckArgs { tls: true, ..args(&[]) }).scheme(), "https");
    }

    #[test]
    fn only_http_addresses_can_be_checked() {
        for (url, good) in [
            ("http://[::1]:8080/readyz", true),
            ("https://wheelport.internal/readyz", true),
            ("http://user@wheelport.internal/readyz", false),
            ("unix:/run/wheelport", false),
        ] {
            assert_eq!(PlainUrl::of(&url.parse().expect("a URL"), &["http", "https"]).is_some(), good, "{url}");
        }
    }

    /// Sends the request to a server that sends this response. Returns the request too.
    async fn asked(response: &'static str) -> (Ended, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address").to_string();
        let serve = async move {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 1024];
            let length = connection.read(&mut request).await.expect("a request");
            connection.write_all(response.as_bytes()).await.expect("room for a response");
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        let (ended, request) = tokio::join!(run(args(&[&at])), serve);
        (ended.expect("a verdict"), request)
    }

    #[tokio::test]
    async fn the_status_decides() {
        let (ended, request) = asked("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nalive\n").await;
        assert_eq!(ended, Ended::Well);
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert_eq!(asked("HTTP/1.1 503 Service Unavailable\r\n\r\n").await.0, Ended::Badly);
        assert_eq!(asked("SSH-2.0-2\r\n").await.0, Ended::Badly);
    }

    #[tokio::test]
    async fn an_address_without_a_server_is_bad() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address").to_string();
        drop(listener);
        assert_eq!(run(args(&[&at])).await.expect("a verdict"), Ended::Badly);
    }
}
