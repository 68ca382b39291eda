//! Any read of a written disk gives the bytes that were written, or is refused as out of range.
#![no_main]

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use vdisk_core::{Disk, ErrorKind, testing};
use vdisk_fuzz::Plan;

#[derive(Arbitrary, Debug)]
struct Requests {
    plan: Plan,
    /// Position and length; from the start, from the end, or anywhere at all.
    reads: Vec<(u8, u64, u16)>,
}

fuzz_target!(|requests: Requests| {
    let bytes = requests.plan.base();
    let base = requests.plan.base_layer(&bytes);
    if requests.plan.changes.is_empty() {
        check(&base, &bytes, &requests.reads);
    } else if let Some((chain, changed)) = requests.plan.child_chain(base, &bytes) {
        check(&chain, &changed, &requests.reads);
    }
});

fn check(disk: &dyn Disk, model: &[u8], reads: &[(u8, u64, u16)]) {
    let size = model.len() as u64;
    assert_eq!(disk.size(), size);
    for &(from, number, len) in reads.iter().take(100) {
        let pos = match from % 3 {
            0 => number % size,
            1 => size.saturating_sub(number % 70_000),
            _ => number,
        };
        let mut buffer = vec![0xEE; usize::from(len)];
        let read = disk.read_at(pos, &mut buffer);
        let inside = pos.checked_add(u64::from(len)).filter(|&end| end <= size);
        match inside.zip(usize::try_from(pos).ok()) {
            Some((end, start)) => {
                let end = usize::try_from(end).unwrap_or(usize::MAX);
                assert!(read.is_ok(), "{len} bytes at {pos}: {read:?}");
                assert!(buffer == model[start..end], "{len} bytes at {pos} differ");
            }
            None => assert_eq!(read.map_err(|e| e.kind()), Err(ErrorKind::OutOfRange)),
        }
    }
    // Slow, so not for every disk.
    if size <= 256 << 10
        && let Err(broken) = testing::conformance(disk)
    {
        panic!("{broken}");
    }
}
