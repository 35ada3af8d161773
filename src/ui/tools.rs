//! What the tools of one route need to be told, as text to copy. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Host, Url};

use super::project_model::InstallLine;
use wheelport_runtime::sabotaged;

/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One route of the page.
#[derive(Debug, Clone)]
pub(crate) struct HomeRoute<'a> {
    pub(crate) name: &'a str,
    /// The CodeArtifact domain behind it.
    pub(crate) domain: &'a str,
    /// The CodeArtifact repository behind it.
    pub(crate) repository: &'a str,
    /// Whether it also answers without its name.
    pub(crate) is_default: bool,
    pub(crate) publishing: Publishing,
    /// Whether only identities read it; then nothing but its name is shown.
    pub(crate) is_gated: bool,
}

/// What publishing through a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    Off,
    /// No credentials.
    Anonymous,
    Token,
}

/// Title, where the text belongs, and the text.
pub(super) type Card = (&'static str, &'static str, String);

/// What the tools of one route need to be told.
pub(super) struct Tools {
    /// What the tools call this index. Never the route's bare name: tools give names such as `pypi` a meaning of
    /// their own, and a publishing command must not end up elsewhere.
    name: String,
    pub(super) index: String,
    upload: String,
    publishing: Publishing,
    /// The host, where pip has to be told to trust it because it is neither encrypted nor this machine.
    plain_host: Option<String>,
}

impl Tools {
    pub(super) fn new(base: &str, route: &HomeRoute<'_>) -> Self {
        let segment = utf8_percent_encode(route.name, SEGMENT).to_string();
        let upload = format!("{base}/pypi/{segment}/");
        let (name, index) = if route.is_default {
            ("wheelport".to_owned(), format!("{base}/simple/"))
        } else {
            (format!("wheelport-{segment}"), format!("{base}/pypi/{segment}/simple/"))
        };
        Self { name, index, upload, publishing: route.publishing, plain_host: plain_host(base) }
    }

    pub(super) fn install(&self) -> [Card; 7] {
        let Self { name, index, .. } = self;
        let publish = match self.publishing {
            Publishing::Off => String::new(),
            _ => format!("publish-url = \"{}\"\n", self.upload),
        };
        // For both tools this setting is also how one says that an unencrypted host may be used. Pip trusts one that is
        // this machine without it.
        let verify = self.plain_host.is_none();
        let trusted =
            |prefix: &str| self.plain_host.as_ref().map_or_else(String::new, |host| format!("\n{prefix}{host}"));
        let docker_trusted = trusted("    PIP_TRUSTED_HOST=");
        let docker_continued = if docker_trusted.is_empty() { "" } else { " \\" };
        [
            ("pip", "pip.conf", format!("[global]\nindex-url = {index}{}", trusted("trusted-host = "))),
            (
                "pip, uv",
                "environment",
                format!(
                    "export PIP_INDEX_URL={index}\nexport UV_DEFAULT_INDEX={index}{}",
                    trusted("export PIP_TRUSTED_HOST=")
                ),
            ),
            (
                "uv",
                "pyproject.toml",
                format!("[[tool.uv.index]]\nname = \"{name}\"\nurl = \"{index}\"\n{publish}default = true"),
            ),
            (
                "Poetry",
                "pyproject.toml",
                format!("[[tool.poetry.source]]\nname = \"{name}\"\nurl = \"{index}\"\npriority = \"primary\""),
            ),
            (
                "PDM",
                "pyproject.toml",
                // The name replaces the tool's built-in source; any other would be a second index.
                format!("[[tool.pdm.source]]\nname = \"pypi\"\nurl = \"{index}\"\nverify_ssl = {verify}"),
            ),
            ("Pipenv", "Pipfile", format!("[[source]]\nname = \"{name}\"\nurl = \"{index}\"\nverify_ssl = {verify}")),
            (
                "Container image",
                "Dockerfile",
                format!("ENV PIP_INDEX_URL={index} \\\n    UV_DEFAULT_INDEX={index}{docker_continued}{docker_trusted}"),
            ),
        ]
    }

    pub(super) fn publish(&self, token: bool) -> [Card; 3] {
        let Self { name, upload, .. } = self;
        let (uv, twine, poetry) = if token {
            (
                "--token \"$TOKEN\"",
                "-u __token__ -p \"$TOKEN\"",
                format!("\npoetry config http-basic.{name} __token__ \"$TOKEN\""),
            )
        } else {
            ("-u '' -p ''", "-u '' -p ''", String::new())
        };
        [
            ("uv", "shell", format!("uv publish --publish-url {upload} {uv}")),
            ("twine", "shell", format!("twine upload --repository-url {upload} \\\n    {twine} dist/*")),
            (
                "Poetry",
                "shell",
                format!("poetry config repositories.{name} {upload}{poetry}\npoetry publish --build -r {name}"),
            ),
        ]
    }
}

/// The host of an address that is neither encrypted nor this machine.
fn plain_host(base: &str) -> Option<String> {
    let is_encrypted = base.starts_with("https:");
    Url::parse(base).ok().filter(|_| !is_encrypted).and_then(|url| match url.host()? {
        Host::Domain(host) => (host != "localhost" && !host.ends_with(".localhost")).then(|| host.to_owned()),
        Host::Ipv4(address) => (!address.is_loopback()).then(|| address.to_string()),
        Host::Ipv6(address) => (!address.is_loopback()).then(|| format!("[{address}]")),
    })
}

/// What to type to install a project from the index at this address, for each tool. A version that a shell could take
/// for something else is left out.
pub(crate) fn install_commands(index: &str, project: &str, version: Option<&str>) -> Vec<InstallLine> {
    let is_plain = |version: &&str| {
        let is_one = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'!' | b'_' | b'-');
        version.bytes().all(is_one) || sabotaged("command-version")
    };
    let what = match version.filter(is_plain) {
        // A shell reads what an exclamation mark says, unless it is quoted.
        Some(version) if version.contains('!') => format!("'{project}=={version}'"),
        Some(version) => format!("{project}=={version}"),
        None => project.to_owned(),
    };
    let host = plain_host(index);
    let trusted = host.as_ref().map_or_else(String::new, |host| format!(" --trusted-host {host}"));
    let unverified = if host.is_some() { "pdm config --local pypi.verify_ssl false && " } else { "" };
    vec![
        InstallLine { tool: "pip", line: format!("pip install --index-url {index}{trusted} {what}") },
        InstallLine { tool: "uv", line: format!("uv add --default-index {index} {what}") },
        InstallLine {
            tool: "poetry",
            line: format!("poetry source add --priority=primary wheelport {index} && poetry add {what}"),
        },
        InstallLine { tool: "pdm", line: format!("{unverified}pdm config --local pypi.url {index} && pdm add {what}") },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(index: &str, version: Option<&str>) -> Vec<String> {
        install_commands(index, "a-b", version).into_iter().map(|line| line.line).collect()
    }

    #[test]
    fn a_version_cannot_become_a_command() {
        for version in ["1.0; rm -rf ~", "$(id)", "`id`", "1.0 -r x", "1.0'x", "1.0|x", "1.0\nx"] {
            for line in lines("https://a.example/simple/", Some(version)) {
                assert!(line.ends_with(" a-b"), "{version}: {line}");
            }
        }
        for line in lines("https://a.example/simple/", Some("1!2.0+cpu")) {
            assert!(line.ends_with(" 'a-b==1!2.0+cpu'"), "{line}");
        }
    }

    #[test]
    fn an_unencrypted_foreign_host_has_to_be_trusted() {
        let [pip, _, _, pdm] = &lines("http://wheelport:8080/simple/", None)[..] else { panic!("four tools") };
        assert!(pip.contains("--trusted-host wheelport "));
        assert!(pdm.contains("verify_ssl false"));
        let local = lines("http://localhost:8080/simple/", Some("1.0")).join("\n");
        assert!(!local.contains("trusted-host") && !local.contains("verify_ssl"));
        assert!(local.contains("pip install --index-url http://localhost:8080/simple/ a-b==1.0"));
    }
}
