//! The core metadata of a wheel on disk, for records whose publisher gave none.

use std::path::PathBuf;

use crate::store::VersionMetadata;
use wheelport_index::{FileKind, FileName, wheel};

/// What a wheel's core metadata says.
pub(super) struct WheelMetadata {
    pub requires_python: Option<String>,
    pub metadata: VersionMetadata,
}

/// Reads a wheel on a blocking thread; `None` for other files and for unreadable ones.
pub(super) async fn of_wheel(path: PathBuf, name: &FileName) -> Option<WheelMetadata> {
    if name.kind() != FileKind::Wheel {
        return None;
    }
    let name = name.clone();
    let reading = wheelport_runtime::blocking(move || {
        let file = std::fs::File::open(path).ok()?;
        wheel::core_metadata(file, &name).ok()
    });
    let bytes = reading.await.ok()??;
    let fields = wheel::metadata_headers(&bytes);
    let metadata = VersionMetadata {
        summary: fields.summary,
        home_page: fields.home_page,
        source_repository: None,
        licenses: fields.license_expression.or(fields.license).into_iter().collect(),
        description: body(&bytes),
        requires_dist: fields.requires_dist,
    };
    Some(WheelMetadata { requires_python: fields.requires_python, metadata })
}

/// The text after the first empty line: the description of metadata version 2.1 and later.
fn body(metadata: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(metadata).replace("\r\n", "\n");
    let (_, body) = text.split_once("\n\n")?;
    (!body.trim().is_empty()).then(|| body.to_owned())
}
