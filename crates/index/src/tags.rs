//! What the name of a file says of where it can be installed, in words for people. Pure.
//!
//! The tags are those of the specification "Platform compatibility tags". A tag that is not known stays as it is.

use crate::filename::{FileKind, FileName};

/// The words for machines, by what platform tags call them.
const MACHINES: [(&str, &str); 14] = [
    ("x86_64", "x86-64"),
    ("amd64", "x86-64"),
    ("i686", "x86"),
    ("i386", "x86"),
    ("aarch64", "ARM64"),
    ("arm64", "ARM64"),
    ("armv7l", "ARMv7"),
    ("armv6l", "ARMv6"),
    ("ppc64le", "POWER"),
    ("s390x", "s390x"),
    ("riscv64", "RISC-V"),
    ("loongarch64", "LoongArch"),
    ("universal2", "Intel and ARM64"),
    ("intel", "Intel"),
];

/// The implementations, by what Python tags begin with.
const IMPLEMENTATIONS: [(&str, &str); 6] = [
    ("cp", "CPython"),
    ("pp", "PyPy"),
    ("py", "Python"),
    ("graalpy", "GraalPy"),
    ("ip", "IronPython"),
    ("jy", "Jython"),
];

/// Where a file can be installed, as `CPython 3.12, Linux x86-64, glibc 2.17+`; for other files than wheels, what they
/// are.
pub fn described(name: &FileName) -> String {
    match name.kind() {
        FileKind::Wheel => match tags(name.as_str()) {
            Some([python, abi, platform]) => wheel(python, abi, platform),
            None => "Wheel".to_owned(),
        },
        FileKind::Sdist => "Source".to_owned(),
        FileKind::Other => match name.as_str().rsplit_once('.').map(|(_, ending)| ending) {
            Some("egg") => "Egg".to_owned(),
            Some("exe" | "msi") => "Windows installer".to_owned(),
            Some("rpm") => "RPM package".to_owned(),
            Some("asc" | "sig") => "Signature".to_owned(),
            _ => "Other file".to_owned(),
        },
    }
}

/// `{name}-{version}[-{build}]-{python}-{abi}-{platform}[-{variant}].whl`
fn tags(name: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = name.strip_suffix(".whl")?.split('-').collect();
    let first = match parts.len() {
        // A build number begins with a digit.
        6 | 7 if parts[2].starts_with(|c: char| c.is_ascii_digit()) => 3,
        5 | 6 => 2,
        _ => return None,
    };
    Some([parts[first], parts[first + 1], parts[first + 2]])
}

fn wheel(python: &str, abi: &str, platform: &str) -> String {
    let stable = abi.split('.').any(|abi| abi == "abi3");
    let mut words = distinct(pythons(python, stable));
    words.extend(distinct(abi.split('.').filter_map(|abi| abi_words(abi, python))));
    let platforms = distinct(platform.split('.').map(platform_words));
    words.push(platforms.join(" or "));
    words.join(", ")
}

/// Each once, in their order.
fn distinct(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen
}

/// The Pythons that a set of tags names: those of one implementation together.
fn pythons(tags: &str, stable: bool) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    let mut unknown = Vec::new();
    for tag in tags.split('.') {
        let Some((implementation, version)) = python(tag, stable) else {
            unknown.push(tag.to_owned());
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == implementation) {
            Some((_, versions)) => versions.push(version),
            None => groups.push((implementation, vec![version])),
        }
    }
    let words = |(implementation, versions): (&str, Vec<String>)| match versions.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("{implementation} {} and {last}", all.join(", ")),
        _ => format!("{implementation} {}", versions.join("")).trim_end().to_owned(),
    };
    groups.into_iter().map(words).chain(unknown).collect()
}

/// `CPython` and `3.12` of `cp312`.
fn python(tag: &str, stable: bool) -> Option<(&'static str, String)> {
    let digits = tag.find(|c: char| c.is_ascii_digit())?;
    let (beginning, digits) = tag.split_at(digits);
    let (_, implementation) = *IMPLEMENTATIONS.iter().find(|(known, _)| *known == beginning)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (major, minor) = digits.split_at(1);
    if minor.is_empty() {
        return Some((implementation, major.to_owned()));
    }
    // A tag of Python alone, and the stable ABI, go for that version and all that follow.
    let later = if beginning == "py" || stable { "+" } else { "" };
    Some((implementation, format!("{major}.{minor}{later}")))
}

/// What an ABI says that the Python tag does not.
fn abi_words(abi: &str, python: &str) -> Option<String> {
    match abi {
        "none" => None,
        "abi3" => Some("stable ABI".to_owned()),
        "abi3t" => Some("stable free-threaded ABI".to_owned()),
        _ if python.split('.').any(|python| python == abi) => None,
        _ => {
            let of_python = python.split('.').find_map(|python| abi.strip_prefix(python));
            match of_python {
                Some("t") => Some("free-threaded".to_owned()),
                Some("d" | "dm" | "dmu") => Some("debug build".to_owned()),
                Some("td") => Some("free-threaded debug build".to_owned()),
                Some("m") => None,
                Some("mu") => Some("wide Unicode".to_owned()),
                _ if abi.starts_with("pypy") || abi.starts_with("graalpy") => None,
                _ => Some(abi.to_owned()),
            }
        }
    }
}

fn platform_words(platform: &str) -> String {
    known_platform(platform).unwrap_or_else(|| platform.to_owned())
}

fn known_platform(platform: &str) -> Option<String> {
    match platform {
        "any" => return Some("any platform".to_owned()),
        "win32" => return Some("Windows x86".to_owned()),
        _ => {}
    }
    let (system, rest) = platform.split_once('_')?;
    match system {
        "linux" => Some(format!("Linux {}", machine(rest)?)),
        "manylinux1" => Some(format!("Linux {}, glibc 2.5+", machine(rest)?)),
        "manylinux2010" => Some(format!("Linux {}, glibc 2.12+", machine(rest)?)),
        "manylinux2014" => Some(format!("Linux {}, glibc 2.17+", machine(rest)?)),
        "manylinux" | "musllinux" => {
            let (major, minor, rest) = version(rest)?;
            let library = if system == "manylinux" { "glibc" } else { "musl" };
            Some(format!("Linux {}, {library} {major}.{minor}+", machine(rest)?))
        }
        "macosx" => {
            let (major, minor, rest) = version(rest)?;
            Some(format!("macOS {major}.{minor}+ {}", machine(rest)?))
        }
        "win" => Some(format!("Windows {}", machine(rest)?)),
        "ios" => {
            let (major, minor, rest) = version(rest)?;
            let (of, what) = rest.rsplit_once('_')?;
            let simulator = if what == "iphonesimulator" { " simulator" } else { "" };
            Some(format!("iOS {major}.{minor}+ {}{simulator}", machine(of)?))
        }
        "android" => {
            let (level, rest) = rest.split_once('_')?;
            let of = if rest == "arm64_v8a" { "ARM64" } else { machine(rest)? };
            is_number(level).then(|| format!("Android API {level}+ {of}"))
        }
        "pyodide" | "pyemscripten" => {
            let (year, abi, rest) = version(rest)?;
            (rest == "wasm32").then(|| format!("Pyodide {year}.{abi} WebAssembly"))
        }
        _ => None,
    }
}

fn machine(name: &str) -> Option<&'static str> {
    MACHINES.iter().find(|(known, _)| *known == name).map(|(_, words)| *words)
}

/// `2`, `17` and `x86_64` of `2_17_x86_64`.
fn version(rest: &str) -> Option<(&str, &str, &str)> {
    let (major, rest) = rest.split_once('_')?;
    let (minor, rest) = rest.split_once('_')?;
    (is_number(major) && is_number(minor)).then_some((major, minor, rest))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_in_words() {
        for (tags, expected) in [
            ("py3-none-any", "Python 3, any platform"),
            ("py2.py3-none-any", "Python 2 and 3, any platform"),
            ("py310-none-any", "Python 3.10+, any platform"),
            ("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", "CPython 3.12, Linux x86-64, glibc 2.17+"),
            ("cp312-cp312-manylinux_2_28_aarch64", "CPython 3.12, Linux ARM64, glibc 2.28+"),
            ("cp27-cp27mu-manylinux1_i686", "CPython 2.7, wide Unicode, Linux x86, glibc 2.5+"),
            ("cp36-cp36m-manylinux2010_x86_64", "CPython 3.6, Linux x86-64, glibc 2.12+"),
            ("cp38-abi3-musllinux_1_2_x86_64", "CPython 3.8+, stable ABI, Linux x86-64, musl 1.2+"),
            ("cp37-abi3-win32", "CPython 3.7+, stable ABI, Windows x86"),
            ("cp313-cp313t-win_arm64", "CPython 3.13, free-threaded, Windows ARM64"),
            ("cp314-cp314-win_amd64", "CPython 3.14, Windows x86-64"),
            ("cp311-cp311-macosx_10_9_universal2", "CPython 3.11, macOS 10.9+ Intel and ARM64"),
            ("cp311-cp311-macosx_11_0_arm64", "CPython 3.11, macOS 11.0+ ARM64"),
            ("pp310-pypy310_pp73-macosx_10_15_x86_64", "PyPy 3.10, macOS 10.15+ x86-64"),
            ("graalpy311-graalpy242_311_native-linux_x86_64", "GraalPy 3.11, Linux x86-64"),
            ("cp38.cp39.cp310-none-linux_armv7l", "CPython 3.8, 3.9 and 3.10, Linux ARMv7"),
            ("cp313-cp313-ios_13_0_arm64_iphonesimulator", "CPython 3.13, iOS 13.0+ ARM64 simulator"),
            ("cp313-cp313-android_24_arm64_v8a", "CPython 3.13, Android API 24+ ARM64"),
            ("cp312-cp312-pyodide_2024_0_wasm32", "CPython 3.12, Pyodide 2024.0 WebAssembly"),
            ("xy9-abc-plan9_mips", "xy9, abc, plan9_mips"),
            ("cp312-cp312-manylinux_x_y_x86_64", "CPython 3.12, manylinux_x_y_x86_64"),
            ("cp312-cp312-win_pdp11", "CPython 3.12, win_pdp11"),
        ] {
            for name in [format!("a-1.0-{tags}.whl"), format!("a-1.0-1-{tags}.whl"), format!("a-1.0-{tags}-v3.whl")] {
                let name = FileName::parse(&name).expect("a file name");
                assert_eq!(described(&name), expected, "{name}");
            }
        }
    }

    #[test]
    fn other_files_are_called_what_they_are() {
        for (name, expected) in [
            ("a-1.0.tar.gz", "Source"),
            ("a-1.0.zip", "Source"),
            ("a-1.0-py2.7.egg", "Egg"),
            ("a-1.0.win32.exe", "Windows installer"),
            ("a-1.0.tar.gz.asc", "Signature"),
            ("README", "Other file"),
            ("odd.whl", "Wheel"),
        ] {
            assert_eq!(described(&FileName::parse(name).expect("a file name")), expected, "{name}");
        }
    }
}
