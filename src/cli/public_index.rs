//! The public index behind the external connection of `emulate` and `demo`: the one that is named, or the one that pip
//! or uv on this machine use. No public index is known to this program by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wheelport_emulator::IndexAddress;

/// Why there is no public index although the arguments request one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublicIndexError {
    /// None is named, configured, or known to an installed tool.
    #[error(
        "--public-index was given without a value, and neither PIP_INDEX_URL, UV_DEFAULT_INDEX, pip's configuration \
         nor an installed pip or uv names an index; give its URL"
    )]
    Unknown,
    #[error("`{0}` is not the URL of a simple index")]
    Invalid(String),
}

/// The index of the option's value; without a value the one that is configured, or that pip or uv use by default.
pub(super) fn named(value: &str) -> Result<IndexAddress, PublicIndexError> {
    if value.is_empty() {
        return configured().or_else(built_in).ok_or(PublicIndexError::Unknown);
    }
    parse_index(value).ok_or_else(|| PublicIndexError::Invalid(value.to_owned()))
}

/// What pip or uv say in their help about the index they use by default. Runs them: blocking.
fn built_in() -> Option<IndexAddress> {
    let tools: [(&str, &[&str]); 4] = [
        ("python3", &["-m", "pip", "install", "--help"]),
        ("pip3", &["install", "--help"]),
        ("pip", &["install", "--help"]),
        ("uv", &["pip", "install", "--help"]),
    ];
    tools.into_iter().find_map(|(program, arguments)| {
        let mut command = Command::new(program);
        let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        default_in_help(&String::from_utf8_lossy(&output.stdout))
    })
}

/// The URL after the word `default` in the help of an index option. Both tools print it, wrapped to the line width.
fn default_in_help(help: &str) -> Option<IndexAddress> {
    let words: Vec<&str> = help.split_whitespace().collect();
    let option =
        words.iter().position(|word| word.starts_with("--index-url") || word.starts_with("--default-index"))?;
    let url = words[option..].iter().take(80).find_map(|word| {
        let trimmed = word.trim_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '/'));
        trimmed.starts_with("http").then(|| parse_index(trimmed)).flatten()
    });
    url.filter(|_| words[option..].iter().take(80).any(|word| word.to_ascii_lowercase().contains("default")))
}

/// The public index that pip or uv are configured for on this machine, if any.
pub(super) fn configured() -> Option<IndexAddress> {
    #[expect(clippy::disallowed_methods, reason = "the one place of the emulator that reads the environment")]
    let environment = |name: &str| std::env::var(name).ok();
    find_public_index(environment, |path| std::fs::read_to_string(path).ok())
}

/// pip's order: environment, then the file named by it, the virtual environment's, the user's, the machine's.
fn find_public_index(
    environment: impl Fn(&str) -> Option<String>,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<IndexAddress> {
    let named = ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"]
        .into_iter()
        .filter_map(&environment)
        // uv allows `name=url`.
        .find_map(|value| parse_index(&value).or_else(|| parse_index(value.split_once('=')?.1)));
    named.or_else(|| {
        let home = environment("HOME").map(PathBuf::from);
        let config = environment("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
        let files = [
            environment("PIP_CONFIG_FILE").map(PathBuf::from),
            environment("VIRTUAL_ENV").map(|root| Path::new(&root).join("pip.conf")),
            config.map(|config| config.join("pip/pip.conf")),
            home.map(|home| home.join(".pip/pip.conf")),
            Some(PathBuf::from("/etc/xdg/pip/pip.conf")),
            Some(PathBuf::from("/etc/pip.conf")),
        ];
        files.into_iter().flatten().find_map(|path| index_of_pip_conf(&read(&path)?))
    })
}

fn parse_index(text: &str) -> Option<IndexAddress> {
    IndexAddress::parse(text).ok()
}

/// `index-url` of pip's configuration format, in `[install]`, `[download]` or `[global]`; the last one counts.
fn index_of_pip_conf(text: &str) -> Option<IndexAddress> {
    let mut section = String::new();
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim().clone_into(&mut section);
        } else if matches!(section.as_str(), "global" | "install" | "download")
            && let Some((key, value)) = line.split_once(['=', ':'])
            && matches!(key.trim(), "index-url" | "index_url")
        {
            found = parse_index(value).or(found);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Option<String> {
        let get = |pairs: &[(&str, &str)], wanted: &str| {
            pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
        };
        find_public_index(|name| get(environment, name), |path| get(files, path.to_str().unwrap_or_default()))
            .map(|index| index.to_string())
    }

    #[test]
    fn the_index_of_pip_or_uv_is_found_in_their_order() {
        let url = |path: &str| Some(format!("https://index.example.org/{path}"));
        let pip = ("PIP_INDEX_URL", "https://index.example.org/pip/");
        let uv = ("UV_DEFAULT_INDEX", "corp=https://user:secret@index.example.org/uv/");
        let user =
            ("/home/u/.config/pip/pip.conf", "[global]\ntimeout = 60\nindex-url = https://index.example.org/user/\n");
        let machine = ("/etc/pip.conf", "[install]\nindex-url: https://index.example.org/machine/\n");
        let home = ("HOME", "/home/u");
        assert_eq!(find(&[pip, uv, home], &[user]), url("pip/"));
        assert_eq!(find(&[uv, home], &[user]), url("uv/"));
        assert_eq!(find(&[home], &[user, machine]), url("user/"));
        assert_eq!(find(&[home], &[machine]), url("machine/"));
        assert_eq!(find(&[home], &[("/etc/pip.conf", "[other]\nindex-url = https://index.example.org/no/\n")]), None);
        assert_eq!(find(&[("PIP_INDEX_URL", "file:///srv/index"), home], &[]), None);
    }

    #[test]
    fn the_default_of_a_tool_is_read_from_its_help() {
        let pip = "  -i, --index-url <url>       Base URL of the Package Index (default\n\
            \x20                             https://index.example.org/simple). This should point";
        let uv = "      --default-index <DEFAULT_INDEX>\n\
            \x20         The URL of the default package index (by default: <https://index.example.org/simple>)";
        for help in [pip, uv] {
            assert_eq!(
                default_in_help(help).map(|index| index.to_string()).as_deref(),
                Some("https://index.example.org/simple")
            );
        }
        assert_eq!(default_in_help("--help"), None);
    }
}
