//! Reads Rust sources as far as the rules need it: modules, and the paths that lead from one to another. It is no
//! compiler: it sees names, not types, and it does not look into macros.

use std::collections::BTreeMap;
use std::path::Path;

/// Every source file below `src` and `crates`, by its path from the root of the repository.
pub(crate) type Sources = BTreeMap<String, String>;

/// A module in a file of its own.
pub(crate) struct Module {
    /// From the crate on: `["wheelport", "web", "page"]`.
    pub(crate) name: Vec<String>,
    pub(crate) file: String,
    /// Whether only tests have it.
    pub(crate) is_test: bool,
    /// The line in which a test module inside the file begins.
    pub(crate) tests_begin: Option<usize>,
    pub(crate) paths: Vec<PathUse>,
    /// Names that `use` brings into this module from one of its own submodules.
    reexports: BTreeMap<String, Vec<String>>,
}

/// A path that is written down somewhere, in a `use` or in the code.
pub(crate) struct PathUse {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) is_test: bool,
    /// Modules inside the file, from the outside in.
    inline: Vec<String>,
    /// The name it gets if it stands in a `use`.
    imported_as: Option<String>,
}

/// The modules of all crates.
pub(crate) struct Tree {
    pub(crate) modules: Vec<Module>,
}

impl Tree {
    pub(crate) fn new(sources: &Sources) -> Self {
        let mut tree = Self { modules: Vec::new() };
        for file in sources.keys() {
            let name = match file.split('/').collect::<Vec<_>>()[..] {
                ["src", "main.rs"] => "main".to_owned(),
                ["src", "lib.rs"] => "wheelport".to_owned(),
                ["crates", member, "src", "lib.rs"] => format!("wheelport_{member}"),
                _ => continue,
            };
            tree.add(sources, vec![name], file, false);
        }
        tree
    }

    /// Adds the module in this file and those that it declares.
    fn add(&mut self, sources: &Sources, name: Vec<String>, file: &str, is_test: bool) {
        let Some(text) = sources.get(file) else { return };
        let scan = Scan::of(text);
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = file.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
        let below = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { format!("{folder}/{stem}") };
        for child in &scan.children {
            let candidates = match &child.file {
                Some(other) => vec![format!("{folder}/{other}")],
                None => vec![format!("{below}/{}.rs", child.name), format!("{below}/{}/mod.rs", child.name)],
            };
            let name: Vec<String> = name.iter().chain([&child.name]).cloned().collect();
            for file in candidates {
                self.add(sources, name.clone(), &file, is_test || child.is_test);
            }
        }
        let imported = scan.paths.iter().filter_map(|path| Some((path.imported_as.clone()?, path.segments.clone())));
        let reexports = imported.filter(|(_, segments)| {
            let first = segments.iter().find(|segment| *segment != "self");
            first.is_some_and(|first| scan.children.iter().any(|child| child.name == *first))
        });
        self.modules.push(Module {
            reexports: reexports.collect(),
            name,
            file: file.to_owned(),
            is_test,
            tests_begin: scan.tests_begin,
            paths: scan.paths,
        });
    }

    pub(crate) fn module(&self, name: &[String]) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// Where a path of this module leads, from the crate on; nothing if it leaves the workspace.
    pub(crate) fn resolve(&self, module: &Module, path: &PathUse) -> Option<Vec<String>> {
        let mut at: Vec<String> = module.name.iter().chain(&path.inline).cloned().collect();
        let mut rest = path.segments.as_slice();
        match rest.first()?.as_str() {
            "crate" => at.truncate(1),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
                return Some(at.into_iter().chain(rest.iter().cloned()).collect());
            }
            first if self.modules.iter().any(|module| module.name == [first]) => return Some(rest.to_vec()),
            first => {
                let child: Vec<String> = at.iter().map(String::as_str).chain([first]).map(str::to_owned).collect();
                self.module(&child)?;
                return Some(at.into_iter().chain(rest.iter().cloned()).collect());
            }
        }
        Some(at.into_iter().chain(rest[1..].iter().cloned()).collect())
    }

    /// The file module that a resolved path leads to, through the names that modules pass on from their submodules.
    pub(crate) fn target(&self, resolved: &[String]) -> Option<&Module> {
        let mut path = resolved.to_vec();
        for _ in 0..8 {
            let length = (1..=path.len()).rev().find(|length| self.module(&path[..*length]).is_some())?;
            let module = self.module(&path[..length])?;
            let Some(passed_on) = path.get(length).and_then(|name| module.reexports.get(name)) else {
                return Some(module);
            };
            let passed_on = passed_on.iter().filter(|segment| *segment != "self");
            path = path[..length].iter().chain(passed_on).cloned().collect();
        }
        None
    }
}

/// Reads all sources of the repository.
pub(crate) fn read(root: &Path) -> Sources {
    fn walk(root: &Path, folder: &Path, sources: &mut Sources) {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the repository").path();
            if path.is_dir() {
                walk(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name =
                    path.strip_prefix(root).expect("it lies below the root").to_string_lossy().replace('\\', "/");
                sources.insert(name, std::fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    let mut sources = Sources::new();
    for folder in ["src", "crates"] {
        walk(root, &root.join(folder), &mut sources);
    }
    sources
}

/// A module that a file declares and that has a file of its own.
struct Child {
    name: String,
    is_test: bool,
    /// What `#[path = "…"]` says.
    file: Option<String>,
}

/// What one file holds.
#[derive(Default)]
struct Scan {
    children: Vec<Child>,
    paths: Vec<PathUse>,
    tests_begin: Option<usize>,
}

impl Scan {
    fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut scan = Self::default();
        // Modules inside the file, each with the bracket depth around it; the depth of the item that only tests have.
        let (mut inline, mut depth, mut test_item) = (Vec::<(String, usize)>::new(), 0, None);
        let (mut file, mut at) = (None, 0);
        let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
        while at < tokens.len() {
            match word(at) {
                "#" if word(at + 1) == "[" || word(at + 2) == "[" => {
                    let end = (at..tokens.len()).find(|end| word(*end) == "]").unwrap_or(tokens.len());
                    let attribute: Vec<&str> = (at..end).map(word).collect();
                    if attribute.contains(&"cfg") && attribute.contains(&"test") && !attribute.contains(&"not") {
                        test_item.get_or_insert(depth);
                    }
                    if word(at + 2) == "path" {
                        file = Some(word(end - 1).trim_matches('"').to_owned());
                    }
                    at = end + 1;
                    continue;
                }
                "mod" if word(at + 2) == ";" => {
                    let (name, is_test) = (word(at + 1).to_owned(), test_item.is_some());
                    scan.children.push(Child { name, is_test, file: file.take() });
                }
                "mod" if word(at + 2) == "{" => {
                    inline.push((word(at + 1).to_owned(), depth));
                    if test_item == Some(depth) {
                        scan.tests_begin.get_or_insert(tokens[at].line);
                    }
                }
                "{" | "(" | "[" => depth += 1,
                closing @ ("}" | ")" | "]") => {
                    depth -= 1;
                    inline.pop_if(|(_, around)| *around == depth && closing == "}");
                    if closing == "}" {
                        test_item.take_if(|around| *around == depth);
                    }
                }
                ";" => {
                    test_item.take_if(|around| *around == depth);
                }
                text if is_name(text) => {
                    let (line, is_use) = (tokens[at].line, text == "use");
                    let mut found = Vec::new();
                    at = path(&tokens, if is_use { at + 1 } else { at }, &[], &mut found);
                    for (segments, name) in found.into_iter().filter(|(segments, _)| is_use || segments.len() > 1) {
                        let inline = inline.iter().map(|(name, _)| name.clone()).collect();
                        let imported_as = is_use.then_some(name);
                        scan.paths.push(PathUse { segments, line, is_test: test_item.is_some(), inline, imported_as });
                    }
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        scan
    }
}

/// Reads the path that begins here, with all branches of its braces and the name that each ends in. Returns its end.
fn path(tokens: &[Token<'_>], mut at: usize, before: &[String], found: &mut Vec<(Vec<String>, String)>) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let (mut segments, begin) = (before.to_vec(), at);
    loop {
        if word(at) == "{" {
            while !matches!(word(at), "}" | "") {
                at = path(tokens, at + 1, &segments, found);
            }
            return at + 1;
        }
        if !(is_name(word(at)) || word(at) == "*") {
            break;
        }
        if word(at) != "self" || segments.is_empty() {
            segments.push(word(at).to_owned());
        }
        at += 1;
        if word(at) != "::" {
            break;
        }
        at += 1;
    }
    let mut name = segments.last().cloned().unwrap_or_default();
    if word(at) == "as" {
        word(at + 1).clone_into(&mut name);
        at += 2;
    }
    if at > begin {
        found.push((segments, name));
    }
    at
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens of a source file, without comments. Literals are tokens that are no names.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !(token.starts_with("//") || token.starts_with("/*") || token.trim().is_empty()) {
            tokens.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The length of the string literal that begins here.
fn string(text: &str) -> Option<usize> {
    let prefix = text.bytes().take_while(|byte| b"bcr#".contains(byte)).count();
    let hashes = text[..prefix].bytes().filter(|byte| *byte == b'#').count();
    if text.as_bytes().get(prefix) != Some(&b'"') {
        return None;
    }
    if text[..prefix].contains('r') {
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some(text[prefix + 1..].find(&closing).map_or(text.len(), |end| prefix + 1 + end + closing.len()));
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(prefix + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of the character literal or lifetime that begins here.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(1, |end| end + 4),
        Some((_, _)) => characters.next().filter(|(_, c)| *c == '\'').map_or(1, |(end, _)| end + 1),
        None => 1,
    }
}
