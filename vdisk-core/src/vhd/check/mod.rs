//! Looks for what is wrong with a VHD, and repairs what its own copies prove.
//!
//! Programs are more or less strict with this format, so what only some of them mind is a note.

mod batmap;
mod blocks;
mod fields;
mod footers;
mod header;
mod locators;

use super::{
    Vhd,
    disk_structs::FIXED,
    fixed::Fixed,
    footer::{Footers, Found},
    readable,
};
use crate::{
    Format, Result,
    check::{Checkup, Finding, Findings, Severity, walk},
    storage::ImageFile,
};

/// What the tables of an image tell about the file, for repairs.
struct Extent {
    /// First byte after all that the image uses, the footer aside.
    end: u64,
    /// All of it lies in the file, and nothing overlaps.
    sound: bool,
}

/// Checks the image in `file`.
pub(super) fn check(
    file: &ImageFile,
    checkup: &Checkup<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let footers = Footers::read(file)?;
    let found = footers.found(file)?;
    readable(&found.footer)?;
    let extent = if found.footer.disk_type == FIXED {
        fixed(file, &found, findings)
    } else {
        blocks::check(file, &found, checkup, findings)
    };
    footers::check(file, &footers, &found, extent.as_ref().ok(), findings);
    extent?;
    if checkup.deep && findings.worst() < Some(Severity::Error) {
        // All places were looked at; now whether the medium gives the data.
        walk(
            &Vhd.open(file.clone(), &checkup.context)?,
            checkup,
            findings,
        )?;
    }
    Ok(())
}

/// Checks that a fixed disk ends where its footer begins.
fn fixed(file: &ImageFile, found: &Found, findings: &mut Findings) -> Result<Extent> {
    let size = found.footer.current_size;
    Fixed::new(file, found, false)?;
    if size < found.data_end {
        let detail = format!(
            "is {size} bytes, but the footer follows after {}; Azure and Hyper-V may refuse the image",
            found.data_end
        );
        findings.add(
            Finding::new(
                Severity::Warning,
                "fixed-size",
                file,
                "virtual size",
                detail,
            )
            .at(found.data_end),
        );
    }
    Ok(Extent {
        end: size,
        sound: true,
    })
}
