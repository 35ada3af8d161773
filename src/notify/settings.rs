//! The `[notify]` table.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::{Host, Url};

use super::secret::WebhookSecrets;
use wheelport_runtime::{HumanDuration, sabotaged};

/// Notices may not wait for longer: news of yesterday helps no one.
const LONGEST_RETRY: Duration = Duration::from_hours(24);

/// The table as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifyTable {
    /// Where notices are sent. Whoever knows it may be able to send some, too, so it is never shown.
    pub url: Option<WebhookUrl>,
    /// The file with the secret that signs them.
    pub secret_file: Option<PathBuf>,
    /// How long one attempt may take.
    pub timeout: HumanDuration,
    /// How long a notice is tried.
    pub retry_for: HumanDuration,
    /// How long the same notice is not sent again.
    pub repeat_after: HumanDuration,
    /// Notices that wait at the same time.
    pub queue: NonZeroUsize,
}

impl Default for NotifyTable {
    fn default() -> Self {
        Self {
            url: None,
            secret_file: None,
            timeout: HumanDuration::secs(10),
            retry_for: HumanDuration::secs(3600),
            repeat_after: HumanDuration::secs(3600),
            queue: const { NonZeroUsize::new(256).expect("not zero") },
        }
    }
}

/// The address of a receiver.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookUrl(Url);

/// Why a text is no address of a receiver; it does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address for notices is https (http on loopback only), without a user name, a password or a fragment, such as \
     https://hooks.example.org/wheelport"
)]
pub struct InvalidWebhookUrl;

impl TryFrom<String> for WebhookUrl {
    type Error = InvalidWebhookUrl;

    fn try_from(text: String) -> Result<Self, InvalidWebhookUrl> {
        let url = Url::parse(&text).map_err(|_| InvalidWebhookUrl)?;
        let is_private =
            url.scheme() == "https" || (url.scheme() == "http" && (is_loopback(&url) || sabotaged("webhook-plain")));
        let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if is_private && is_plain { Ok(Self(url)) } else { Err(InvalidWebhookUrl) }
    }
}

impl WebhookUrl {
    pub fn get(&self) -> &Url {
        &self.0
    }

    /// Scheme, host and port, which is as much as may be shown.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({})", self.origin())
    }
}

/// Where and how notices are sent.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    pub url: WebhookUrl,
    pub secret_file: PathBuf,
    pub timeout: Duration,
    pub retry_for: Duration,
    pub repeat_after: Duration,
    pub queue: usize,
}

impl NotifySettings {
    /// What the table comes to; nothing where no address is given.
    pub fn new(table: NotifyTable) -> Result<Option<Self>, String> {
        let NotifyTable { url, secret_file, timeout, retry_for, repeat_after, queue } = table;
        let (url, secret_file) = match (url, secret_file) {
            (Some(url), Some(secret_file)) => (url, secret_file),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(
                    "[notify] url needs a secret_file, so that the receiver can tell who sends; make one with: \
                            echo \"whsec_$(openssl rand -base64 32)\""
                        .to_owned(),
                );
            }
            (None, Some(_)) => return Err("[notify] secret_file is of no use without a url".to_owned()),
        };
        if timeout.get().is_zero() || retry_for.get() > LONGEST_RETRY {
            return Err("[notify] timeout may not be zero, and retry_for at most 24h".to_owned());
        }
        let (timeout, retry_for, repeat_after) = (timeout.get(), retry_for.get(), repeat_after.get());
        Ok(Some(Self { url, secret_file, timeout, retry_for, repeat_after, queue: queue.get() }))
    }

    /// Reads the secrets that sign. Blocking; the error is a sentence.
    pub fn secrets(&self) -> Result<WebhookSecrets, String> {
        let name = self.secret_file.display();
        let text =
            std::fs::read_to_string(&self.secret_file).map_err(|error| format!("cannot read {name}: {error}"))?;
        WebhookSecrets::parse(&text).map_err(|invalid| format!("{name}: {invalid}"))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<NotifySettings>, String> {
        let table: NotifyTable = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        NotifySettings::new(table)
    }

    #[test]
    fn notices_go_over_https_or_stay_on_the_machine() {
        for (url, is_good) in [
            ("https://hooks.acme.internal/wheelport?channel=ops", true),
            ("http://127.0.0.1:9000/", true),
            ("http://localhost:9000/", true),
            ("http://[::1]:9000/", true),
            ("http://hooks.acme.internal/wheelport", false),
            ("https://user:secret@hooks.acme.internal/", false),
            ("https://hooks.acme.internal/#here", false),
            ("ftp://hooks.acme.internal/", false),
            ("hooks.acme.internal", false),
        ] {
            let read = read(&format!("url = \"{url}\"\nsecret_file = \"/keys/notify\""));
            assert_eq!(read.is_ok(), is_good, "{url}: {read:?}");
            assert!(!format!("{read:?}").contains("secret@"), "{read:?}");
        }
    }

    #[test]
    fn an_address_without_a_secret_is_refused_and_the_address_is_never_shown() {
        assert!(read("").is_ok_and(|settings| settings.is_none()));
        assert!(
            read("url = \"https://hooks.acme.internal/T0/B0/key\"").is_err_and(|text| text.contains("secret_file"))
        );
        assert!(read("secret_file = \"x\"").is_err_and(|text| text.contains("without a url")));
        assert!(read("uri = \"https://hooks.acme.internal\"").is_err_and(|text| text.contains("unknown field")));
        let both = "secret_file = \"x\"\nurl = \"https://hooks.acme.internal/T0/B0/key\"\n";
        assert!(read(&format!("{both}retry_for = \"25h\"")).is_err());
        assert!(read(&format!("{both}queue = 0")).is_err());
        let shown = format!("{:?}", read(both));
        assert!(shown.contains("https://hooks.acme.internal") && !shown.contains("T0"), "{shown}");
    }
}
