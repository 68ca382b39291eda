//! What the text shows, group by group and step by step.

use super::{Folder, MIB, desktops, noise, write};

#[test]
fn a_small_farm_fits_on_a_screen() {
    let folder = desktops();
    let text = folder.run("dedup-report .").code(0).out;
    // 25 MiB, of which 9 and 1 are data.
    assert!(
        text.starts_with("4 images show 25 MiB; 10 MiB is data, 4.5 MiB distinct: 55.0 % of the data are duplicates.\nStored now: "),
        "{text}"
    );
    assert!(
        text.ends_with("4 images, blocks of 4 KiB; 0 other files skipped, 0 images not readable\n")
    );
    assert!(text.lines().count() <= 25, "{text}");
    for (image, figures) in [
        (
            "./win/a.raw",
            ["8 MiB", "3 MiB", "3 MiB", "256 KiB", "2.8 MiB"],
        ),
        (
            "./lin/other.raw",
            ["1 MiB", "1 MiB", "1 MiB", "1 MiB", "0 bytes"],
        ),
    ] {
        let line = text.lines().find(|l| l.contains(image)).unwrap();
        let mut rest = line;
        for figure in figures {
            rest = rest
                .split_once(figure)
                .unwrap_or_else(|| panic!("{figure}: {line}"))
                .1;
        }
    }
}

#[test]
fn groups_count_as_if_they_were_alone() {
    let folder = desktops();
    let group = |by: &str| {
        let json = folder
            .run(&format!("dedup-report . --json --group-by {by}"))
            .code(0)
            .json();
        let groups = json["groups"].as_array().unwrap().clone();
        groups
            .into_iter()
            .map(|g| {
                let number = |name: &str| g[name].as_u64().unwrap();
                let name = g["name"].as_str().unwrap().to_owned();
                (
                    name,
                    number("images"),
                    number("data_bytes"),
                    number("unique_bytes"),
                )
            })
            .collect::<Vec<_>>()
    };
    let mib = MIB as u64;
    assert_eq!(
        group("folder"),
        [
            ("./lin".to_owned(), 2, 4 * mib, 4 * mib),
            ("./win".to_owned(), 2, 6 * mib, 13 * mib / 4)
        ]
    );
    assert_eq!(
        group("{group}.raw")
            .iter()
            .map(|g| g.0.as_str())
            .collect::<Vec<_>>(),
        ["a", "b", "c", "other"]
    );
    assert_eq!(
        group("{group}/*e*.raw"),
        [
            ("lin".to_owned(), 1, mib, mib),
            ("(other)".to_owned(), 3, 9 * mib, 7 * mib / 2)
        ]
    );
    folder
        .run("dedup-report . --group-by folder")
        .code(0)
        .prints(" ./win ");
    let json = folder.run("dedup-report . --group-by folder --json").json();
    assert_eq!(json["images"][0]["group"], "./lin");
}

#[test]
fn a_sweep_shows_what_each_block_size_finds() {
    let folder = Folder::new();
    // Pairs of the same 4 KiB: found with blocks of 4 KiB, and with none that is larger.
    let one = noise(1, 4096);
    let mut disk: Vec<u8> = (0..512)
        .flat_map(|n| [one.clone(), noise(n + 2, 4096)].concat())
        .collect();
    disk.resize(8 * MIB, 0);
    folder.write("a.raw", &disk);
    let json = folder
        .run("dedup-report a.raw --sweep --cdc=4K --json")
        .code(0)
        .json();
    let sweep = json["sweep"].as_array().unwrap();
    let sizes: Vec<_> = sweep
        .iter()
        .map(|s| s["block_size"].as_u64().unwrap() >> 10)
        .collect();
    assert_eq!(sizes, [4, 8, 16, 32, 64, 128, 1024, 4096]);
    assert_eq!(sweep[0]["unique_bytes"], 513 * 4096);
    assert_eq!(sweep[0]["blocks"], 513);
    for larger in &sweep[1..] {
        assert_eq!(larger["data_bytes"], 4 * MIB, "{larger}");
        assert_eq!(larger["unique_bytes"], 4 * MIB, "{larger}");
    }
    assert_eq!(json["chunks"]["data_bytes"], 4 * MIB);
    folder
        .run("dedup-report a.raw --sweep --cdc")
        .code(0)
        .prints(" 128 KiB ")
        .prints(" chunks, ~64 KiB ");
}

/// An MBR of one partition from sector `start` to the end of `disk`.
fn partitioned(disk: &mut [u8], start: u32) {
    let sectors = u32::try_from(disk.len() / 512).unwrap() - start;
    disk[446..462].copy_from_slice(
        &[
            &[0, 1, 1, 0, 7, 1, 1, 0][..],
            &start.to_le_bytes(),
            &sectors.to_le_bytes(),
        ]
        .concat(),
    );
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn disks_cut_at_other_places_are_found_and_counted_anew() {
    let folder = Folder::new();
    let files = noise(1, 2 * MIB);
    for (name, start) in [("old.raw", 63), ("new.raw", 2048)] {
        let mut disk = vec![0; 4 * MIB];
        disk[start * 512..][..files.len()].copy_from_slice(&files);
        partitioned(&mut disk, u32::try_from(start).unwrap());
        write(&folder, name, &disk);
    }
    let json = folder
        .run("dedup-report . --alignment --json")
        .code(0)
        .json();
    let misaligned = json["misaligned"].as_array().unwrap();
    assert_eq!(misaligned.len(), 1, "{json:#}");
    assert_eq!(misaligned[0]["path"], "./old.raw");
    assert_eq!(misaligned[0]["start"], 63 * 512);
    assert_eq!(misaligned[0]["off_by"], 63 * 512 % 4096);
    assert_eq!(json["total"]["duplicate_bytes"], 0);
    assert_eq!(json["alignment"]["images"], 1);
    // The same 2 MiB in both; their first sectors differ.
    let unique = json["alignment"]["unique_bytes"].as_u64().unwrap();
    assert!(
        (2 * MIB as u64..2 * MIB as u64 + 3 * 4096).contains(&unique),
        "{unique}"
    );
    folder
        .run("dedup-report . --alignment")
        .code(0)
        .prints("1 partition not at a multiple of 4 KiB:\n  ./old.raw at 32256, off by 3584\n")
        .prints("Cut from the start of the largest partition (1 image anew): 2 MiB distinct");
    let json = folder
        .run("dedup-report new.raw --alignment --json")
        .code(0)
        .json();
    assert_eq!(json["alignment"]["images"], 0);
    assert_eq!(
        json["alignment"]["unique_bytes"],
        json["total"]["unique_bytes"]
    );
}

#[test]
fn incompressible_data_is_not_said_to_shrink() {
    let folder = Folder::new();
    folder.write("noise.raw", &noise(1, 4 * MIB));
    let text: Vec<u8> = (0..u32::try_from(4 * MIB / 8).unwrap())
        .flat_map(|n| format!("{n:08}").into_bytes())
        .collect();
    folder.write("text.raw", &text);
    let ratio = |image: &str| {
        let json = folder
            .run(&format!("dedup-report {image} --json"))
            .code(0)
            .json();
        let ratio = json["compression"]["ratio"].as_f64().unwrap();
        let error = json["compression"]["error"].as_f64().unwrap();
        let unique = json["total"]["unique_bytes"].as_f64().unwrap();
        let compressed = json["total"]["compressed_bytes"].as_f64().unwrap();
        assert!((compressed - unique * ratio).abs() <= 1.0);
        (ratio, error)
    };
    assert!(ratio("noise.raw").0 > 0.99);
    let (text, error) = ratio("text.raw");
    assert!(text < 0.5 && error < 0.05, "{text} +- {error}");
}
