//! What a person or a log sees while a list is fetched: a bar on a terminal, else a line for each file.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Deserialize;

/// Columns of the bar.
const BAR: usize = 30;

/// A line of the server.
#[derive(Deserialize)]
#[serde(untagged)]
enum ServerLine {
    Done { done: bool, fetched: u64, stored: u64, failed: u64 },
    File { project: String, file: String, result: String, reason: Option<String> },
}

/// What a line told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    File,
    Done {
        /// Whether a file could not be fetched.
        failed: bool,
    },
    Nonsense,
}

pub(super) struct Progress {
    expected: usize,
    seen: usize,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new(expected: usize) -> Self {
        Self { expected, seen: 0, is_terminal: io::stdout().is_terminal() }
    }

    /// Shows what a line says.
    pub(super) fn take(&mut self, line: &str) -> Told {
        match serde_json::from_str(line) {
            Ok(ServerLine::Done { done: true, fetched, stored, failed }) => {
                self.clear();
                println!("{fetched} fetched, {stored} already there, {failed} failed");
                Told::Done { failed: failed > 0 }
            }
            Ok(ServerLine::File { project, file, result, reason }) => {
                self.seen += 1;
                if result == "failed" {
                    self.clear();
                    let reason = reason.unwrap_or_default();
                    println!("failed: {} of {}: {}", shown(&file), shown(&project), shown(&reason));
                } else if !self.is_terminal {
                    println!("{}: {}", shown(&result), shown(&file));
                }
                self.draw(&file);
                Told::File
            }
            _ => Told::Nonsense,
        }
    }

    fn draw(&self, file: &str) {
        if !self.is_terminal {
            return;
        }
        // A requirement without file names may become several files.
        let expected = self.expected.max(self.seen);
        let filled = self.seen * BAR / expected;
        let bar: String = (0..BAR).map(|column| if column < filled { '#' } else { '.' }).collect();
        let name: String = shown(file).chars().take(40).collect();
        print!("\r\x1b[K[{bar}] {}/{expected} {name}", self.seen);
        let _ = io::stdout().flush();
    }

    fn clear(&self) {
        if self.is_terminal {
            print!("\r\x1b[K");
        }
    }
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_failed_when_a_file_has() {
        let mut progress = Progress::new(2);
        let file = r#"{"project": "a", "file": "a-1.0.tar.gz", "result": "failed", "reason": "no"}"#;
        assert_eq!(progress.take(file), Told::File);
        let done = |failed: u32| format!(r#"{{"done": true, "fetched": 1, "stored": 0, "failed": {failed}}}"#);
        assert_eq!(progress.take(&done(1)), Told::Done { failed: true });
        assert_eq!(progress.take(&done(0)), Told::Done { failed: false });
        for nonsense in ["", "{}", "[]", r#"{"done": true}"#, "<html>"] {
            assert_eq!(progress.take(nonsense), Told::Nonsense, "{nonsense}");
        }
    }
}
