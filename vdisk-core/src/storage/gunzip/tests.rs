//! Any read at any place, from all threads, is the same as of the unpacked bytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails"
)]

use super::{cursor::INPUT, *};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use miniz_oxide::inflate::core::TINFL_LZ_DICT_SIZE as WINDOW;
use std::io::Write;

/// Bytes that deflate shrinks a little, by a generator of its own (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..len)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            match i / 5000 % 3 {
                0 => 0,
                1 => (i / 7) as u8,
                _ => state.to_le_bytes()[1] & 0x1f,
            }
        })
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn open(packed: Vec<u8>, spacing: u64) -> Result<Gunzip> {
    let file = ImageFile::from_storage("packed.gz", packed).unwrap();
    Gunzip::open_spaced(&file, 1 << 40, spacing)
}

/// Positions and lengths in no order, around checkpoints and window borders.
fn reads(size: u64) -> Vec<(u64, usize)> {
    let mut found = Vec::new();
    let mut state = 7u64;
    for i in 0..300 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pos = (state >> 20) % size;
        let len = [1, 511, 4096, 40_000, 200_000][i % 5].min(size - pos);
        found.push((pos, len as usize));
    }
    for edge in (0..size).step_by(32 << 10) {
        found.push((edge.saturating_sub(1), 2.min((size - edge) as usize + 1)));
    }
    found
}

#[test]
fn reads_in_any_order_and_from_eight_threads() {
    let model = noise(3_000_001);
    // With the smallest spacing, checkpoints have to be thinned out.
    for spacing in [4096, 100_000, SPACING] {
        let gunzip = open(gzip(&model), spacing).unwrap();
        assert_eq!(gunzip.size().unwrap(), model.len() as u64);
        assert!(gunzip.checkpoints.len() <= CHECKPOINTS);
        std::thread::scope(|scope| {
            for turn in 0..8 {
                let (gunzip, model) = (&gunzip, &model);
                scope.spawn(move || {
                    let mut reads = reads(model.len() as u64);
                    let middle = turn * reads.len() / 8;
                    reads.rotate_left(middle);
                    for (pos, len) in reads {
                        let mut bytes = vec![0xEE; len];
                        gunzip.read_at(pos, &mut bytes).unwrap();
                        let pos = pos as usize;
                        assert!(bytes == model[pos..pos + len], "{len} bytes at {pos}");
                    }
                });
            }
        });
        assert!(gunzip.cursors.lock().unwrap().len() <= CURSORS);
        for (pos, len) in [(model.len() as u64, 1), (u64::MAX, 1), (0, model.len() + 1)] {
            assert!(gunzip.read_at(pos, &mut vec![0; len]).is_err());
        }
    }
}

#[test]
fn checkpoints_are_thinned_out_and_stay_small() {
    let model = vec![0; 20 << 20];
    let gunzip = open(gzip(&model), 4096).unwrap();
    let count = gunzip.checkpoints.len();
    assert!((CHECKPOINTS / 4..=CHECKPOINTS).contains(&count), "{count}");
    assert_eq!(gunzip.checkpoints[0].out, 0);
    let gaps = gunzip.checkpoints.windows(2).map(|w| w[1].out - w[0].out);
    assert!(gaps.max().unwrap() < 512 << 10, "no part is left without");
    // The promise of the module: some 23 MB in all.
    let one = size_of::<Cursor>() + WINDOW;
    assert!(
        one * CHECKPOINTS < 24 << 20,
        "a checkpoint takes {one} bytes"
    );
}

/// Counts what is read, to see how far a read goes back.
struct Counting(Vec<u8>, std::sync::atomic::AtomicU64);

impl Storage for Arc<Counting> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        self.1
            .fetch_add(buf.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.0.read_at(pos, buf)
    }
}

#[test]
fn reading_in_order_does_not_start_again() {
    let model = noise(8 << 20);
    let packed = Arc::new(Counting(gzip(&model), 0.into()));
    let size = packed.0.len() as u64;
    let file = ImageFile::from_storage("packed.gz", Arc::clone(&packed)).unwrap();
    let gunzip = Gunzip::open_spaced(&file, 1 << 40, 8 << 20).unwrap();
    let before = packed.1.load(std::sync::atomic::Ordering::Relaxed);
    let mut bytes = vec![0; 256 << 10];
    for pos in (0..model.len()).step_by(bytes.len()) {
        gunzip.read_at(pos as u64, &mut bytes).unwrap();
        assert!(bytes == model[pos..pos + bytes.len()]);
    }
    let read = packed.1.load(std::sync::atomic::Ordering::Relaxed) - before;
    // Each call may read a buffer ahead; from the start each time it would be sixteen times all.
    assert!(read < size + 33 * INPUT, "{read} bytes read of {size}");
}

#[test]
fn headers_and_members_of_every_kind() {
    let model = noise(150_000);
    let mut fancy = GzBuilder::new()
        .filename("disk.raw")
        .comment("a comment")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), Compression::best());
    fancy.write_all(&model[..70_000]).unwrap();
    let mut packed = fancy.finish().unwrap();
    packed.extend(gzip(b"")); // an empty member in between
    packed.extend(gzip(&model[70_000..]));
    let gunzip = open(packed, 10_000).unwrap();
    assert_eq!(gunzip.size().unwrap(), 150_000);
    for (pos, len) in reads(150_000) {
        let mut bytes = vec![0; len];
        gunzip.read_at(pos, &mut bytes).unwrap();
        assert!(bytes == model[pos as usize..][..len], "{len} at {pos}");
    }
    assert_eq!(open(gzip(b""), SPACING).unwrap().size().unwrap(), 0);
}

#[test]
fn damage_is_found_at_opening() {
    let good = gzip(&noise(100_000));
    let end = good.len();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let mut trailing = good.clone();
    trailing.extend([0; 16]);
    let mut other_method = good.clone();
    other_method[2] = 7;
    for (what, bytes, sentence) in [
        ("nothing", Vec::new(), "has no gzip signature"),
        ("no gzip", vec![7; 100], "has no gzip signature"),
        ("a method", other_method, "not of deflate data"),
        (
            "half a header",
            good[..8].to_vec(),
            "header that is cut short",
        ),
        ("half the data", good[..end / 2].to_vec(), "cut short"),
        ("half a trailer", good[..end - 4].to_vec(), "cut short"),
        ("no trailer", good[..end - 8].to_vec(), "cut short"),
        ("CRC", changed(end - 8), "CRC-32"),
        ("length", changed(end - 1), "recorded length"),
        ("zeros behind", trailing, "followed by"),
    ] {
        let error = open(bytes, SPACING).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
        assert!(error.to_string().contains(sentence), "{what}: {error}");
    }
    // Wherever a byte of the data is wrong, something notices.
    for at in (12..end - 8).step_by(97) {
        assert!(open(changed(at), SPACING).is_err(), "byte {at}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let packed = gzip(&vec![0; 8 << 20]);
    let file = ImageFile::from_storage("bomb.gz", packed).unwrap();
    let error = Gunzip::open(&file, 1 << 20).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Limit);
}
