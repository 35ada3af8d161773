//! The tests that docs/RELIABILITY.md names for its promises: each has to be there, or the promise is held by nothing.

use std::fs;
use std::path::Path;

/// A test as the document names it: where it stands, and what its function is called.
struct NamedTest<'a> {
    name: &'a str,
    /// A file, or a folder in whose files it may stand.
    place: String,
    /// `None` for all tests of the place.
    function: Option<&'a str>,
}

impl<'a> NamedTest<'a> {
    /// Reads `room::name`, `fleet room::name`, `lib room::tests::name` and `wheelport_crate::tests::name`.
    fn read(name: &'a str) -> Option<Self> {
        let (suite, path) = name.split_once(' ').unwrap_or(("integration", name));
        let (module, function) = path.rsplit_once("::")?;
        let first = module.split("::").next()?;
        let place = match (suite, first.strip_prefix("wheelport_")) {
            ("lib", _) => format!("src/{first}"),
            (_, Some(of)) => format!("crates/{of}/src"),
            _ => format!("tests/{suite}/{first}.rs"),
        };
        Some(Self { name, place, function: Some(function).filter(|function| *function != "*") })
    }

    fn is_there(&self, root: &Path) -> bool {
        let Some(function) = self.function else { return root.join(&self.place).exists() };
        let declared = format!("fn {function}(");
        let mut places = vec![root.join(&self.place)];
        while let Some(place) = places.pop() {
            if let Ok(entries) = fs::read_dir(&place) {
                places.extend(entries.flatten().map(|entry| entry.path()));
            } else if fs::read_to_string(&place).is_ok_and(|text| text.contains(&declared)) {
                return true;
            }
        }
        false
    }
}

/// What the promises of a document name and what is not there.
pub(crate) fn missing_tests(document: &str, root: &Path) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named = words.filter(|word| word.contains("::")).filter_map(NamedTest::read);
    let missing = named.filter(|test| !test.is_there(root));
    missing.map(|test| format!("docs/RELIABILITY.md names `{}`, which is not in {}", test.name, test.place)).collect()
}
