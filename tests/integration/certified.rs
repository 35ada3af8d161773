//! Identities by the certificate of a connection, over real TLS.

use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wheelport::identity::{IdentityRules, IdentityTables};
use wheelport::web::{ReadPolicy, TlsSettings, UploadPolicy};
use wheelport_index::Sha256;

use crate::support::client::soon;
use crate::support::forms::{Form, content_type};
use crate::support::proxy::Proxy;
use crate::support::scripted::Reply;
use crate::support::tls::{Authority, Issued, TlsClient};
use crate::support::wheels::{PAGE, Sample, publish};

const POST: &str = "POST /pypi/r/";

/// A proxy that knows builds, a database and a whole department by their certificates, and two static tokens.
struct Standing {
    proxy: Proxy,
    authority: Authority,
    _dir: TempDir,
}

impl Standing {
    async fn new() -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("a directory"));
        let default = authority.issue(&["localhost"]).write(dir.path(), "default");
        let client_ca = dir.path().join("clients.crt");
        std::fs::write(&client_ca, authority.pem()).expect("written");
        let proxy = Proxy::builder().set(|builder| {
            builder.tls = Some(TlsSettings { default, further: Vec::new(), client_ca: Some(client_ca) });
            builder.identities = rules();
            builder.read = ReadPolicy::Identity;
            builder.upload = UploadPolicy::Identity;
        });
        let proxy = proxy.start().await;
        publish(&proxy.upstream, &[&Sample::wheel()]);
        proxy.upstream.on(POST, Reply::ok(""));
        Self { proxy, authority, _dir: dir }
    }

    fn client(&self, shown: Option<&Issued>) -> TlsClient {
        TlsClient::new(&self.authority, rustls::ALL_VERSIONS, shown)
    }

    fn with_uri(&self, uri: &str) -> Issued {
        let uri = SanType::URI(uri.try_into().expect("a URI"));
        self.authority.issue_with(&["other.test"], |params| params.subject_alt_names.push(uri))
    }

    /// The status of one request of a client that shows this certificate and this token.
    async fn status(&self, shown: Option<&Issued>, request: &str, token: Option<&str>, body: &[u8]) -> u16 {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let headers = format!("content-type: {}\r\n{token}", content_type());
        let asking = self.client(shown).ask(self.proxy.address, "localhost", request, &headers, body).await;
        let response = asking.expect("a response");
        response.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{response}"))
    }

    async fn reads(&self, shown: Option<&Issued>, token: Option<&str>) -> u16 {
        self.status(shown, "GET /simple/a-b/ HTTP/1.1", token, &[]).await
    }

    async fn publishes(&self, shown: Option<&Issued>, token: Option<&str>) -> u16 {
        self.status(shown, "POST / HTTP/1.1", token, &Form::of(&Sample::wheel()).bytes()).await
    }
}

fn rules() -> IdentityRules {
    fn read<T: serde::de::DeserializeOwned>(table: Value) -> T {
        serde_json::from_value(table).expect("a table")
    }
    let digest = |token: &str| Sha256::of(token.as_bytes()).to_string();
    let identities = [
        json!({"name": "mtls:{certificate}", "client_certificate": "spiffe://acme/build/*", "read": ["main"],
               "publish": ["main"], "projects": ["other-*"]}),
        json!({"name": "db", "client_certificate": ["db.acme.test", "db2.acme.test"], "read": ["main"]}),
        json!({"name": "ops", "client_certificate": "*OU=ops,O=acme", "read": ["*"], "publish": ["*"]}),
        json!({"name": "laptop", "token_sha256": digest("laptop"), "read": ["main"]}),
        json!({"name": "robot", "token_sha256": digest("robot"), "publish": ["main"], "projects": ["a-*"]}),
    ];
    let tables = IdentityTables { identities: identities.into_iter().map(read).collect(), ..IdentityTables::default() };
    IdentityRules::new(tables).expect("rules")
}

fn department(params: &mut CertificateParams) {
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in
        [(DnType::OrganizationName, "acme"), (DnType::OrganizationalUnitName, "ops"), (DnType::CommonName, "somebody")]
    {
        params.distinguished_name.push(kind, value);
    }
}

#[tokio::test]
async fn a_client_certificate_is_an_identity_by_its_uri_its_dns_name_or_its_subject() {
    let standing = Standing::new().await;
    let build = standing.with_uri("spiffe://acme/build/7");
    let [near, foreign] = ["spiffe://acme/builds/7", "spiffe://else/build/7"].map(|uri| standing.with_uri(uri));
    let database = standing.authority.issue(&["DB2.acme.test"]);
    let ops = standing.authority.issue_with(&[], department);
    for (shown, expected) in [
        (None, 401),
        (Some(&near), 401),
        (Some(&foreign), 401),
        (Some(&build), 200),
        (Some(&database), 200),
        (Some(&ops), 200),
    ] {
        assert_eq!(standing.reads(shown, None).await, expected);
    }
    // Its right to publish is its own, too.
    assert_eq!(standing.publishes(Some(&ops), None).await, 200);
    assert_eq!(standing.publishes(Some(&database), None).await, 401, "a token might have the right");
    let metrics = standing.proxy.metrics().await;
    let accepted = "wheelport_identity_decisions_total{identity=\"certificate\",outcome=\"accepted\"} 4\n";
    assert!(metrics.contains(accepted), "{metrics}");
}

#[tokio::test]
async fn the_rights_of_a_certificate_and_of_a_token_add_up() {
    let standing = Standing::new().await;
    let [build, other] = ["spiffe://acme/build/7", "spiffe://acme/other"].map(|uri| standing.with_uri(uri));
    // Whichever gives the right to read.
    assert_eq!(standing.reads(Some(&other), Some("laptop")).await, 200);
    assert_eq!(standing.reads(Some(&build), Some("robot")).await, 200);
    assert_eq!(standing.reads(Some(&build), Some("wrong")).await, 200, "as in a netrc that is for others");
    assert_eq!(standing.reads(Some(&other), Some("wrong")).await, 401);
    assert_eq!(standing.reads(Some(&other), Some("robot")).await, 403);
    // The certificate is for other projects, the token for this one, and the audit line names the one that counts.
    standing.proxy.upstream.on(PAGE, Reply::status(404));
    assert_eq!(standing.publishes(Some(&build), None).await, 403);
    assert_eq!(standing.publishes(Some(&build), Some("laptop")).await, 403);
    assert_eq!(standing.publishes(Some(&build), Some("wrong")).await, 403);
    assert_eq!(standing.proxy.asked(POST), 0);
    assert_eq!(standing.publishes(Some(&build), Some("robot")).await, 200);
    assert_eq!(standing.publishes(Some(&other), Some("robot")).await, 200);
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_is_nobodys() {
    let standing = Standing::new().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let year = 1970 + i32::try_from(now / 31_556_952).expect("a year") + 1;
    let uri = SanType::URI("spiffe://acme/build/7".try_into().expect("a URI"));
    let shown = standing.authority.issue_with(&[], |params| {
        params.subject_alt_names.push(uri);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
    });
    let mut stream = standing.client(Some(&shown)).connect(standing.proxy.address, "localhost").await.expect("open");
    let mut read = async || {
        let request = b"HEAD /simple/a-b/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("open");
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            assert_ne!(soon("a response", stream.read_buf(&mut heard)).await.expect("open"), 0);
        }
        String::from_utf8_lossy(&heard[9..12]).into_owned()
    };
    assert_eq!(read().await, "200");
    standing.proxy.clock().shift(367 * 24 * 3600);
    assert_eq!(read().await, "401");
}
