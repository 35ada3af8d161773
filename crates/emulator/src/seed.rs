//! Two small private packages, built here so that a demonstration works without any network.
//!
//! `wheelport-hello` needs `wheelport-greeting`; both exist in several versions, as wheel and as source distribution.
//! The source distributions carry their own build backend, so that they install without a public index too. The bytes
//! are the same at every run.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::store::{NewAsset, PublishOutcome, PublishRefusal, RepositoryKey, Store, VersionMetadata};
use wheelport_index::{FileName, ProjectName, Sha256};

const LICENSE: &str = "MIT OR Apache-2.0";
const REQUIRES_PYTHON: &str = ">=3.8";

/// One version of a sample package.
struct SamplePackage {
    /// `wheelport-hello`
    name: &'static str,
    /// `wheelport_hello`, as file names and imports spell it.
    module: &'static str,
    version: &'static str,
    summary: &'static str,
    source: &'static str,
    requires: &'static [&'static str],
    extras: &'static [&'static str],
    script: Option<&'static str>,
}

const HELLO: &str = r#""""Says hello, with the words of wheelport-greeting."""

import sys

from wheelport_greeting import greeting


def main() -> None:
    print(greeting(" ".join(sys.argv[1:]) or "world"))
"#;
const GREETING: &str = r#""""The words for a greeting."""


def greeting(name: str) -> str:
    return f"Hello, {name}!"
"#;
const GREETING_1_1: &str = r#""""The words for a greeting, quiet or loud."""


def greeting(name: str, loud: bool = False) -> str:
    text = f"Hello, {name}!"
    return text.upper() if loud else text
"#;

const SAMPLES: [SamplePackage; 5] = [
    SamplePackage {
        name: "wheelport-greeting",
        module: "wheelport_greeting",
        version: "1.0.0",
        summary: "The words for a greeting",
        source: GREETING,
        requires: &[],
        extras: &[],
        script: None,
    },
    SamplePackage {
        name: "wheelport-greeting",
        module: "wheelport_greeting",
        version: "1.1.0",
        summary: "The words for a greeting, quiet or loud",
        source: GREETING_1_1,
        requires: &[],
        extras: &[],
        script: None,
    },
    SamplePackage {
        name: "wheelport-hello",
        module: "wheelport_hello",
        version: "1.0.0",
        summary: "Says hello",
        source: HELLO,
        requires: &["wheelport-greeting>=1.0"],
        extras: &[],
        script: Some("wheelport-hello = wheelport_hello:main"),
    },
    SamplePackage {
        name: "wheelport-hello",
        module: "wheelport_hello",
        version: "1.1.0",
        summary: "Says hello, in more ways",
        source: HELLO,
        requires: &["wheelport-greeting>=1.0", "wheelport-greeting>=1.1; extra == \"loud\""],
        extras: &["loud"],
        script: Some("wheelport-hello = wheelport_hello:main"),
    },
    SamplePackage {
        name: "wheelport-hello",
        module: "wheelport_hello",
        version: "2.0.0",
        summary: "Says hello; the release that a demonstration blocks",
        source: HELLO,
        requires: &["wheelport-greeting>=1.0"],
        extras: &[],
        script: Some("wheelport-hello = wheelport_hello:main"),
    },
];

/// The build backend inside the source distributions: it zips the files beside it.
const BACKEND: &str = r#"import base64, hashlib, os, zipfile


def _entries():
    for folder in sorted(entry for entry in os.listdir(".") if os.path.isdir(entry)):
        for name in sorted(os.listdir(folder)):
            path = f"{folder}/{name}"
            if os.path.isfile(path) and not name.endswith(".pyc"):
                with open(path, "rb") as file:
                    yield path, file.read()


def get_requires_for_build_wheel(config_settings=None):
    return []


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    entries = list(_entries())
    info = next(path for path, _ in entries if path.endswith(".dist-info/METADATA")).split("/")[0]
    name = f"{info[: -len('.dist-info')]}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, data in entries:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
            wheel.writestr(path, data)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return name
"#;
const PYPROJECT: &str = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";

/// Publishes the samples that are missing.
pub(crate) async fn publish(store: &Store, repository: &RepositoryKey) -> Result<(), String> {
    for sample in &SAMPLES {
        for (file, bytes) in [sample.wheel(), sample.sdist()] {
            let mut writer = store.blobs().create().await.map_err(|error| error.to_string())?;
            writer.write(&bytes).await.map_err(|error| error.to_string())?;
            let spooled = writer.finish().await.map_err(|error| error.to_string())?;
            match store.publish(repository.clone(), sample.asset(&file)?, spooled).await {
                Ok(PublishOutcome::Created | PublishOutcome::Unchanged) => {}
                Err(PublishRefusal::Store(error)) => return Err(error.to_string()),
                // A user changed the sample on purpose; that version stays.
                Err(refused) => tracing::debug!(file, %refused, "a sample is left as it is"),
            }
        }
    }
    Ok(())
}

impl SamplePackage {
    fn stem(&self) -> String {
        format!("{}-{}", self.module, self.version)
    }

    fn asset(&self, file: &str) -> Result<NewAsset, String> {
        Ok(NewAsset {
            project: ProjectName::parse(self.name).map_err(|error| error.to_string())?,
            version: self.version.to_owned(),
            name: FileName::parse(file).map_err(|error| error.to_string())?,
            requires_python: Some(REQUIRES_PYTHON.to_owned()),
            metadata: VersionMetadata {
                summary: Some(self.summary.to_owned()),
                licenses: vec![LICENSE.to_owned()],
                description: Some(self.description()),
                requires_dist: self.requires.iter().map(|&line| line.to_owned()).collect(),
                ..VersionMetadata::default()
            },
        })
    }

    fn description(&self) -> String {
        format!("# {}\n\n{}. A sample package for trying a private index.\n", self.name, self.summary)
    }

    fn core_metadata(&self) -> String {
        let mut text = format!(
            "Metadata-Version: 2.4\nName: {}\nVersion: {}\nSummary: {}\n\
             License-Expression: {LICENSE}\nRequires-Python: {REQUIRES_PYTHON}\n",
            self.name, self.version, self.summary
        );
        for line in self.requires {
            let _ = writeln!(text, "Requires-Dist: {line}");
        }
        for extra in self.extras {
            let _ = writeln!(text, "Provides-Extra: {extra}");
        }
        text + "Description-Content-Type: text/markdown\n\n" + &self.description()
    }

    /// The files that both the wheel and the source distribution have.
    fn files(&self) -> Vec<(String, String)> {
        let info = format!("{}.dist-info", self.stem());
        let mut files = vec![
            (format!("{}/__init__.py", self.module), self.source.to_owned()),
            (format!("{info}/METADATA"), self.core_metadata()),
            (
                format!("{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: wheelport\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
            ),
        ];
        if let Some(script) = self.script {
            files.push((format!("{info}/entry_points.txt"), format!("[console_scripts]\n{script}\n")));
        }
        files
    }

    fn wheel(&self) -> (String, Vec<u8>) {
        let mut files = self.files();
        let mut record = String::new();
        for (path, text) in &files {
            let digest = URL_SAFE_NO_PAD.encode(Sha256::of(text.as_bytes()).0);
            let _ = writeln!(record, "{path},sha256={digest},{}", text.len());
        }
        let path = format!("{}.dist-info/RECORD", self.stem());
        let _ = writeln!(record, "{path},,");
        files.push((path, record));
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default());
        for (path, text) in files {
            writer.start_file(path, options).expect("the samples have few and different names");
            writer.write_all(text.as_bytes()).expect("memory takes every byte");
        }
        let bytes = writer.finish().expect("memory takes every byte").into_inner();
        (format!("{}-py3-none-any.whl", self.stem()), bytes)
    }

    fn sdist(&self) -> (String, Vec<u8>) {
        let stem = self.stem();
        let mut files = self.files();
        files.push(("PKG-INFO".to_owned(), self.core_metadata()));
        files.push(("pyproject.toml".to_owned(), PYPROJECT.to_owned()));
        files.push(("backend.py".to_owned(), BACKEND.to_owned()));
        let mut archive = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        for (path, text) in files {
            let header = ustar_header(&format!("{stem}/{path}"), text.len());
            let padding = vec![0; text.len().next_multiple_of(BLOCK) - text.len()];
            for part in [&header[..], text.as_bytes(), &padding] {
                archive.write_all(part).expect("memory takes every byte");
            }
        }
        archive.write_all(&[0; 2 * BLOCK]).expect("memory takes every byte");
        (format!("{stem}.tar.gz"), archive.finish().expect("memory takes every byte"))
    }
}

const BLOCK: usize = 512;

/// The header of one regular file in the POSIX interchange format of tar; the path has at most 100 bytes.
fn ustar_header(path: &str, length: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{length:011o}\0"));
    put(136, "14000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use wheelport_index::wheel;

    #[test]
    fn wheels_carry_their_metadata_and_are_the_same_every_time() {
        for sample in &SAMPLES {
            let (name, bytes) = sample.wheel();
            assert_eq!(sample.wheel().1, bytes);
            let name = FileName::parse(&name).expect("a file name");
            let metadata = wheel::core_metadata(bytes.as_slice(), &name).expect("a readable wheel");
            let fields = wheel::metadata_headers(&metadata);
            assert_eq!(fields.requires_dist, sample.requires);
            assert_eq!(fields.requires_python.as_deref(), Some(REQUIRES_PYTHON));
        }
    }

    #[test]
    fn tar_headers_sum_up() {
        let (_, archive) = SAMPLES[2].sdist();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&archive[..]).read_to_end(&mut plain).expect("gzip");
        assert_eq!(plain.len() % BLOCK, 0);
        assert!(plain.starts_with(b"wheelport_hello-1.0.0/wheelport_hello/__init__.py\0"));
        let sum: u32 = plain[..BLOCK]
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        assert_eq!(&plain[148..156], format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(&plain[257..265], b"ustar\x0000");
    }
}
