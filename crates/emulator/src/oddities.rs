//! The service's oddities and faults as switches: set at the start by flags, changed at run time by tests.
//!
//! The defaults are the service on a good day. The doc line of every field is its flag's help text. `switchboard` holds
//! the switches of a running emulator.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wheelport_runtime::HumanDuration;

/// All switches, as flags and as JSON of the admin endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Oddities of the service")]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of its own")]
pub struct Oddities {
    /// Status for a bad or expired token: 401 or 404
    #[arg(long, value_name = "STATUS", default_value_t = 401)]
    pub bad_token: u16,
    /// Offer the JSON form of pages; off is the service before 2026
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    pub json: bool,
    /// Respond to requests for an asset that is not imported yet with 404 until this long after the first one
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub cold_404: HumanDuration,
    /// Respond 429 without Retry-After above this many requests in a second; 0 is off
    #[arg(long, value_name = "PER-SECOND", default_value_t = 0)]
    pub throttle: u32,
    /// Respond to the first N of every M requests with the error status, as N/M; 0/0 is off
    #[arg(long, value_name = "N/M", default_value_t)]
    pub error_burst: ErrorBurst,
    /// The status of error bursts: 500 or 503
    #[arg(long, value_name = "STATUS", default_value_t = 500)]
    pub error_status: u16,
    /// Respond to HEAD and Range requests for assets that are not imported yet with 500
    #[arg(long, value_name = "on|off", default_value = "off", value_parser = switch, action = clap::ArgAction::Set)]
    pub head_range_cold_500: bool,
    /// Redirect asset downloads (307) to a second listener at this address, which refuses Authorization with 400
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(default)]
    pub redirect_assets: Option<SocketAddr>,
    /// Send asset bodies at most this fast, in bytes per second; 0 is off
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub slow_body: u64,
    /// Break the connection after this many bytes of an asset body, the first K times, as BYTES:K; 0:0 is off
    #[arg(long, value_name = "BYTES:K", default_value_t)]
    pub cut_body: BodyCut,
    /// How pages spell the addresses of files: relative, packages (`../../packages/…`) or absolute
    #[arg(long, value_name = "FORM", default_value = "relative")]
    pub urls: UrlForm,
    /// Name file sizes in JSON
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    pub sizes: bool,
    /// Name upload times in JSON
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    pub upload_time: bool,
    /// Name upload times in HTML (`data-upload-time`)
    #[arg(long, value_name = "on|off", default_value = "off", value_parser = switch, action = clap::ArgAction::Set)]
    pub html_upload_time: bool,
    /// Name SHA-512 of directly published files in JSON
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    pub sha512: bool,
    /// Send validators (entity tags) with assets
    #[arg(long, value_name = "on|off", default_value = "off", value_parser = switch, action = clap::ArgAction::Set)]
    pub validators: bool,
    /// Honour Range
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set)]
    pub ranges: bool,
    /// Status for uploading the same bytes again: 200 or 409
    #[arg(long, value_name = "STATUS", default_value_t = 200)]
    pub same_bytes: u16,
    /// Status for uploading what origin controls block: 403 or 409
    #[arg(long, value_name = "STATUS", default_value_t = 403)]
    pub blocked: u16,
    /// Uploads are refused above this many bytes (413)
    #[arg(long, value_name = "BYTES", default_value_t = 5 << 30)]
    pub asset_limit: u64,
    /// New packages and versions appear in control plane lists only after this long
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub list_lag: HumanDuration,
    /// New files appear on pages only after this long
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub index_lag: HumanDuration,
    /// Every token lives this many seconds, whatever was asked for
    #[arg(long, value_name = "SECONDS")]
    #[serde(default)]
    pub token_lifetime: Option<u64>,
    /// Wait this long before every response
    #[arg(long, value_name = "DURATION", default_value_t)]
    pub latency: HumanDuration,
}

/// How pages spell the addresses of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UrlForm {
    /// `VERSION/FILE`, relative to the page.
    Relative,
    /// `../../packages/NAME/VERSION/FILE`, relative to the page.
    Packages,
    /// The address with scheme and host.
    Absolute,
}

/// N failures in every M requests, written `N/M`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ErrorBurst {
    /// How many requests in a round fail.
    pub failures: u64,
    /// How many requests make a round.
    pub of: u64,
}

/// A cut of response bodies after some bytes, written `BYTES:TIMES`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BodyCut {
    /// Bytes that are sent before the cut.
    pub after: u64,
    /// How many bodies are cut before all are sent completely.
    pub times: u64,
}

/// A value of a switch that cannot be read or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidOddity(String);

fn switch(text: &str) -> Result<bool, InvalidOddity> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(InvalidOddity("expected on or off".to_owned())),
    }
}

fn pair(text: &str, separator: char) -> Result<(u64, u64), InvalidOddity> {
    text.split_once(separator)
        .and_then(|(first, second)| Some((first.trim().parse().ok()?, second.trim().parse().ok()?)))
        .ok_or_else(|| InvalidOddity(format!("expected two numbers with '{separator}' between them")))
}

impl FromStr for ErrorBurst {
    type Err = InvalidOddity;

    fn from_str(text: &str) -> Result<Self, InvalidOddity> {
        pair(text, '/').map(|(failures, of)| Self { failures, of })
    }
}

impl FromStr for BodyCut {
    type Err = InvalidOddity;

    fn from_str(text: &str) -> Result<Self, InvalidOddity> {
        pair(text, ':').map(|(after, times)| Self { after, times })
    }
}

impl fmt::Display for ErrorBurst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.failures, self.of)
    }
}

impl fmt::Display for BodyCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.after, self.times)
    }
}

macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = InvalidOddity;

            fn try_from(text: String) -> Result<Self, InvalidOddity> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(ErrorBurst, BodyCut);

impl Default for Oddities {
    fn default() -> Self {
        Self {
            bad_token: 401,
            json: true,
            cold_404: HumanDuration::default(),
            throttle: 0,
            error_burst: ErrorBurst::default(),
            error_status: 500,
            head_range_cold_500: false,
            redirect_assets: None,
            slow_body: 0,
            cut_body: BodyCut::default(),
            urls: UrlForm::Relative,
            sizes: true,
            upload_time: true,
            html_upload_time: false,
            sha512: true,
            validators: false,
            ranges: true,
            same_bytes: 200,
            blocked: 403,
            asset_limit: 5 << 30,
            list_lag: HumanDuration::default(),
            index_lag: HumanDuration::default(),
            token_lifetime: None,
            latency: HumanDuration::default(),
        }
    }
}

impl Oddities {
    /// Whether every status is one that its switch knows.
    pub fn check(&self) -> Result<(), InvalidOddity> {
        for (name, value, choices) in [
            ("bad_token", self.bad_token, [401, 404]),
            ("error_status", self.error_status, [500, 503]),
            ("same_bytes", self.same_bytes, [200, 409]),
            ("blocked", self.blocked, [403, 409]),
        ] {
            if !choices.contains(&value) {
                return Err(InvalidOddity(format!("{name} is {} or {}", choices[0], choices[1])));
            }
        }
        Ok(())
    }

    /// These switches with the keys of a JSON object laid over them; `null` turns an optional one off.
    pub fn merged(&self, over: serde_json::Map<String, serde_json::Value>) -> Result<Self, InvalidOddity> {
        let unreadable = |error: serde_json::Error| InvalidOddity(error.to_string());
        let mut value = serde_json::to_value(self).map_err(unreadable)?;
        if let Some(object) = value.as_object_mut() {
            object.extend(over);
        }
        let merged: Self = serde_json::from_value(value).map_err(unreadable)?;
        merged.check()?;
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(clap::Parser)]
    struct TestCommand {
        #[command(flatten)]
        oddities: Oddities,
    }

    #[test]
    fn flags_without_values_are_the_default() {
        let parsed = <TestCommand as clap::Parser>::parse_from(["emulate"]);
        assert_eq!(parsed.oddities, Oddities::default());
        let parsed = <TestCommand as clap::Parser>::parse_from(["emulate", "--json", "off", "--cut-body", "10:2"]);
        assert!(!parsed.oddities.json);
        assert_eq!(parsed.oddities.cut_body, BodyCut { after: 10, times: 2 });
    }

    #[test]
    fn a_json_object_is_laid_over_and_checked() {
        let over =
            |text: &str| Oddities::default().merged(serde_json::from_str(text).expect("the test writes JSON objects"));
        let changed = over(r#"{"cold_404": "1500ms", "token_lifetime": 5}"#).expect("both keys exist");
        assert_eq!(changed.cold_404.0, Duration::from_millis(1500));
        assert_eq!(changed.token_lifetime, Some(5));
        assert!(over(r#"{"bad_token": 418}"#).is_err());
        assert!(over(r#"{"no_such_switch": 1}"#).is_err());
    }
}
