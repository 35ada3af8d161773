//! What a distribution needs, as its core metadata says it (PEP 508): taken apart as far as it is shown. Pure.

use crate::name::ProjectName;

/// One `Requires-Dist`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub project: ProjectName,
    /// What follows the name: extras, versions or an address, without the marker.
    pub rest: String,
    /// When it holds, without the part that names an extra.
    pub marker: Option<String>,
    /// The extra that asks for it.
    pub extra: Option<String>,
}

impl Requirement {
    /// `None` if it does not begin with the name of a project.
    pub fn parse(raw: &str) -> Option<Self> {
        let end = raw.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'));
        let (name, rest) = raw.split_at(end.unwrap_or(raw.len()));
        let project = ProjectName::parse(name).ok()?;
        // An address may hold a semicolon; a marker stands behind white space then.
        let split = if rest.trim_start().starts_with('@') { rest.split_once(" ;") } else { rest.split_once(';') };
        let (rest, marker) = split.unwrap_or((rest, ""));
        let (extra, marker) = without_extra(marker.trim());
        let rest = rest.trim();
        // Older metadata has its versions in parentheses.
        let rest = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest);
        Some(Self {
            project,
            rest: rest.trim().to_owned(),
            marker: Some(marker).filter(|marker| !marker.is_empty()),
            extra,
        })
    }
}

/// The extra that a marker names as one of the conditions that all have to hold, and the marker without it.
fn without_extra(marker: &str) -> (Option<String>, String) {
    // Where a condition may do in place of another one, or stands deeper, the marker is shown as it is.
    let is_plain = !marker.contains(" or ") || marker.rfind(" or ") < marker.rfind(')');
    let mut conditions: Vec<&str> = marker.split(" and ").map(str::trim).collect();
    let position = conditions.iter().position(|condition| extra_of(condition).is_some()).filter(|_| is_plain);
    match position.and_then(|position| extra_of(conditions.remove(position))) {
        Some(extra) => {
            let rest = conditions.join(" and ");
            let inner = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let inner = inner.filter(|inner| !inner.contains(['(', ')']));
            (Some(extra), inner.unwrap_or(&rest).to_owned())
        }
        None => (None, marker.to_owned()),
    }
}

/// `docs` of `extra == "docs"`.
fn extra_of(condition: &str) -> Option<String> {
    let value = condition.strip_prefix("extra")?.trim_start().strip_prefix("==")?.trim();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let extra = value.strip_prefix(quote)?.strip_suffix(quote)?;
    (!extra.is_empty() && !extra.contains(quote)).then(|| extra.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_taken_apart() {
        let parsed = |raw: &str| {
            let found = Requirement::parse(raw)?;
            Some((found.project.to_string(), found.rest, found.marker, found.extra))
        };
        let expect = |project: &str, rest: &str, marker: Option<&str>, extra: Option<&str>| {
            Some((project.to_owned(), rest.to_owned(), marker.map(str::to_owned), extra.map(str::to_owned)))
        };
        for (raw, expected) in [
            ("requests", expect("requests", "", None, None)),
            ("Zope.Interface >=5.0,<6", expect("zope-interface", ">=5.0,<6", None, None)),
            ("PySocks (!=1.5.7,>=1.5.6)", expect("pysocks", "!=1.5.7,>=1.5.6", None, None)),
            (
                "urllib3[socks]>=2; python_version < '3.9'",
                expect("urllib3", "[socks]>=2", Some("python_version < '3.9'"), None),
            ),
            ("pytest>=7; extra == \"test\"", expect("pytest", ">=7", None, Some("test"))),
            ("a; os_name == 'nt' and extra == 'win'", expect("a", "", Some("os_name == 'nt'"), Some("win"))),
            ("a; (x == '1' or y == '2') and extra == 'z'", expect("a", "", Some("x == '1' or y == '2'"), Some("z"))),
            ("a; extra == 'b' or extra == 'c'", expect("a", "", Some("extra == 'b' or extra == 'c'"), None)),
            ("a; extra == 'x\" onclick='", expect("a", "", None, Some("x\" onclick="))),
            (
                "a @ https://x.example/a;b.whl ; extra == 'c'",
                expect("a", "@ https://x.example/a;b.whl", None, Some("c")),
            ),
            ("<script>", None),
            ("", None),
        ] {
            assert_eq!(parsed(raw), expected, "{raw}");
        }
    }
}
