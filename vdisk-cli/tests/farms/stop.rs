//! A run that ends in the middle keeps what it has, says no figure, and the next one reads the rest.

use crate::{
    builder::Farm, compare::assert_same, contents::Contents, paused::Paused, truth::truth,
};
use std::fs;

const MIB: u64 = 1 << 20;
/// Of an image.
const SIZE: u64 = 24 * MIB;
const IMAGES: u64 = 8;

fn farm(seed: u64) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(seed);
    let (all, half) = (SIZE as usize, SIZE as usize / 2);
    let first = contents.noise(all);
    for number in 0..IMAGES {
        let mut disk = contents.noise(all);
        disk[..half].copy_from_slice(&first[..half]);
        farm.full(&format!("f/{number}.raw"), "", disk);
    }
    Some(farm)
}

#[test]
fn what_was_read_is_not_read_again() {
    let Some(farm) = farm(31) else { return };
    let names = farm.listed();
    let expected = &truth(&farm, &names, &[4096])[0];
    let shown = format!("dedup-report {} --json", names.join(" "));
    for (signal, code) in [("-INT", Some(130)), ("-TERM", Some(130)), ("-KILL", None)] {
        let cache = format!("kept{signal}");
        let args = format!("{shown} --cache {cache}");
        let paused = Paused::start(
            &farm,
            &format!("{args} --threads 1"),
            (4 * SIZE, 7 * SIZE),
            || fs::remove_dir_all(farm.folder.path(&cache)).unwrap(),
        );
        let ran = paused.signal(signal);
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (code, ""),
            "{signal}: {}",
            ran.err
        );
        let files = farm.folder.read_dir(&cache);
        let whole = files.iter().filter(|f| f.ends_with(".parquet")).count() as u64;
        assert!((3..7).contains(&whole), "{files:?}");
        let others = files.iter().filter(|f| !f.ends_with(".parquet"));
        if signal != "-KILL" {
            assert_eq!(others.count(), 0, "{files:?}");
        } else {
            // What was being written has a name of its own, and goes once it is old.
            let begun: Vec<_> = others.collect();
            assert!(begun.iter().all(|f| f.starts_with(".vdisk-")), "{begun:?}");
            for file in begun {
                let touch = format!("touch -d '1 day ago' {cache}/{file}");
                farm.folder.shell(&touch).code(0);
            }
        }
        // Each file is whole: a report from them alone is about as many images, and right.
        let (ran, taken) = farm.measured(&format!("dedup-report --json --from {cache}"));
        let report = ran.code(0).json();
        assert_eq!(report["images"].as_array().unwrap().len() as u64, whole);
        assert_eq!(report["total"]["data_bytes"], whole * SIZE);
        assert_eq!(report["total"]["unique_bytes"], (whole + 1) * SIZE / 2);
        assert!(taken.read < 8 * MIB, "{taken:?}");

        let (ran, taken) = farm.measured(&args);
        assert_same(signal, &ran.code(0).json(), expected);
        let rest = (IMAGES - whole) * SIZE;
        assert!((rest..rest + 8 * MIB).contains(&taken.read), "{taken:?}");
        let (ran, taken) = farm.measured(&args);
        assert_same(signal, &ran.code(0).json(), expected);
        assert!(taken.read < 8 * MIB, "{taken:?}");
        let files = farm.folder.read_dir(&cache);
        assert_eq!(files.len() as u64, IMAGES, "{files:?}");
    }
}
