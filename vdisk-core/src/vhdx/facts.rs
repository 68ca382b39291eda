//! What the metadata tell about an image besides its contents, in words for people.

use super::{disk_structs::shown, header::Found, metadata::Metadata};
use crate::{Identity, format::Facts};

/// The facts that header and metadata tell; `replay` is the number of log entries applied, if any.
pub(crate) fn of(
    creator: Option<String>,
    header: &Found,
    metadata: &Metadata,
    replay: Option<usize>,
) -> Facts {
    let mut warnings = header.warnings.clone();
    let log = match replay {
        None => "empty".to_owned(),
        Some(entries) => {
            let (entries, are) = match entries {
                1 => ("1 log entry".to_owned(), "is"),
                _ => (format!("{entries} log entries"), "are"),
            };
            warnings.push(format!(
                "the image was not closed: {entries} {are} applied in memory, and the file is left as it is"
            ));
            format!("{entries} to be replayed")
        }
    };
    let data_write = header.header.data_write;
    Facts {
        subformat: match (metadata.has_parent, metadata.leave_allocated) {
            (true, _) => "differencing",
            (false, true) => "fixed",
            (false, false) => "dynamic",
        }
        .to_owned(),
        creator,
        details: vec![
            ("block size", format!("{} bytes", metadata.block_size)),
            (
                "logical sector",
                format!("{} bytes", metadata.logical_sector),
            ),
            (
                "physical sector",
                format!("{} bytes", metadata.physical_sector),
            ),
            ("virtual disk id", shown(metadata.disk_id)),
            ("data write GUID", shown(data_write)),
            ("log", log),
        ],
        warnings,
        identity: Some(Identity::Linkage(data_write)),
        other_identity: None,
        parent_modified: None,
        parent: None,
        disk_id: Some(metadata.disk_id),
        notes: Vec::new(),
    }
}
