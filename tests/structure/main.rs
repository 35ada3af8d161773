//! The rules of docs/ARCHITECTURE.md that no compiler holds: which room may use which, where the web framework and the
//! AWS SDK may appear, no circle of files inside a room, and the size of files and lines.
//!
//! It only reads source text, so it knows paths that are written down and nothing of traits and macros.

mod promises;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promises::missing_tests;
use source::{Module, PathUse, Sources, Tree};

/// Columns of a line of code or comment.
const WIDTH: usize = 120;
/// Lines of a file without its tests.
const LENGTH: usize = 400;
const ROOMS: &str = "Who may use whom";
const LIBRARIES: &str = "Who may use which library";

/// The first table below a heading: what stands in the first column, and the words in the second.
fn table<'a>(document: &'a str, heading: &str) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let lines = document.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading));
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    rows.filter_map(|row| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.split('`').skip(1).step_by(2));
        Some((cells.next()?.next()?, cells.next()?.collect()))
    })
    .collect()
}

/// The room that a module belongs to; none for the list of rooms itself.
fn room(name: &[String]) -> Option<&str> {
    match name {
        [root, room, ..] if root == "wheelport" => Some(room),
        [root] if root == "wheelport" => None,
        [root, ..] => Some(root.trim_start_matches("wheelport_")),
        [] => None,
    }
}

/// Every path of the tree that leads to another module of the workspace.
fn links(tree: &Tree) -> impl Iterator<Item = (&Module, &PathUse, Vec<String>)> {
    let all = tree.modules.iter().flat_map(|module| module.paths.iter().map(move |path| (module, path)));
    all.filter_map(|(module, path)| Some((module, path, tree.resolve(module, path)?)))
}

fn rooms_use_only_what_they_may(tree: &Tree, document: &str) -> Vec<String> {
    let allowed = table(document, ROOMS);
    let mut faults = Vec::new();
    let existing: BTreeSet<&str> = tree.modules.iter().filter_map(|module| room(&module.name)).collect();
    for name in &existing {
        if !allowed.contains_key(name) {
            faults.push(format!("the room `{name}` has no row in \"{ROOMS}\" of docs/ARCHITECTURE.md"));
        }
    }
    for name in allowed.keys().filter(|name| !existing.contains(*name)) {
        faults.push(format!("docs/ARCHITECTURE.md has a row for `{name}` in \"{ROOMS}\", but there is no such room"));
    }
    for (module, path, target) in links(tree) {
        let (Some(from), Some(to)) = (room(&module.name), room(&target)) else { continue };
        if from != to && !allowed.get(from).is_some_and(|allowed| allowed.contains(to)) {
            faults.push(format!(
                "{}:{}: `{}`: the room `{from}` may not use `{to}`; read \"{ROOMS}\" in docs/ARCHITECTURE.md",
                module.file,
                path.line,
                path.segments.join("::"),
            ));
        }
    }
    let edges = allowed.iter().map(|(from, to)| (*from, to.iter().map(|to| (*to, "allowed")).collect())).collect();
    faults.extend(circles(&edges).into_iter().map(|circle| format!("\"{ROOMS}\" allows a circle: {circle}")));
    faults
}

fn libraries_stay_in_their_rooms(tree: &Tree, document: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (library, places) in table(document, LIBRARIES) {
        for module in &tree.modules {
            let file = module.file.trim_start_matches("src/").trim_start_matches("crates/");
            let is_inside =
                |place: &&str| file.strip_prefix(*place).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
            if places.iter().any(is_inside) {
                continue;
            }
            let is_it = |first: &str| {
                library.strip_suffix('*').map_or(first == library, |beginning| first.starts_with(beginning))
            };
            for path in module.paths.iter().filter(|path| path.segments.len() > 1 && is_it(&path.segments[0])) {
                faults.push(format!(
                    "{}:{}: `{}` is not for this room; read \"{LIBRARIES}\" in docs/ARCHITECTURE.md",
                    module.file,
                    path.line,
                    path.segments.join("::"),
                ));
            }
        }
    }
    faults
}

/// What each node leads to, and where it says so.
type Edges<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// One circle for each edge that closes one.
fn circles(edges: &Edges<'_>) -> Vec<String> {
    fn visit<'a>(edges: &Edges<'a>, way: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>, found: &mut Vec<String>) {
        let Some(here) = way.last().copied() else { return };
        for to in edges.get(here).into_iter().flat_map(BTreeMap::keys) {
            if let Some(begin) = way.iter().position(|node| node == to) {
                let round: Vec<&str> = way[begin..].iter().chain([to]).copied().collect();
                let steps: Vec<String> = round
                    .windows(2)
                    .map(|step| format!("{} → {} ({})", step[0], step[1], edges[step[0]][step[1]]))
                    .collect();
                found.push(steps.join(", "));
            } else if !done.contains(to) {
                way.push(to);
                visit(edges, way, done, found);
                way.pop();
            }
        }
        done.insert(here);
    }
    let (mut done, mut found) = (BTreeSet::new(), Vec::new());
    for node in edges.keys() {
        if !done.contains(node) {
            visit(edges, &mut vec![node], &mut done, &mut found);
        }
    }
    found
}

/// Files of one room do not lead back to each other. What a module takes from the module around it does not count, nor
/// does what only tests take.
fn files_of_a_room_form_no_circle(tree: &Tree) -> Vec<String> {
    let mut found: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for (module, path, resolved) in links(tree) {
        let Some(target) = tree.target(&resolved) else { continue };
        let leaves_room = room(&module.name) != room(&target.name);
        if leaves_room || path.is_test || module.is_test || module.name.starts_with(&target.name) {
            continue;
        }
        let place = format!("line {}: {}", path.line, path.segments.join("::"));
        found.entry(&module.file).or_default().entry(&target.file).or_insert(place);
    }
    let edges = found.iter().map(|(from, to)| (*from, to.iter().map(|(to, place)| (*to, place.as_str())).collect()));
    circles(&edges.collect()).into_iter().map(|circle| format!("a circle inside a room: {circle}")).collect()
}

fn lines_fit_the_margin(sources: &Sources) -> Vec<String> {
    let all = sources.iter().flat_map(|(file, text)| text.lines().enumerate().map(move |(at, line)| (file, at, line)));
    let long = all.map(|(file, at, line)| (file, at, line.chars().count())).filter(|(.., columns)| *columns > WIDTH);
    long.map(|(file, at, columns)| format!("{file}:{}: {columns} columns; {WIDTH} are the margin", at + 1)).collect()
}

fn files_are_short(tree: &Tree, sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    for module in tree.modules.iter().filter(|module| !module.is_test) {
        let lines = module.tests_begin.map_or_else(|| sources[&module.file].lines().count(), |line| line - 1);
        if lines > LENGTH {
            faults.push(format!("{}: {lines} lines without its tests; {LENGTH} are the limit", module.file));
        }
    }
    faults
}

/// Secrets are compared in constant time: a type that holds one has no `==`, and nothing compares what it exposes.
fn secrets_are_not_compared(tree: &Tree, sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    for module in tree.modules.iter().filter(|module| !module.is_test) {
        let lines = sources[&module.file].lines().zip(1..);
        for (line, number) in lines.take_while(|(_, number)| module.tests_begin.is_none_or(|begin| *number < begin)) {
            let compares = line.contains("==") || line.contains("!=");
            if compares && (line.contains("expose_secret()") || line.contains(".expose()")) {
                faults.push(format!("{}:{number}: a secret is compared; use `ct_eq` or a MAC", module.file));
            }
        }
    }
    faults
}

/// A file that no module declares is not compiled and read by none of these rules.
fn every_file_is_a_module(tree: &Tree, sources: &Sources) -> Vec<String> {
    let known: BTreeSet<&String> = tree.modules.iter().map(|module| &module.file).collect();
    sources.keys().filter(|file| !known.contains(file)).map(|file| format!("{file}: no module declares it")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the document is part of the repository")
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn rooms() {
    assert_none(&rooms_use_only_what_they_may(&Tree::new(&source::read(root())), &document()));
}

#[test]
fn libraries() {
    assert_none(&libraries_stay_in_their_rooms(&Tree::new(&source::read(root())), &document()));
}

#[test]
fn no_circles() {
    assert_none(&files_of_a_room_form_no_circle(&Tree::new(&source::read(root()))));
}

#[test]
fn margin() {
    assert_none(&lines_fit_the_margin(&source::read(root())));
}

#[test]
fn file_length() {
    let sources = source::read(root());
    let tree = Tree::new(&sources);
    assert_none(&files_are_short(&tree, &sources));
    assert_none(&every_file_is_a_module(&tree, &sources));
}

#[test]
fn secrets() {
    let sources = source::read(root());
    assert_none(&secrets_are_not_compared(&Tree::new(&sources), &sources));
}

#[test]
fn promises() {
    let document = std::fs::read_to_string(root().join("docs/RELIABILITY.md")).expect("it is part of the repository");
    assert!(document.contains("| promise | what holds it |"), "there are promises");
    assert_none(&missing_tests(&document, root()));
    let row = "| x | `files::no_such_test`, `nowhere::*`, `lib web::no_such_test`, `fleet files::x`, `memory::*` |";
    assert_eq!(missing_tests(row, root()).len(), 4);
}

/// Each rule finds its fault in a small house, and nothing in the same house without it.
#[test]
fn every_rule_can_fail() {
    const DOCUMENT: &str = "\
## Who may use whom

| room | may use |
| --- | --- |
| `main` | `web` |
| `web` | `flow`, `index` |
| `flow` | `index` |
| `index` | |

## Who may use which library

| library | rooms |
| --- | --- |
| `axum` | `web` |
| `aws_*` | `flow/check` |
";
    let house = |changes: &[(&str, &str)]| {
        let files = [
            ("src/main.rs", "use wheelport::web::{self, page};"),
            ("src/lib.rs", "pub mod web;\npub mod flow;"),
            ("src/web/mod.rs", "mod page; mod body;\npub use page::Page;"),
            (
                "src/web/page.rs",
                "use axum::Router; use super::body; use crate::flow::{check::X, Flow};\npub struct Page;",
            ),
            ("src/web/body.rs", "const TEXT: &str = \"crate::gone::X // \"; // crate::gone::X"),
            ("src/flow/mod.rs", "pub mod check;\npub struct Flow;"),
            ("src/flow/check.rs", "use aws_x::Y;\nuse super::Flow;\n#[cfg(test)]\nmod tests {\n  use super::X;\n}"),
            ("crates/index/src/lib.rs", "pub struct Name;"),
        ];
        let mut sources: Sources = files.map(|(file, text)| (file.to_owned(), text.to_owned())).into();
        sources.extend(changes.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())));
        let tree = Tree::new(&sources);
        let mut faults = rooms_use_only_what_they_may(&tree, DOCUMENT);
        faults.extend(libraries_stay_in_their_rooms(&tree, DOCUMENT));
        faults.extend(files_of_a_room_form_no_circle(&tree));
        faults.extend(lines_fit_the_margin(&sources));
        faults.extend(files_are_short(&tree, &sources));
        faults.extend(every_file_is_a_module(&tree, &sources));
        faults.extend(secrets_are_not_compared(&tree, &sources));
        faults
    };
    assert_none(&house(&[]));
    let long_line = format!("// {}", "x".repeat(WIDTH));
    let long_file = "\n".repeat(LENGTH + 1);
    for (file, text, expected) in [
        (
            "src/flow/check.rs",
            "use crate::{flow::Flow, web::Page};",
            "src/flow/check.rs:1: `crate::web::Page`: the room `flow`",
        ),
        ("src/flow/check.rs", "\nfn f() { super::super::web::x() }", "src/flow/check.rs:2: `super::super::web::x`"),
        ("src/flow/check.rs", "#[cfg(test)] mod tests { use crate::web; }", "may not use `web`"),
        ("crates/index/src/lib.rs", "fn f() -> wheelport::flow::Flow {}", "may not use `flow`"),
        ("src/lib.rs", "mod web; mod flow; mod error {} mod odd;", "src/odd.rs"),
        ("src/lib.rs", "mod web;", "there is no such room"),
        (
            "src/flow/check.rs",
            "fn f(b: axum::body::Body) {}",
            "src/flow/check.rs:1: `axum::body::Body` is not for this room",
        ),
        ("src/flow/mod.rs", "pub mod check; use aws_x::Y;", "src/flow/mod.rs:1: `aws_x::Y` is not for this room"),
        (
            "src/web/body.rs",
            "use super::page::Page;",
            "src/web/body.rs → src/web/page.rs (line 1: super::page::Page), src/web/page.rs →",
        ),
        ("src/web/body.rs", "use super::Page;", "src/web/body.rs → src/web/page.rs (line 1: super::Page)"),
        ("src/web/body.rs", "use crate::web::page;", "a circle inside a room"),
        ("src/web/body.rs", &long_line, "src/web/body.rs:1: 123 columns"),
        ("src/web/body.rs", &long_file, "src/web/body.rs: 401 lines"),
        ("src/web/lost.rs", "", "src/web/lost.rs: no module declares it"),
        ("src/web/body.rs", "\nfn f() { a.expose_secret() == b }", "src/web/body.rs:2: a secret is compared"),
    ] {
        let odd = if expected == "src/odd.rs" { vec![("src/odd.rs", "")] } else { vec![] };
        let expected = if expected == "src/odd.rs" { "the room `odd` has no row" } else { expected };
        let faults = house(&[vec![(file, text)], odd].concat());
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{file}: {expected} is not among {faults:#?}");
    }
    let circle = DOCUMENT.replace("| `index` | |", "| `index` | `web` |");
    let faults = rooms_use_only_what_they_may(&Tree::new(&Sources::new()), &circle);
    assert!(faults.iter().any(|fault| fault.contains("allows a circle")), "{faults:#?}");
}
