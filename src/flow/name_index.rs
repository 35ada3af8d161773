//! The names of a repository's projects, prepared for search once for each change of the list. Pure.

use std::sync::Arc;

use crate::cache::ListContent;
use wheelport_index::ProjectName;

/// Words that are looked for at most; the others are passed over.
const WORDS: usize = 5;
/// What separates names, and begins and ends all of them.
const SEPARATOR: char = '\n';

/// All names, and their text in one piece.
pub(super) struct NameIndex {
    list: Arc<ListContent>,
    /// Each name with a separator before it, and one behind the last.
    text: String,
    /// Where the name at each position begins in the text.
    starts: Vec<u32>,
}

/// Some of the names that were found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundNames {
    pub names: Vec<ProjectName>,
    /// How many were found.
    pub total: usize,
}

impl NameIndex {
    pub(super) fn new(list: Arc<ListContent>) -> Self {
        let mut text = String::with_capacity(list.list.projects.iter().map(|name| name.as_str().len() + 1).sum());
        let mut starts = Vec::with_capacity(list.list.projects.len());
        for name in &list.list.projects {
            text.push(SEPARATOR);
            starts.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            text.push_str(name.as_str());
        }
        text.push(SEPARATOR);
        Self { list, text, starts }
    }

    /// What it takes in memory, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.text.len() + self.starts.len() * size_of::<u32>() + 1024
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The names that hold all words of a query, best first: the name itself, names that begin with it, names of which
    /// a part begins with it, the others. No word finds all.
    pub(super) fn find(&self, query: &str, skip: usize, most: usize) -> FoundNames {
        let words = words(query);
        let names = &self.list.list.projects;
        let Some((first, others)) = words.split_first() else {
            return FoundNames { names: names.iter().skip(skip).take(most).cloned().collect(), total: names.len() };
        };
        let joined = words.join("-");
        let part = format!("-{first}");
        let mut ranked: [Vec<usize>; 4] = std::array::from_fn(|_| Vec::new());
        let mut from = 0;
        while let Some(at) = self.text.get(from..).and_then(|rest| rest.find(first.as_str())) {
            let position = self.starts.partition_point(|start| *start as usize <= from + at).saturating_sub(1);
            let name = names[position].as_str();
            if others.iter().all(|word| name.contains(word.as_str())) {
                let rank = match name {
                    _ if name == joined => 0,
                    _ if name.starts_with(&joined) => 1,
                    _ if name.starts_with(first.as_str()) || name.contains(&part) => 2,
                    _ => 3,
                };
                ranked[rank].push(position);
            }
            from = self.starts.get(position + 1).map_or(self.text.len(), |start| *start as usize);
        }
        let total = ranked.iter().map(Vec::len).sum();
        let found = ranked.iter().flatten().skip(skip).take(most).map(|position| names[*position].clone());
        FoundNames { names: found.collect(), total }
    }
}

/// The words of a query, spelled as names are.
fn words(query: &str) -> Vec<String> {
    let spelled = |word: &str| word.to_lowercase().replace(['_', '.'], "-").trim_matches('-').to_owned();
    query.split_whitespace().map(spelled).filter(|word| !word.is_empty()).take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wheelport_index::ProjectList;

    fn index(names: &[&str]) -> NameIndex {
        let mut projects: Vec<_> = names.iter().map(|name| ProjectName::parse(name).expect("a name")).collect();
        projects.sort_unstable();
        NameIndex::new(Arc::new(ListContent::new(ProjectList { projects })))
    }

    fn find(index: &NameIndex, query: &str) -> Vec<String> {
        let found = index.find(query, 0, 100);
        assert_eq!(found.total, found.names.len());
        found.names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_best_names_come_first() {
        let index = index(&["http-client", "httpx", "aiohttp", "a-httpx", "httpx-ws", "zz", "my-http"]);
        assert_eq!(find(&index, "httpx"), ["httpx", "httpx-ws", "a-httpx"]);
        assert_eq!(find(&index, "HTTP"), ["http-client", "httpx", "httpx-ws", "a-httpx", "my-http", "aiohttp"]);
        assert_eq!(find(&index, "client http"), ["http-client"]);
        assert_eq!(find(&index, "Http_Client"), ["http-client"]);
        assert_eq!(find(&index, "  "), ["a-httpx", "aiohttp", "http-client", "httpx", "httpx-ws", "my-http", "zz"]);
        assert!(find(&index, "xhttp").is_empty(), "nothing is found across two names");
        assert!(find(&index, "\n").len() == 7 && find(&index, "é<script>").is_empty());
        assert!(find(&self::index(&[]), "a").is_empty());
    }

    #[test]
    fn pages_of_what_is_found_follow_each_other() {
        let index = index(&["a1", "a2", "a3", "b"]);
        let page = |query, skip| index.find(query, skip, 2);
        let names = |names: &[&str]| names.iter().map(|name| ProjectName::parse(name).expect("a name")).collect();
        assert_eq!(page("a", 0), FoundNames { names: names(&["a1", "a2"]), total: 3 });
        assert_eq!(page("a", 2), FoundNames { names: names(&["a3"]), total: 3 });
        assert_eq!(page("", 2), FoundNames { names: names(&["a3", "b"]), total: 4 });
        assert_eq!(page("a", usize::MAX), FoundNames { names: Vec::new(), total: 3 });
    }
}
