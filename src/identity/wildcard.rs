//! Texts in which `*` stands for any characters, also for none and also for slashes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that may hold `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Wildcard(String);

impl Wildcard {
    /// For values that are compared as they are.
    pub(super) fn written(raw: &str) -> Self {
        Self(raw.to_owned())
    }

    /// For names of projects, in any spelling of the names it stands for.
    pub(super) fn project(raw: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
        if raw.is_empty() || !raw.chars().all(allowed) {
            return None;
        }
        let mut pattern = String::with_capacity(raw.len());
        for c in raw.chars() {
            match c {
                '-' | '_' | '.' if pattern.ends_with('-') => {}
                '-' | '_' | '.' => pattern.push('-'),
                c => pattern.push(c.to_ascii_lowercase()),
            }
        }
        Some(Self(pattern))
    }

    pub(super) fn covers(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(first) else { return false };
        let (parts, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in parts.split('*') {
            let Some(at) = left.find(part) else { return false };
            left = &left[at + part.len()..];
        }
        left.ends_with(last)
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "acb", false),
            ("a**c", "abc", true),
            ("*-internal", "x-internal", true),
            ("acme/*", "acme/x/y", true),
            ("acme/*", "acme", false),
            ("acme", "acme2", false),
        ] {
            assert_eq!(Wildcard::written(pattern).covers(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn projects_are_read_in_any_spelling() {
        assert!(Wildcard::project("ACME__core.*").is_some_and(|pattern| pattern.covers("acme-core-x")));
        assert_eq!(Wildcard::project("a b"), None);
        assert_eq!(Wildcard::project(""), None);
    }
}
