//! The two headers and the log: whether both are whole, and what closing the image takes.

use super::Sheet;
use crate::{
    Result,
    check::{Finding, Severity},
    patch::Patch,
    units::buffer_len,
    vhdx::{
        disk_structs::{HEADER_LEN, HEADERS_AT, Header, sealed},
        header::{self, Found, NAMES, read},
        log::Replay,
        overlay,
    },
};
use uuid::Uuid;

/// Bytes that a replay may write and be offered as a repair, which holds them. Logs are of 1 MiB;
/// only one that zeros far more than it could have written asks for more.
const REPLAY: u64 = 64 << 20;

/// Checks the headers; `found` is the current one, `replay` what its log asks for.
pub(super) fn check(sheet: &mut Sheet<'_>, found: &Found, replay: Option<&Replay>) -> Result<()> {
    let [one, two] = HEADERS_AT;
    let (other, at) = match found.slot {
        0 => (1, two),
        _ => (0, one),
    };
    let name = NAMES.get(other).copied().unwrap_or("header");
    if let Err(why) = read(sheet.file, other)? {
        let severity = Severity::Warning;
        let finding = Finding::new(severity, "header-damaged", sheet.file, name, why).at(at);
        // A log that is in use is emptied below, which writes both headers.
        let next = match replay {
            None => next(&found.header),
            Some(_) => None,
        };
        let repair = match next {
            Some(header) => {
                let patch = Patch::write(sheet.file, at, sealed(&header, HEADER_LEN)?);
                Some(("write the header anew from the other one", vec![patch]))
            }
            None => None,
        };
        sheet.say(finding, repair);
    }
    let Some(replay) = replay else {
        return Ok(());
    };
    let detail = format!(
        "holds {} entries that were not replayed; libvhdi, VirtualBox and dissect read what the image was before them",
        replay.entries
    );
    let finding = Finding::new(Severity::Warning, "log-dirty", sheet.file, "log", detail);
    let patches = close(sheet, found, replay)?;
    let repair = patches.map(|patches| ("replay the log, and mark it as empty", patches));
    sheet.say(finding.at(found.header.log_offset), repair);
    Ok(())
}

/// The header that follows `header`; `None` if there is no number left.
fn next(header: &Header) -> Option<Header> {
    Some(Header {
        sequence: header.sequence.checked_add(1)?,
        ..header.clone()
    })
}

/// All changes that replay the log, then empty it: what it promised is on the medium before the
/// headers stop pointing to it, and one header is whole all the time.
fn close(sheet: &Sheet<'_>, found: &Found, replay: &Replay) -> Result<Option<Vec<Patch>>> {
    let bytes: u64 = (replay.patches.iter())
        .map(|(range, _)| range.end.saturating_sub(range.start))
        .sum();
    let clean = Header {
        log: [0; 16],
        // The file changes, so it gets another of these; what a guest sees does not.
        file_write: Uuid::new_v5(&Uuid::from_bytes(found.header.file_write), b"replayed")
            .into_bytes(),
        ..found.header.clone()
    };
    if bytes > REPLAY {
        return Ok(None);
    }
    let Some(headers) = header::replacing(found, &clean)? else {
        return Ok(None);
    };
    let file = sheet.file;
    let mut patches = Vec::new();
    if replay.size > file.size {
        patches.push(Patch::resize(file, replay.size));
    }
    for (range, patch) in replay.patches.iter() {
        let bytes = match patch {
            overlay::Patch::Bytes(bytes) => bytes.to_vec(),
            overlay::Patch::Zero => {
                vec![0; buffer_len(range.end.saturating_sub(range.start))?]
            }
        };
        patches.push(Patch::write(file, range.start, bytes));
    }
    for (at, bytes) in headers {
        patches.push(Patch::flush(file));
        patches.push(Patch::write(file, at, bytes));
    }
    Ok(Some(patches))
}
