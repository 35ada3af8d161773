//! What pip and uv say of themselves in their user agent, and which wheel of a page such a client will choose.
//!
//! Both say which Python they install for and where it runs. The choice follows theirs (PEP 425, 440, 600, 656), as far
//! as that is a guess worth making: what is unusual is `None`, which costs nothing.

use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;

use crate::filename::FileKind;
use crate::page::{File, Page, Yanked};
use crate::version::VersionKey;

/// The longest user agent that is read, in bytes.
const LONGEST: usize = 2048;

/// The environment that a client installs into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAgent {
    /// Whether it only resolves.
    resolves_only: bool,
    /// Whether it resolves for all platforms at once.
    for_all_platforms: bool,
    /// The full version of Python.
    python: Version,
    /// Major and minor.
    release: (u64, u64),
    platform: Platform,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Platform {
    Glibc { release: (u64, u64), cpu: String },
    Musl { release: (u64, u64), cpu: String },
    Mac { release: (u64, u64), cpu: String },
    Windows { tag: &'static str },
}

#[derive(Deserialize)]
struct Said {
    installer: Option<Command>,
    python: Option<String>,
    implementation: Option<Named>,
    system: Option<Named>,
    distro: Option<Distro>,
    cpu: Option<String>,
}

#[derive(Deserialize)]
struct Command {
    #[serde(default)]
    subcommand: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Distro {
    version: Option<String>,
    libc: Option<Libc>,
}

#[derive(Deserialize)]
struct Libc {
    lib: Option<String>,
    version: Option<String>,
}

impl ClientAgent {
    /// Reads a user agent: the program, and what it says of its environment as JSON. `None` for every other program,
    /// and for an environment of which nothing is known here.
    pub fn parse(user_agent: &str) -> Option<Self> {
        let (program, said) = user_agent.get(..LONGEST.min(user_agent.len()))?.split_once(' ')?;
        let is_uv = match program.split_once('/')?.0 {
            "pip" => false,
            "uv" => true,
            _ => return None,
        };
        let said: Said = serde_json::from_str(said).ok()?;
        if said.implementation?.name? != "CPython" {
            return None;
        }
        let python = Version::from_str(&said.python?).ok()?;
        let release = (*python.release().first()?, *python.release().get(1)?);
        let cpu = said.cpu?;
        let platform = match said.system?.name?.as_str() {
            "Linux" => {
                let libc = said.distro?.libc?;
                let release = two(&libc.version?)?;
                match libc.lib?.as_str() {
                    "glibc" => Platform::Glibc { release, cpu },
                    "musl" => Platform::Musl { release, cpu },
                    _ => return None,
                }
            }
            "Darwin" | "macOS" => Platform::Mac { release: two(&said.distro?.version?)?, cpu },
            "Windows" => Platform::Windows {
                tag: match cpu.to_ascii_lowercase().as_str() {
                    "amd64" | "x86_64" => "win_amd64",
                    "arm64" | "aarch64" => "win_arm64",
                    "x86" | "i686" => "win32",
                    _ => return None,
                },
            },
            _ => return None,
        };
        let command = said.installer.map(|installer| installer.subcommand).unwrap_or_default();
        let resolves_only = matches!(command.last().map(String::as_str), Some("lock" | "compile" | "tree" | "list"));
        let for_all_platforms = is_uv && matches!(&command[..], [only] if only == "lock");
        Some(Self { resolves_only, for_all_platforms, python, release, platform })
    }

    /// Whether it will fetch the wheels that it chooses, as far as it says.
    pub fn installs(&self) -> bool {
        !self.resolves_only
    }

    /// Whether it resolves for all platforms at once, as uv does when it locks.
    pub fn is_for_all_platforms(&self) -> bool {
        self.for_all_platforms
    }

    /// The wheel that the client will choose if nothing but the page decides: of the newest final version that it may
    /// install, the wheel that fits best. `None` where that version has no such wheel. Where uv locks, it reads the
    /// metadata of the first wheel that is not for older Pythons only.
    pub fn choose<'a>(&self, page: &'a Page) -> Option<&'a File> {
        let usable = page.files.iter().filter(|file| matches!(file.yanked, Yanked::No) && self.allows(file));
        let mut best: Option<(VersionKey, Option<Rank>, &File)> = None;
        for file in usable {
            let Some(distribution) = file.name.distribution() else { continue };
            let rank = match distribution.kind {
                FileKind::Wheel => match self.rank(file.name.as_str()) {
                    None => continue,
                    fitting => fitting,
                },
                FileKind::Sdist | FileKind::Other => None,
            };
            let version = VersionKey::of(&distribution.version);
            let is_better = |(held, held_rank, _): &(VersionKey, Option<Rank>, &File)| {
                version > *held || (version == *held && rank > *held_rank)
            };
            if version.is_final() && best.as_ref().is_none_or(is_better) {
                best = Some((version, rank, file));
            }
        }
        best.filter(|(_, rank, _)| rank.is_some()).map(|(_, _, file)| file)
    }

    /// Whether `Requires-Python` lets this Python in; one that cannot be read does.
    fn allows(&self, file: &File) -> bool {
        let Some(required) = &file.requires_python else { return true };
        VersionSpecifiers::from_str(required).is_ok_and(|required| required.contains(&self.python))
    }

    /// How well a wheel fits; `None` if it does not.
    fn rank(&self, name: &str) -> Option<Rank> {
        let mut parts = name.strip_suffix(".whl")?.rsplit('-');
        let (platforms, abis, pythons) = (parts.next()?, parts.next()?, parts.next()?);
        if self.for_all_platforms {
            let is_recent = |python: &str| abis.split('.').any(|abi| self.is_recent(python, abi));
            return pythons.split('.').any(is_recent).then_some(((0, 0), (0, 0)));
        }
        let platform = platforms.split('.').filter_map(|tag| self.platform.rank(tag)).max()?;
        let interpreter = |abi: &str| pythons.split('.').filter_map(|python| self.interpreter(python, abi)).max();
        Some((abis.split('.').filter_map(interpreter).max()?, platform))
    }

    /// Whether an interpreter and an ABI are for this Python or later ones.
    fn is_recent(&self, python: &str, abi: &str) -> bool {
        let (major, minor) = self.release;
        let digits = python.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let Some((of, found)) = version_tag(digits) else { return false };
        let is_open = python.starts_with("py") || abi == "abi3";
        of == major && found.is_none_or(|found| found >= minor || is_open)
    }

    /// How well an interpreter and an ABI fit: this version of `CPython`, then the stable ABI, then any Python.
    fn interpreter(&self, python: &str, abi: &str) -> Option<(u8, u64)> {
        let (major, minor) = self.release;
        let digits = python.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let (kind, found) = (&python[..python.len() - digits.len()], version_tag(digits)?);
        let of_same = found.0 == major;
        let own = format!("cp{major}{minor}");
        match (kind, abi) {
            ("cp", abi) if abi == own && found == (major, Some(minor)) => Some((3, minor)),
            ("cp", "abi3") if of_same => found.1.filter(|older| *older <= minor).map(|older| (2, older)),
            ("cp", "none") if of_same && found.1 == Some(minor) => Some((1, u64::MAX)),
            ("py", "none") if of_same && found.1.unwrap_or(0) <= minor => Some((1, found.1.unwrap_or(0))),
            _ => None,
        }
    }
}

/// How well a wheel fits: its interpreter, then its platform.
type Rank = ((u8, u64), (u64, u64));

impl Platform {
    /// How well a platform tag fits: the newest one that this system can run, and last the one for all systems.
    fn rank(&self, tag: &str) -> Option<(u64, u64)> {
        if tag == "any" {
            return Some((0, 0));
        }
        match self {
            Self::Glibc { release, cpu } => {
                if tag.strip_prefix("linux_") == Some(cpu) {
                    return Some((1, 0));
                }
                let (found, of) = numbered(tag, "manylinux_").or_else(|| legacy_manylinux(tag))?;
                (of == cpu && found <= *release).then_some(found)
            }
            Self::Musl { release, cpu } => {
                let (found, of) = numbered(tag, "musllinux_")?;
                (of == cpu && found <= *release).then_some(found)
            }
            Self::Mac { release, cpu } => {
                let (found, of) = numbered(tag, "macosx_")?;
                ((of == cpu || of == "universal2") && found <= *release).then_some(found)
            }
            Self::Windows { tag: own } => (tag == *own).then_some((1, 0)),
        }
    }
}

/// `17` and `x86_64` of `manylinux_2_17_x86_64`.
fn numbered<'a>(tag: &'a str, prefix: &str) -> Option<((u64, u64), &'a str)> {
    let mut parts = tag.strip_prefix(prefix)?.splitn(3, '_');
    let release = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((release, parts.next()?))
}

/// The names that `manylinux_2_…` had before PEP 600.
fn legacy_manylinux(tag: &str) -> Option<((u64, u64), &str)> {
    let legacy = [("manylinux2014_", 17), ("manylinux2010_", 12), ("manylinux1_", 5)];
    legacy.iter().find_map(|(prefix, minor)| Some(((2, *minor), tag.strip_prefix(prefix)?)))
}

/// Major and minor of `311`, the major of `3`.
fn version_tag(digits: &str) -> Option<(u64, Option<u64>)> {
    let (major, minor) = digits.split_at_checked(1)?;
    Some((major.parse().ok()?, if minor.is_empty() { None } else { Some(minor.parse().ok()?) }))
}

/// The first two numbers of `2.36`, or of `14.2.1`.
fn two(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ProjectName;
    use crate::parse::{PageFormat, page as parse_page};

    const PIP: &str = r#"pip/26.0 {"ci":null,"cpu":"x86_64","distro":{"id":"bookworm",
        "libc":{"lib":"glibc","version":"2.36"},"name":"Debian GNU/Linux","version":"12"},
        "implementation":{"name":"CPython","version":"3.11.7"},"installer":{"name":"pip",
        "version":"26.0"},"openssl_version":"OpenSSL 3.0.18 30 Sep 2025","python":"3.11.7",
        "setuptools_version":"65.5.0","system":{"name":"Linux","release":"6.18.44"}}"#;
    const UV: &str = r#"uv/0.9.9 {"installer":{"name":"uv","version":"0.9.9","subcommand":["pip",
        "install"]},"python":"3.13.1","implementation":{"name":"CPython","version":"3.13.1"},
        "distro":{"name":"macOS","version":"14.2","id":null,"libc":null},"system":{"name":"Darwin",
        "release":"23.2.0"},"cpu":"arm64","openssl_version":null,"setuptools_version":null,
        "rustc_version":null,"ci":null}"#;

    fn chosen(agent: &str, files: &[(&str, Option<&str>, bool)]) -> Option<String> {
        let entries: Vec<_> = files
            .iter()
            .map(|(name, requires, yanked)| {
                serde_json::json!({"filename": name, "url": format!("1/{name}"), "hashes": {},
                    "requires-python": requires, "yanked": yanked})
            })
            .collect();
        let base = url::Url::parse("https://index.example.org/simple/a/").expect("a valid address");
        let body = serde_json::json!({"meta": {"api-version": "1.0"}, "name": "a", "files": entries}).to_string();
        let name = ProjectName::parse("a").expect("a valid name");
        let page = parse_page(PageFormat::Json, body.as_bytes(), &base, &name).expect("a page").page;
        ClientAgent::parse(agent)?.choose(&page).map(|file| file.name.to_string())
    }

    fn plain<'a>(names: &[&'a str]) -> Vec<(&'a str, Option<&'static str>, bool)> {
        names.iter().map(|name| (*name, None, false)).collect()
    }

    #[test]
    fn pip_and_uv_say_where_they_run() {
        let pip = ClientAgent::parse(PIP).expect("pip");
        assert_eq!(pip.release, (3, 11));
        assert_eq!(pip.platform, Platform::Glibc { release: (2, 36), cpu: "x86_64".to_owned() });
        let uv = ClientAgent::parse(UV).expect("uv");
        assert_eq!(uv.release, (3, 13));
        for other in
            ["", "pip", "pip/26.0", "pip/26.0 {}", "curl/8.0 {}", "poetry/2.1 {\"python\":\"3.11.7\"}", "uv/0.9 [["]
        {
            assert_eq!(ClientAgent::parse(other), None, "{other}");
        }
        assert_eq!(ClientAgent::parse(&PIP.replace("CPython", "PyPy")), None);
        assert_eq!(ClientAgent::parse(&format!("{PIP}{}", " ".repeat(9000))), ClientAgent::parse(PIP));
    }

    #[test]
    fn the_newest_final_version_that_may_be_installed_is_chosen() {
        let wheels = plain(&["a-1.9-py3-none-any.whl", "a-1.10-py3-none-any.whl", "a-2.0rc1-py3-none-any.whl"]);
        assert_eq!(chosen(PIP, &wheels).as_deref(), Some("a-1.10-py3-none-any.whl"));
        let newer = [
            ("a-1.0-py3-none-any.whl", Some(">=3.8"), false),
            ("a-2.0-py3-none-any.whl", Some(">=3.12"), false),
            ("a-3.0-py3-none-any.whl", None, true),
        ];
        assert_eq!(chosen(PIP, &newer).as_deref(), Some("a-1.0-py3-none-any.whl"));
        assert_eq!(chosen(UV, &newer).as_deref(), Some("a-2.0-py3-none-any.whl"));
        let sdist = plain(&["a-1.0-py3-none-any.whl", "a-2.0.tar.gz"]);
        assert_eq!(chosen(PIP, &sdist), None, "an sdist of a newer version is chosen then");
        assert_eq!(
            chosen(PIP, &plain(&["a-1.0.tar.gz", "a-1.0-py3-none-any.whl"])).as_deref(),
            Some("a-1.0-py3-none-any.whl")
        );
        assert_eq!(chosen(PIP, &[]), None);
    }

    #[test]
    fn where_uv_locks_the_first_wheel_for_this_python_or_later_ones_is_chosen() {
        let lock = UV.replace("[\"pip\",\n        \"install\"]", "[\"lock\"]");
        assert_ne!(lock, UV);
        let wheels = [
            "a-2.0-pp310-pypy310_pp73-win_amd64.whl",
            "a-2.0-cp312-cp312-win_amd64.whl",
            "a-2.0-cp27-none-any.whl",
            "a-2.0-cp314-cp314t-musllinux_1_2_s390x.whl",
            "a-2.0-cp313-cp313-win_amd64.whl",
            "a-1.0-py3-none-any.whl",
        ];
        assert_eq!(chosen(&lock, &plain(&wheels)).as_deref(), Some("a-2.0-cp314-cp314t-musllinux_1_2_s390x.whl"));
        for open in ["a-2.0-cp39-abi3-win_amd64.whl", "a-2.0-py2.py3-none-any.whl", "a-2.0-py38-none-any.whl"] {
            assert_eq!(chosen(&lock, &plain(&[&wheels[..3], &[open], &wheels[3..]].concat())).as_deref(), Some(open));
        }
    }

    #[test]
    fn of_one_version_the_wheel_that_fits_best_is_chosen() {
        let files = plain(&[
            "a-1.0-py3-none-any.whl",
            "a-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux_2_39_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            "a-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
            "a-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
            "a-1.0-cp313-cp313t-macosx_11_0_arm64.whl",
            "a-1.0-cp313-cp313-macosx_15_0_arm64.whl",
            "a-1.0-cp39-abi3-macosx_11_0_arm64.whl",
            "a-1.0-cp39-abi3-win_amd64.whl",
        ]);
        assert_eq!(chosen(PIP, &files).as_deref(), Some("a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"));
        assert_eq!(chosen(UV, &files).as_deref(), Some("a-1.0-cp39-abi3-macosx_11_0_arm64.whl"));
        let windows = PIP.replace("\"Linux\"", "\"Windows\"").replace("x86_64", "AMD64");
        assert_eq!(chosen(&windows, &files).as_deref(), Some("a-1.0-cp39-abi3-win_amd64.whl"));
        let musl = PIP.replace("glibc", "musl").replace("2.36", "1.2");
        assert_eq!(chosen(&musl, &files).as_deref(), Some("a-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"));
        let old = PIP.replace("2.36", "2.20");
        assert!(chosen(&old, &files).is_some_and(|name| name.contains("manylinux2014")));
        assert_eq!(chosen(PIP, &plain(&["a-1.0-py2-none-any.whl", "a-1.0-cp312-abi3-linux_x86_64.whl"])), None);
        assert!(chosen(PIP, &plain(&["a-1.0-2-py2.py3-none-any.whl"])).is_some());
    }
}
