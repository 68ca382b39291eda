//! What is written is read, and nothing else: whatever happens to the file in between.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

use proptest::prelude::*;
use std::{fs, path::Path};
use vdisk_core::{
    ErrorKind, Result,
    ops::dedup::{Block, Content, Fingerprint},
};
use vdisk_fingerprints::{FileStamp, Folder, Header, Reader, Writer};

const UNIT: u64 = 4096;

fn header(path: &str, size: u64) -> Header {
    Header {
        host: "store1".to_owned(),
        path: path.to_owned(),
        image: true,
        format: "raw".to_owned(),
        layers: 1,
        size,
        allocated: size,
        unit: UNIT,
        deflate_bits: 3,
        partitions: vec![1 << 20],
        files: vec![FileStamp {
            path: path.to_owned(),
            device: 1,
            inode: 2,
            size,
            allocated: size,
            modified: 3,
            changed: 4,
        }],
        ..Header::default()
    }
    .named()
}

fn data(seed: u64) -> Content {
    Content::Data {
        print: Fingerprint::of(&seed.to_le_bytes()),
        deflated: seed.is_multiple_of(3).then_some((seed % 4097) as u32),
    }
}

/// Writes `blocks` in pieces of `piece`, and returns the path.
fn write(
    folder: &mut Folder,
    header: Header,
    blocks: &[Block],
    piece: usize,
) -> std::path::PathBuf {
    let mut writer = Writer::create(folder, header).unwrap();
    for blocks in blocks.chunks(piece.max(1)) {
        writer.add(blocks).unwrap();
    }
    writer.finish(folder).unwrap().1
}

fn read(path: &Path) -> Result<(Header, Vec<Block>)> {
    let mut reader = Reader::open(path)?;
    let mut found = Vec::new();
    reader.blocks(&mut |blocks| {
        found.extend_from_slice(blocks);
        Ok(())
    })?;
    Ok((reader.header().clone(), found))
}

/// Blocks of a disk: what each of `kinds` says, one unit or a run of zeros after the other; the last
/// may be short. With gaps where there is a parent. Returns the size too.
fn blocks(kinds: &[(u8, u64)], short: u64, gaps: bool) -> (Vec<Block>, u64) {
    let mut found: Vec<Block> = Vec::new();
    let mut pos = 0;
    for (number, (kind, value)) in kinds.iter().enumerate() {
        let short = if number + 1 == kinds.len() { short } else { 0 };
        let (len, content) = match kind {
            0 => ((1 + value % 1000) * UNIT - short, Some(Content::Zero)),
            1 if gaps => ((1 + value % 50) * UNIT - short, None),
            _ => (UNIT - short, Some(data(*value % (UNIT - short)))),
        };
        if let Some(content) = content {
            match found.last_mut() {
                Some(last)
                    if content == Content::Zero
                        && last.content == Content::Zero
                        && last.pos + last.len == pos =>
                {
                    last.len += len;
                }
                _ => found.push(Block { pos, len, content }),
            }
        }
        pos += len;
    }
    (found, pos)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_blocks_come_back(
        kinds in prop::collection::vec((0u8..8, any::<u64>()), 0..3000),
        short in prop::sample::select(vec![0, 512, 3584]),
        gaps: bool,
        piece in 1usize..500,
    ) {
        let (rows, size) = blocks(&kinds, short, gaps);
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), true).unwrap();
        let mut header = header("/vm/a.raw", size);
        header.parent = gaps.then(|| "0".repeat(32));
        let path = write(&mut folder, header.clone().named(), &rows, piece);
        let (found, read) = read(&path).unwrap();
        prop_assert_eq!(&read, &rows);
        let bytes = |zero| rows.iter().filter(|b| (b.content == Content::Zero) == zero)
            .map(|b| b.len).sum::<u64>();
        let wanted = Header {
            rows: rows.len() as u64, data: bytes(false), zero: bytes(true), ..header.named()
        };
        prop_assert_eq!(found, wanted);
        let names: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
        prop_assert_eq!(names.len(), 1, "no temporary file is left");
    }
}

/// More rows than a row group has: 300,000 of random fingerprints.
#[test]
fn many_rows_take_few_bytes() {
    let rows: Vec<Block> = (0..300_000)
        .map(|n| Block {
            pos: n * UNIT,
            len: UNIT,
            content: match n % 10 {
                9 => Content::Zero,
                _ => Content::Data {
                    print: Fingerprint::of(&n.to_le_bytes()),
                    deflated: n.is_multiple_of(1024).then_some(2000),
                },
            },
        })
        .collect();
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(place.path(), true).unwrap();
    let path = write(
        &mut folder,
        header("/vm/a.raw", 300_000 * UNIT),
        &rows,
        10_000,
    );
    assert!(read(&path).unwrap().1 == rows);
    let per_row = path.metadata().unwrap().len() as f64 / rows.len() as f64;
    assert!(
        per_row < 16.0,
        "{per_row} bytes a row, of which one in ten has no hash"
    );
}

#[test]
fn another_state_of_an_image_replaces_the_old_one() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(place.path(), true).unwrap();
    let (rows, size) = blocks(&[(2, 1), (0, 5), (2, 2)], 0, false);
    let first = header("/vm/disk.vmdk", size);
    let mut second = first.clone();
    second.files[0].modified = 4;
    let second = second.named();
    let other = header("/vm2/disk.vmdk", size);
    let mut coarse = first.clone();
    coarse.unit = 512;
    let coarse = coarse.named();
    for header in [&first, &other, &coarse, &second] {
        let rows = if header.unit == UNIT { &rows[..] } else { &[] };
        if rows.is_empty() {
            let zero = Block {
                pos: 0,
                len: size,
                content: Content::Zero,
            };
            write(&mut folder, header.clone(), &[zero], 1);
        } else {
            write(&mut folder, header.clone(), rows, 1);
        }
    }
    for folder in [&folder, &Folder::open(place.path(), false).unwrap()] {
        assert!(folder.find(&first.id).unwrap().is_none(), "replaced");
        let mut found: Vec<_> = folder.headers().map(|(_, h)| h.unwrap().id).collect();
        let mut wanted = vec![second.id.clone(), other.id.clone(), coarse.id.clone()];
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }
    let name = "disk.vmdk-".to_owned() + &second.id + ".parquet";
    assert_eq!(read(&place.path().join(name)).unwrap().1, rows);
}

#[test]
fn another_cut_of_an_image_stays_as_long_as_it_says_something() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(place.path(), true).unwrap();
    let (rows, size) = blocks(&[(2, 1), (0, 5), (2, 2)], 0, false);
    let whole = Header {
        image: false,
        layers: 2,
        ..header("/vm/c.vmdk", size)
    }
    .named();
    let over = |parent: &Header, path: &str| {
        Header {
            parent: Some(parent.id.clone()),
            ..header(path, size)
        }
        .named()
    };
    let base = header("/vm/base.vmdk", size);
    let child = over(&whole, "/vm/child.vmdk");
    let cut = over(&base, "/vm/c.vmdk");
    let there = |folder: &Folder, wanted: &[&Header]| {
        let reopened = Folder::open(place.path(), false).unwrap();
        for folder in [folder, &reopened] {
            let mut found: Vec<_> = folder.headers().map(|(_, h)| h.unwrap().id).collect();
            let mut wanted: Vec<_> = wanted.iter().map(|h| h.id.clone()).collect();
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted);
        }
    };
    for header in [&whole, &child, &base, &cut] {
        let own = if header.parent.is_some() {
            &[]
        } else {
            &rows[..]
        };
        write(&mut folder, header.clone(), own, 1);
    }
    there(&folder, &[&whole, &child, &base, &cut]); // the child needs the first cut
    write(&mut folder, whole.clone(), &rows, 1);
    there(&folder, &[&whole, &child, &base, &cut]); // only the second one says that it is an image
    let moved = over(&cut, "/vm/child.vmdk");
    write(&mut folder, moved.clone(), &[], 1);
    there(&folder, &[&whole, &base, &cut, &moved]);
    write(&mut folder, cut.clone(), &[], 1);
    there(&folder, &[&base, &cut, &moved]); // nobody needs the first one
    // Of another state, it is of no use to anybody.
    let mut later = cut;
    later.files[0].changed += 1;
    let later = later.named();
    write(&mut folder, later.clone(), &[], 1);
    there(&folder, &[&base, &later, &moved]);
}

#[test]
fn a_file_with_the_name_of_another_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(place.path(), true).unwrap();
    let (rows, size) = blocks(&[(2, 1)], 0, false);
    let [one, two] = ["/one", "/two"].map(|path| write(&mut folder, header(path, size), &rows, 1));
    fs::copy(&one, &two).unwrap();
    fs::copy(&one, place.path().join("copy.parquet")).unwrap();
    let folder = Folder::open(place.path(), false).unwrap();
    for (path, header) in folder.headers() {
        match header {
            Ok(header) => assert!(header.path == "/one" && path != two),
            Err(error) => {
                assert!(path == two && error.to_string().contains("as the file's name is not"));
            }
        }
    }
    assert_eq!(folder.headers().count(), 3);
}

#[test]
fn a_name_follows_from_what_decides_about_the_rows() {
    let first = header("/vm/a.raw", 8192);
    let stays = |change: &dyn Fn(&mut Header)| {
        let mut other = first.clone();
        change(&mut other);
        other.named().id == first.id
    };
    assert!(stays(&|h| h.image = false));
    assert!(stays(&|h| h.deflate_bits = 9));
    assert!(stays(&|h| h.files[0].allocated = 9));
    assert!(stays(&|h| h.files[0].device = 9));
    assert!(!stays(&|h| h.host.push('2')));
    assert!(!stays(&|h| h.unit = 512));
    assert!(!stays(&|h| h.parent = Some("0".repeat(32))));
    assert!(!stays(&|h| h.files[0].modified += 1));
    assert!(!stays(&|h| h.files[0].changed += 1));
    assert!(!stays(&|h| h.files[0].inode += 1));
    assert!(!stays(&|h| h.layers += 1));
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path(), true).unwrap();
    let mut writer = Writer::create(&folder, header("/vm/a.raw", 4096)).unwrap();
    let zero = Block {
        pos: 0,
        len: 4096,
        content: Content::Zero,
    };
    writer.add(&[zero]).unwrap();
    let during = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(during, 1);
    assert_eq!(
        Folder::open(place.path(), true).unwrap().headers().count(),
        0
    );
    drop(writer);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn rows_that_are_not_what_the_header_says_are_refused() {
    let zero = |pos, len| Block {
        pos,
        len,
        content: Content::Zero,
    };
    let data = |pos, len| Block {
        pos,
        len,
        content: data(5),
    };
    let cases: [(&str, &[Block]); 8] = [
        ("a hole", &[data(0, 4096), data(8192, 1000)]),
        ("an end too early", &[zero(0, 8192)]),
        ("past the end", &[zero(0, 12288)]),
        (
            "in the block before",
            &[zero(0, 8192), data(4096, 4096), zero(8192, 1000)],
        ),
        ("between blocks", &[zero(0, 512), zero(1024, 8168)]),
        ("two blocks in one", &[data(0, 8192), zero(8192, 1000)]),
        ("nothing", &[]),
        (
            "longer after deflate",
            &[
                zero(0, 8192),
                Block {
                    pos: 8192,
                    len: 1000,
                    content: Content::Data {
                        print: Fingerprint::of(b""),
                        deflated: Some(1001),
                    },
                },
            ],
        ),
    ];
    for (what, rows) in cases {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), true).unwrap();
        let path = write(&mut folder, header("/vm/a.raw", 9192), rows, 10);
        let error = read(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}
