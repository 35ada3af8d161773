//! The configuration file. The files of `config` are compiled into this crate, with the settings of each room.

#![allow(dead_code, reason = "what is compiled in is more than what is fuzzed")]
#![allow(unreachable_pub, reason = "as above")]

use std::path::PathBuf;
use std::sync::LazyLock;

#[path = "../../src/config/mod.rs"]
#[allow(unused_imports, reason = "named for other rooms")]
mod config;

use config::{Overrides, Settings};

use crate::split;

/// Keys whose values must not be shown, with the table they stand in.
const SECRETS: [&str; 5] = [
    "[upstream]\nproxy",
    "[fleet]\nredis",
    "[aws]\nexternal_id",
    "[[route]]\nexternal_id",
    "[[publisher]]\nname = \"ci\"\ntoken_sha256",
];
const SECRET: &str = "hunter2";

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("wheelport-fuzz-{}.toml", std::process::id())));

/// One byte for the kind. A whole file; or a value of a secret key, in which `$` stands for the secret, and then the rest
/// of the file.
pub fn configuration(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let (value, rest) = split(bytes, b'\n');
    let text = match SECRETS.get(usize::from(*kind) % (SECRETS.len() + 1)) {
        Some(key) => [key.as_bytes(), b" = ", value, b"\n", rest].concat(),
        None => bytes.to_vec(),
    };
    let Ok(text) = String::from_utf8(text) else { return };
    // These read other files.
    let others = ["secret_file", "key_file", "keys_file", "directory"];
    if others.into_iter().any(|key| text.contains(key)) || text.contains(SECRET) {
        return;
    }
    let first_value = text.find(" = ").unwrap_or(0);
    let line_end = text[first_value..].find('\n').map_or(text.len(), |end| first_value + end);
    let text = format!("{}{}", text[..line_end].replace('$', SECRET), &text[line_end..]);
    std::fs::write(&*FILE, &text).expect("a temporary file can be written");
    let overrides = Overrides { config: Some(FILE.clone()), ..Overrides::default() };
    let shown = match Settings::load(overrides) {
        Ok(settings) => format!("{settings:?}"),
        Err(error) => {
            let shown = error.to_string();
            let is_named = shown.contains("line ") || shown.contains('`') || shown.contains('[') || shown.contains('=');
            assert!(is_named || shown.contains("WHEELPORT_"), "{shown:?} names nothing");
            shown
        }
    };
    let is_secret = usize::from(*kind) % (SECRETS.len() + 1) < SECRETS.len();
    // An external id is no secret of ours once it is accepted; a refusal does not repeat it.
    let is_accepted_id = shown.starts_with("Settings") && text.contains("external_id");
    assert!(!is_secret || is_accepted_id || !shown.contains(SECRET), "{shown:?}");
}
