//! The size that is foretold is that of the image that is written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use vdisk_core::{
    Disk, Extent, FORMATS, Format, Ids, Job, Kind, Result, Subformat, disk,
    format::{self, Spec},
    ops::{convert, measure},
    target::Counting,
    testing,
};

const UNIT: u64 = 64 << 10;

/// A disk as guests fill them: of each 64 KiB, by their number, text, packed data, stored zeros or
/// nothing. Areas of the disk differ.
struct Guest {
    size: u64,
}

fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

impl Guest {
    /// Per cent of each sector that is noise; `None` for a unit that reads as zero.
    fn noise(unit: u64) -> Option<u64> {
        let dice = mixed(unit) % 100;
        match unit / 500 % 4 {
            0 => Some(dice % 40),         // programs
            1 if dice < 50 => None,       // deleted files, wiped
            1 => Some(30),                // and what is left of them
            2 => Some(100),               // films
            _ => Some(dice * dice / 100), // documents
        }
    }
    /// A quarter of the disk was never written.
    fn hole(unit: u64) -> bool {
        unit / 100 % 4 == 3
    }
}

impl Disk for Guest {
    fn size(&self) -> u64 {
        self.size
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn extent_at(&self, pos: u64) -> Result<Extent> {
        disk::check_range(self, pos, 1)?;
        let kind = match Self::hole(pos / UNIT) {
            true => Kind::Zero,
            false => Kind::Data,
        };
        let end = (pos / UNIT + 1) * UNIT;
        Ok(Extent::empty(pos..end.min(self.size), kind))
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        disk::check_range(self, pos, buf.len())?;
        for (at, bytes) in (pos / 512..).zip(buf.chunks_mut(512)) {
            bytes.fill(0);
            let unit = at * 512 / UNIT;
            if let (false, Some(noise)) = (Self::hole(unit), Self::noise(unit)) {
                let len = 512 * noise as usize / 100;
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = match i < len {
                        true => mixed(at * 512 + i as u64) as u8,
                        false => b"the quick brown fox "[i % 20],
                    };
                }
            }
        }
        Ok(())
    }
}

fn alone() -> impl Iterator<Item = (&'static dyn Format, &'static Subformat)> {
    let all = FORMATS
        .iter()
        .flat_map(|f| f.subformats().iter().map(move |s| (*f, s)));
    all.filter(|(_, s)| !["differencing", "vmfsSparse"].contains(&s.name))
}

fn spec(size: u64, subformat: &'static Subformat) -> Spec<'static> {
    Spec {
        size,
        subformat,
        name: "image",
        ids: Ids::random(0),
        level: 1,
        parent: None,
        options: testing::small_extents(),
    }
}

#[test]
fn the_size_of_a_small_disk_is_exact_in_every_format() {
    // An odd end, stored zeros, holes, several extents.
    let disk = testing::disk(&[
        (70_000 / 512 * 512, Some(7)),
        (1 << 20, None),
        (1_200_128, Some(3)),
        (2_000_384, Some(0)),
        (4_500_480, None),
        (4_505_600, Some(9)),
        (5_243_392, None),
    ]);
    let mut seen = 0;
    for (format, subformat) in alone() {
        let mut counter = Counting::new("image");
        let target = &mut counter.clone();
        let writer = format
            .create(target, &spec(disk.size(), subformat))
            .unwrap();
        let error = measure::copy(&disk, writer, &Job::default()).unwrap();
        assert_eq!(error, None, "{}", subformat.name);
        let written = testing::files(format, subformat, &disk, None, 1).unwrap();
        let mut foretold = counter.files();
        foretold.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<&str> = foretold.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, written.names(), "{}", subformat.name);
        for file in &foretold {
            let real = written.get(&file.name);
            assert_eq!(
                file.size,
                real.len() as u64,
                "{} {}",
                subformat.name,
                file.name
            );
            // What is stored is at least every page with something in it.
            let least = real
                .chunks(4096)
                .filter(|p| !vdisk_core::is_zero(p))
                .count() as u64;
            let stored = file.stored.unwrap();
            assert!(stored >= least * 4096, "{} {}", subformat.name, file.name);
            assert!(
                stored <= file.size.next_multiple_of(4096),
                "{}",
                subformat.name
            );
        }
        counter = Counting::new("image");
        let target = &mut counter.clone();
        let writer = format
            .create(target, &spec(disk.size(), subformat))
            .unwrap();
        if measure::fill(disk.size(), writer, &Job::default()).unwrap() {
            let full = testing::disk(&[(disk.size(), Some(1))]);
            let written = testing::files(format, subformat, &full, None, 1).unwrap();
            let real: usize = written.names().iter().map(|n| written.get(n).len()).sum();
            let foretold: u64 = counter.files().iter().map(|f| f.size).sum();
            assert_eq!(foretold, real as u64, "{} full", subformat.name);
        }
        seen += 1;
    }
    assert!(seen > 8);
}

#[test]
fn an_estimate_lies_within_its_error() {
    for (format, name) in [("vmdk", "streamOptimized"), ("ova", "ova")] {
        let format = format::named(format).unwrap();
        let subformat = format::subformat(format, Some(name)).unwrap();
        for units in [1500, 3000, 6007] {
            let disk = Guest { size: units * UNIT };
            let job = Job::default();
            let size = |copy: &dyn Fn(Box<dyn vdisk_core::ImageWriter + '_>) -> Option<u64>| {
                let counter = Counting::new("image");
                let target = &mut counter.clone();
                let writer = format
                    .create(target, &spec(disk.size(), subformat))
                    .unwrap();
                (copy(writer), counter.files()[0].size)
            };
            let (error, foretold) = size(&|writer| measure::copy(&disk, writer, &job).unwrap());
            let (_, real) = size(&|writer| {
                convert::copy(&disk, writer, &job).unwrap();
                None
            });
            let error = error.expect("a sample");
            assert!(
                foretold.abs_diff(real) <= error,
                "{units}: {foretold} is not {real} within {error}"
            );
            assert!(error < real / 4, "{units}: {error} of {real} says little");
        }
    }
}

#[test]
fn a_disk_of_few_units_is_compressed_whole() {
    let vmdk = format::named("vmdk").unwrap();
    let subformat = format::subformat(vmdk, Some("streamOptimized")).unwrap();
    let disk = Guest { size: 1000 * UNIT };
    let mut counter = Counting::new("image");
    let writer = vmdk
        .create(&mut counter, &spec(disk.size(), subformat))
        .unwrap();
    assert_eq!(measure::copy(&disk, writer, &Job::default()).unwrap(), None);
}
