//! The check that every format has by being read, on a layout that fails where it is told to.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by a panic"
)]

use vdisk_core::{
    Deny, Error, ErrorKind, Image, Job, Layer, Layout, Place, Result, Run,
    check::{Checkup, Finding, Findings, Severity, walk},
    format::{Context, Facts, named},
    storage::ImageFile,
    units::FileOffset,
};

const BLOCK: u64 = 64 << 10;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Block {
    Zero,
    Data,
    /// Found, but its data cannot be unpacked.
    Damaged,
    /// Its entry is wrong.
    Lost(ErrorKind),
}

struct Blocks(Vec<Block>);

impl Layout for Blocks {
    fn size(&self) -> u64 {
        self.0.len() as u64 * BLOCK
    }
    fn locate(&self, pos: u64) -> Result<Run> {
        let number = pos / BLOCK;
        let at = FileOffset(number * BLOCK);
        let place = match self.0[usize::try_from(number).unwrap()] {
            Block::Zero => Place::Zero,
            Block::Data => Place::Stored { file: 0, at },
            Block::Damaged => Place::Packed {
                file: 0,
                at,
                inside: 0,
            },
            Block::Lost(kind) => {
                return Err(Error::new(kind, format!("entry {number}"), "is wrong").at(number * 4));
            }
        };
        Ok(Run {
            end: (number + 1) * BLOCK,
            place,
        })
    }
    fn unpack(&self, pos: u64, _: &mut [u8]) -> Result<()> {
        let part = format!("block {}", pos / BLOCK);
        Err(Error::corrupt(part, "is damaged"))
    }
}

/// The parts that a walk over `blocks` finds, each with its severity.
fn walked(blocks: &[Block], deep: bool) -> Result<Vec<(Severity, String)>> {
    let file = ImageFile::from_storage("a.img", vec![7; blocks.len() << 16]).unwrap();
    let layer = Layer::new(
        named("vmdk").unwrap(),
        Image::new(vec![file], Box::new(Blocks(blocks.to_vec()))),
        Facts::default(),
    );
    let checkup = Checkup {
        context: Context {
            resolver: &Deny,
            overlay: false,
            disk: None,
            verify: true,
        },
        job: &Job::default(),
        deep,
    };
    let mut findings = Findings::default();
    walk(&layer, &checkup, &mut findings)?;
    let list = findings.list().iter();
    Ok(list.map(|f| (f.severity, f.part.to_string())).collect())
}

#[test]
fn goes_on_behind_what_is_wrong() {
    use Block::{Damaged, Data, Lost, Zero};
    let lost = Lost(ErrorKind::Corrupt);
    let blocks = [
        Data, lost, Zero, Damaged, Data, lost, Damaged, Damaged, Data,
    ];
    let errors = |parts: &[&str]| -> Vec<(Severity, String)> {
        let error = |p: &&str| (Severity::Error, (*p).to_owned());
        parts.iter().map(error).collect()
    };
    assert_eq!(
        walked(&blocks, false).unwrap(),
        errors(&["entry 1", "entry 5"])
    );
    let mut deep = walked(&blocks, true).unwrap();
    deep.sort();
    assert_eq!(
        deep,
        errors(&["block 3", "block 6", "block 7", "entry 1", "entry 5"])
    );
    assert_eq!(walked(&[Data, Zero, Data], true).unwrap(), []);
    assert_eq!(walked(&[], true).unwrap(), []);
}

#[test]
fn gives_up_where_all_is_wrong_and_says_so() {
    for deep in [false, true] {
        let found = walked(&[Block::Lost(ErrorKind::Corrupt); 5000], deep).unwrap();
        let notes: Vec<_> = found.iter().filter(|f| f.0 == Severity::Note).collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(found.len() < 200, "{}", found.len());
    }
}

#[test]
fn an_error_of_the_system_ends_it() {
    let blocks = [Block::Lost(ErrorKind::Corrupt), Block::Lost(ErrorKind::Io)];
    for deep in [false, true] {
        let error = walked(&blocks, deep).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}

#[test]
fn findings_are_counted_beyond_those_that_are_kept() {
    let file = ImageFile::from_storage("a.img", vec![]).unwrap();
    let fill = |rule, count, severity| {
        let mut findings = Findings::default();
        for _ in 0..count {
            findings.add(Finding::new(severity, rule, &file, "part", "is wrong"));
        }
        findings
    };
    let mut all = fill("one", 130, Severity::Note);
    all.append(fill("one", 150, Severity::Warning));
    all.append(fill("two", 3, Severity::Note));
    assert_eq!(all.list().len(), 103);
    assert_eq!(all.counts()["one"], 280);
    assert_eq!(all.counts()["two"], 3);
    // Also what was not kept counts.
    assert_eq!(all.worst(), Some(Severity::Warning));
    assert_eq!(Findings::default().worst(), None);
}
