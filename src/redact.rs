//! Hides what must not be repeated of texts that other services wrote.
//!
//! Each function returns one line of bounded length without control characters. Hiding comes before shortening,
//! because half a secret no longer looks like one.

use wheelport_index::{sabotaged, shortened};

/// For logs and for the operator: hides what looks like a key or a token, and what follows the name of a scheme.
pub(crate) fn hide_secrets(text: &str, max_chars: usize) -> String {
    let mut after_scheme = false;
    one_line(text, max_chars, |word| {
        let mut shown = String::with_capacity(word.len());
        for part in word.split_inclusive(is_separator) {
            let (value, separator) = part.split_at(part.find(is_separator).unwrap_or(part.len()));
            let hidden = !value.is_empty() && (after_scheme || looks_secret(value)) && !sabotaged("redaction");
            shown.push_str(if hidden { "[hidden]" } else { value });
            shown.push_str(separator);
            if !value.is_empty() {
                after_scheme = SCHEMES.iter().any(|scheme| value.eq_ignore_ascii_case(scheme));
            }
        }
        shown
    })
}

/// For clients: hides addresses, ARNs and account numbers, which concern only the operator.
pub(crate) fn hide_infrastructure(text: &str, max_chars: usize) -> String {
    one_line(text, max_chars, |word| {
        if names_infrastructure(word) && !sabotaged("infrastructure") { "…".to_owned() } else { word.to_owned() }
    })
}

/// Schemes of the `Authorization` header.
const SCHEMES: [&str; 2] = ["basic", "bearer"];
/// What keys and tokens are written with, besides letters and digits; `%` where one is part of an address.
const IN_SECRETS: &[u8] = b"+/=_.-%~";
const MIN_KEY_ID: usize = 16;
/// Secret access keys have forty characters, session tokens more.
const MIN_SECRET: usize = 40;
const ACCOUNT_DIGITS: usize = 12;

/// Whether this stands between a value and its name or its neighbours.
fn is_separator(letter: char) -> bool {
    !u8::try_from(letter).is_ok_and(|byte| byte.is_ascii_alphanumeric() || IN_SECRETS.contains(&byte))
}

fn one_line(text: &str, max_chars: usize, mut redact: impl FnMut(&str) -> String) -> String {
    let printable = |word: &str| word.chars().filter(|letter| !letter.is_control()).collect::<String>();
    let words = text.split_whitespace().map(printable).filter(|word| !word.is_empty());
    let line: Vec<String> = words.map(|word| redact(&word)).collect();
    shortened(&line.join(" "), max_chars).into_owned()
}

fn looks_secret(value: &str) -> bool {
    is_key_id(value) || is_random(value)
}

fn is_key_id(value: &str) -> bool {
    value.len() >= MIN_KEY_ID
        && ["AKIA", "ASIA"].iter().any(|prefix| value.starts_with(prefix))
        && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Long and mixed as only machines write; the names of roles may be as long.
fn is_random(value: &str) -> bool {
    value.len() >= MIN_SECRET
        && !value.contains("role/")
        && value.bytes().any(|byte| byte.is_ascii_uppercase())
        && value.bytes().any(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || IN_SECRETS.contains(&byte))
}

fn names_infrastructure(word: &str) -> bool {
    let is_account = |window: &[u8]| window.iter().all(u8::is_ascii_digit);
    word.contains("://") || word.contains("arn:") || word.as_bytes().windows(ACCOUNT_DIGITS).any(is_account)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYx";

    #[test]
    fn keys_and_tokens_are_hidden_and_the_rest_stays() {
        for (text, expected) in [
            ("", ""),
            ("Rate exceeded", "Rate exceeded"),
            ("Authorization: Basic YXdzOmE=, again", "Authorization: Basic [hidden], again"),
            (&format!("at https://h.example/?t={}%3D", &SECRET[..40]), "at https://h.example/?[hidden]"),
            (&format!("<t>{SECRET}</t>"), "<t>[hidden]</t>"),
            ("failed\nwith\tAKIAIOSFODNN7EXAMPLE", "failed with [hidden]"),
            ("AKIA\u{7}IOSFODNN7EXAMPLE", "[hidden]"),
            ("AKIDEXAMPLE", "AKIDEXAMPLE"),
            (&format!("key=:{SECRET}"), "key=:[hidden]"),
            (&format!("{{\"token\":\"{SECRET}\",\"a\":1}}"), "{\"token\":\"[hidden]\",\"a\":1}"),
            (
                "arn:aws:sts::111122223333:assumed-role/Some-Quite-Long-Role-Name-Of-A-Team/session",
                "arn:aws:sts::111122223333:assumed-role/Some-Quite-Long-Role-Name-Of-A-Team/session",
            ),
        ] {
            assert_eq!(hide_secrets(text, 400), expected);
        }
    }

    #[test]
    fn addresses_arns_and_accounts_are_hidden_from_clients() {
        for (text, expected) in [
            ("", ""),
            ("a version has at most 350 assets.", "a version has at most 350 assets."),
            ("User: arn:aws:sts::111122223333:x in 111122223333", "User: … in …"),
            ("at https://host.example/ failed\u{7}", "at … failed"),
            ("account-111122223333/x", "…"),
            ("1111\u{7}22223333", "…"),
            ("build 20260101", "build 20260101"),
        ] {
            assert_eq!(hide_infrastructure(text, 300), expected);
        }
    }

    #[test]
    fn a_secret_is_hidden_before_the_text_is_shortened() {
        assert_eq!(hide_secrets(&format!("key {SECRET}"), 10), "key [hidde…");
        assert_eq!(hide_secrets("word word", 4), "word…");
    }
}
