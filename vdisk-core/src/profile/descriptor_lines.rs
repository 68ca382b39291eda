//! A descriptor as VirtualBox reads it: line by line, and strictly.
//!
//! Source: VirtualBox, `VMDK.cpp`. Other readers, ours among them, forgive all of this.

use super::{Broken, Result, Verdict, subject::Subject};

/// Lines that VirtualBox has room for.
const LINES: usize = 1099;
/// First lines that it knows.
const FIRST: [&str; 4] = [
    "# Disk DescriptorFile",
    "# Disk Descriptor File",
    "#Disk Descriptor File",
    "#Disk DescriptorFile",
];

/// The three parts of a descriptor, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Header,
    Extents,
    DiskDataBase,
}

/// The lines without their ends, each with its number from 1 and its place in the file.
fn lines<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = (usize, u64, &'a [u8])> {
    let view = subject.vmdk.as_ref();
    let (text, mut at) = view.map_or((&[][..], 0), |v| (v.text.as_slice(), v.at));
    let pieces = text
        .strip_suffix(b"\n")
        .unwrap_or(text)
        .split(|b| *b == b'\n');
    let lines = pieces.zip(1..).map(move |(line, number)| {
        let start = at;
        at = at.saturating_add(line.len() as u64).saturating_add(1);
        (number, start, line.strip_suffix(b"\r").unwrap_or(line))
    });
    lines.filter(move |_| view.is_some())
}

/// Lines that say something.
fn entries<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = (usize, u64, &'a [u8])> {
    lines(subject).filter(|(_, _, line)| !line.is_empty() && !line.starts_with(b"#"))
}

fn line(number: usize, at: u64, detail: &str) -> Result<Verdict> {
    Broken::new(format!("descriptor, line {number}"), detail)
        .at(at)
        .found()
}

/// The first line is the usual one.
pub(super) fn start(subject: &Subject<'_>) -> Result<Verdict> {
    match lines(subject).next() {
        Some((number, at, text)) if !FIRST.iter().any(|f| f.as_bytes() == text) => {
            line(number, at, "is not '# Disk DescriptorFile'")
        }
        _ => Ok(None),
    }
}

/// Nothing is indented.
pub(super) fn indentation(subject: &Subject<'_>) -> Result<Verdict> {
    match entries(subject).find(|(_, _, text)| indented(text)) {
        Some((number, at, _)) => line(number, at, "begins with a blank"),
        None => Ok(None),
    }
}

fn indented(text: &[u8]) -> bool {
    text.first().is_some_and(|b| *b == b' ' || *b == b'\t')
}

/// First the header, then the extents, then the disk data base.
pub(super) fn order(subject: &Subject<'_>) -> Result<Verdict> {
    let mut reached = Section::Header;
    // Indented lines are taken for header lines, wherever they stand; they have their own rule.
    for (number, at, text) in entries(subject).filter(|(_, _, text)| !indented(text)) {
        let section = if [&b"RW"[..], b"RDONLY", b"NOACCESS"]
            .iter()
            .any(|access| text.starts_with(access))
        {
            Section::Extents
        } else if text.starts_with(b"ddb.") {
            Section::DiskDataBase
        } else {
            Section::Header
        };
        if section < reached {
            let detail = match section {
                Section::Header => "is a header line, but follows extents or ddb lines",
                _ => "is an extent, but follows ddb lines",
            };
            return line(number, at, detail);
        }
        reached = section;
    }
    Ok(None)
}

/// The line ends are LF or CR LF.
pub(super) fn line_ends(subject: &Subject<'_>) -> Result<Verdict> {
    match lines(subject).find(|(_, _, text)| text.contains(&b'\r')) {
        Some((number, at, _)) => line(number, at, "has a CR without an LF"),
        None => Ok(None),
    }
}

/// There are not too many lines.
pub(super) fn count(subject: &Subject<'_>) -> Result<Verdict> {
    match lines(subject).count() {
        count if count > LINES => Broken::new(
            "descriptor",
            format!("has {count} lines, and {LINES} are the most"),
        )
        .found(),
        _ => Ok(None),
    }
}
