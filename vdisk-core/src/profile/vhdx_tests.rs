//! What several profiles ask of a VHDX. Each answers nothing for an image of another format.

use super::{Broken, Result, Verdict, subject::Subject};

/// The log is empty.
pub(super) fn log(subject: &Subject<'_>) -> Result<Verdict> {
    match subject.vhdx.as_ref().and_then(|v| v.dirty) {
        Some(at) => Broken::new("log", "was not replayed").at(at).found(),
        None => Ok(None),
    }
}

/// All regions are marked as required.
pub(super) fn required(subject: &Subject<'_>) -> Result<Verdict> {
    match subject.vhdx.as_ref().and_then(|v| v.not_required) {
        Some(at) => Broken::new("region table", "marks a region as not required")
            .at(at)
            .found(),
        None => Ok(None),
    }
}

/// Blocks that are nowhere have no place.
pub(super) fn places(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vhdx) = &subject.vhdx else {
        return Ok(None);
    };
    match vhdx.misplaced(subject.file, subject.job)? {
        Some(at) => {
            let detail = "gives a place to a block that is not in the file";
            Broken::new("block allocation table", detail).at(at).found()
        }
        None => Ok(None),
    }
}
