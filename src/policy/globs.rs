//! Globs over project names and over licences.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer, de};

/// The longest glob, in bytes.
const LONGEST: usize = 300;

/// A glob over normalised project names, in any spelling of them.
#[derive(Debug, Clone)]
pub struct ProjectGlob(pub(super) Glob);

/// A glob over the identifiers of a licence expression.
#[derive(Debug, Clone)]
pub(super) struct LicenceGlob(pub(super) Glob);

fn build(text: &str) -> Result<Glob, String> {
    if text.is_empty() || text.len() > LONGEST {
        return Err(format!("a glob has between 1 and {LONGEST} characters"));
    }
    GlobBuilder::new(text).build().map_err(|error| format!("not a glob: {}", error.kind()))
}

impl ProjectGlob {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_glob = |c: char| c.is_ascii_alphanumeric() || "-_.*?[]{},!".contains(c);
        if !text.chars().all(is_glob) {
            return Err("a glob over project names has letters, digits, `-`, `_`, `.`, and `*?[]{},!`".to_owned());
        }
        let mut glob = String::with_capacity(text.len());
        let mut in_class = false;
        for c in text.chars() {
            match c {
                '[' => in_class = true,
                ']' => in_class = false,
                _ => {}
            }
            match c {
                '-' if in_class => glob.push('-'),
                '-' | '_' | '.' if glob.ends_with('-') => {}
                '-' | '_' | '.' => glob.push('-'),
                c => glob.push(c.to_ascii_lowercase()),
            }
        }
        build(&glob).map(Self)
    }
}

impl LicenceGlob {
    fn parse(text: &str) -> Result<Self, String> {
        build(&text.to_ascii_lowercase()).map(Self)
    }
}

/// A set of globs; the error is that of all of them together.
pub(super) fn set<'a>(globs: impl IntoIterator<Item = &'a Glob>) -> Result<GlobSet, String> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob.clone());
    }
    builder.build().map_err(|error| format!("the globs are too large together: {error}"))
}

/// Whether one of the identifiers of a licence expression (SPDX) is in the set.
pub(super) fn names_licence(licences: &GlobSet, expression: &str) -> bool {
    let separators = |c: char| c.is_whitespace() || matches!(c, '(' | ')');
    let mut identifiers = expression.split(separators).filter(|word| {
        !word.is_empty() && !["and", "or", "with"].iter().any(|operator| word.eq_ignore_ascii_case(operator))
    });
    identifiers.any(|identifier| licences.is_match(identifier.to_ascii_lowercase()))
}

impl<'de> Deserialize<'de> for ProjectGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for LicenceGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stand_for_names_in_any_spelling() {
        for (glob, name, expected) in [
            ("Acme_*", "acme-x", true),
            ("acme.-_*", "acme-x", true),
            ("acme-*", "acme", false),
            ("*", "a", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("{foo,bar}-x", "bar-x", true),
            ("acme", "acme-x", false),
        ] {
            let parsed = ProjectGlob::parse(glob).map(|glob| glob.0.compile_matcher().is_match(name));
            assert_eq!(parsed, Ok(expected), "{glob} {name}");
        }
        for glob in ["", "a b", "a/b", "[", "{a"] {
            assert!(ProjectGlob::parse(glob).is_err(), "{glob}");
        }
    }

    #[test]
    fn one_licence_of_an_expression_suffices() -> Result<(), String> {
        let licences = set([&LicenceGlob::parse("GPL-3.0-*")?.0, &LicenceGlob::parse("SSPL-1.0")?.0])?;
        for (expression, expected) in [
            ("GPL-3.0-only", true),
            ("MIT OR (Apache-2.0 AND gpl-3.0-or-later)", true),
            ("sspl-1.0", true),
            ("LGPL-3.0-only", false),
            ("MIT", false),
            ("", false),
        ] {
            assert_eq!(names_licence(&licences, expression), expected, "{expression}");
        }
        Ok(())
    }
}
