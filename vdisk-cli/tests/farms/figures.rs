//! The figures beside the counts: other sizes, groups, other cuts, compression, and tables for others.

use crate::{
    builder::Farm,
    compare::{array, assert_same, figure, text},
    contents::Contents,
    mixed::mixed,
    truth::{deflated, truth, truth_shifted},
};
use serde_json::Value;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn report(farm: &Farm, names: &[&str], flags: &str) -> Value {
    let args = format!("dedup-report {} --json {flags}", names.join(" "));
    farm.folder.run(&args).code(0).json()
}

fn percent(json: &Value, field: &str) -> f64 {
    json[field].as_f64().unwrap()
}

#[test]
fn each_size_of_a_sweep_is_counted_exactly() {
    let Some(farm) = mixed(51) else { return };
    let names = farm.listed();
    let sizes = [4, 8, 16, 32, 64, 128, 1024, 4096].map(|k| k * KIB);
    let expected = truth(&farm, &names, &sizes);
    for (flags, main) in [
        ("--sweep", 0),
        ("--sweep --memory 8M --threads 1", 0),
        ("--sweep --block-size 64K --memory 16M --threads 7", 4),
    ] {
        let report = report(&farm, &names, flags);
        assert_same(flags, &report, &expected[main]);
        let sweep = array(&report, "sweep");
        let found: Vec<u64> = sweep.iter().map(|s| figure(s, "block_size")).collect();
        assert_eq!(found, sizes, "{flags}");
        for (row, truth) in sweep.iter().zip(&expected) {
            for field in [
                "zero_bytes",
                "data_bytes",
                "unique_bytes",
                "duplicate_bytes",
            ] {
                let wanted = figure(&truth["total"], field);
                assert_eq!(figure(row, field), wanted, "{flags}: {row}");
            }
            let blocks: u64 = array(truth, "references")
                .iter()
                .map(|r| figure(r, "blocks"))
                .sum();
            assert_eq!(figure(row, "blocks"), blocks, "{flags}: {row}");
        }
    }
}

#[test]
fn each_folder_is_counted_on_its_own() {
    let Some(farm) = mixed(52) else { return };
    let names = farm.listed();
    for flags in ["--group-by folder", "--group-by folder --memory 8M"] {
        let report = report(&farm, &names, flags);
        let groups = array(&report, "groups");
        assert_eq!(groups.len(), 5, "{groups:?}");
        for group in groups {
            let folder = format!("{}/", text(group, "name"));
            let members: Vec<&str> = names
                .iter()
                .filter(|n| n.starts_with(&folder))
                .copied()
                .collect();
            let expected = &truth(&farm, &members, &[4 * KIB])[0]["total"];
            assert_eq!(figure(group, "images"), members.len() as u64);
            for field in [
                "total_bytes",
                "zero_bytes",
                "data_bytes",
                "unique_bytes",
                "duplicate_bytes",
            ] {
                assert_eq!(figure(group, field), figure(expected, field), "{group}");
            }
        }
    }
}

#[test]
fn ratios_follow_from_the_figures() {
    let Some(farm) = mixed(53) else { return };
    let report = report(&farm, &farm.listed(), "");
    let rows = array(&report, "images").iter().chain([&report["total"]]);
    for row in rows {
        let by = |a: &str, b: &str| figure(row, a) as f64 / figure(row, b) as f64;
        let found = |field: &str| percent(&row["ratios"], field);
        if figure(row, "data_bytes") == 0 {
            continue;
        }
        for (field, wanted) in [
            ("thin", by("total_bytes", "allocated_bytes")),
            ("zero", by("total_bytes", "data_bytes")),
            ("dedup", by("data_bytes", "unique_bytes")),
        ] {
            let found = found(field);
            assert!((found / wanted - 1.0).abs() < 0.01, "{field} of {row}");
        }
        let saving = 100.0 * by("duplicate_bytes", "data_bytes");
        assert!(
            (percent(row, "saving_percent") - saving).abs() < 0.1,
            "{row}"
        );
    }
}

/// A disk with a table of partitions (MBR) and one partition from `start` on that holds `data`.
fn partitioned(start: u64, data: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; start as usize];
    disk.extend(data);
    disk[446 + 4] = 0x83;
    let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
    disk[446 + 8..446 + 12].copy_from_slice(&sectors(start));
    disk[446 + 12..446 + 16].copy_from_slice(&sectors(data.len() as u64));
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn the_saving_at_the_starts_of_partitions_is_exact() {
    let Some(mut farm) = Farm::new() else { return };
    let mut contents = Contents::new(54);
    let system = contents.disk(3 * MIB as usize);
    let mut later = system.clone();
    later[..512 * KIB as usize].copy_from_slice(&contents.noise(512 * KIB as usize));
    // As before 2006, as today, and as some installers have it.
    for (name, sector, data) in [
        ("f/old.raw", 63, &system),
        ("f/new.raw", 2048, &later),
        ("f/odd.raw", 77, &later),
    ] {
        farm.full(name, "", partitioned(sector * 512, data));
    }
    farm.full("f/plain.vmdk", "subformat=monolithicSparse", system);
    let names = farm.listed();
    for block in [4 * KIB, 64 * KIB] {
        let pads: Vec<(&str, u64)> = [63_u64, 2048, 77]
            .iter()
            .zip(&names)
            .map(|(sector, name)| (*name, (block - sector * 512 % block) % block))
            .collect();
        let expected = &truth_shifted(&farm, &names, &[block], &pads)[0];
        let report = report(&farm, &names, &format!("--alignment --block-size {block}"));
        assert_same("as it is", &report, &truth(&farm, &names, &[block])[0]);
        let best = &report["alignment"];
        let wanted = figure(&expected["total"], "unique_bytes");
        assert_eq!(figure(best, "unique_bytes"), wanted, "{best}");
        let off: Vec<(&str, u64)> = array(&report, "misaligned")
            .iter()
            .map(|m| (text(m, "path"), figure(m, "start")))
            .collect();
        assert_eq!(off, [("f/old.raw", 63 * 512), ("f/odd.raw", 77 * 512)]);
    }
}

#[test]
fn compression_is_within_its_error() {
    let Some(farm) = mixed(55) else { return };
    let names = farm.listed();
    let bytes = deflated(&farm, &names, 4 * KIB);
    let report = report(&farm, &names, "");
    let unique = figure(&report["total"], "unique_bytes") as f64;
    let (found, error) = (
        percent(&report["compression"], "ratio"),
        percent(&report["compression"], "error"),
    );
    let wanted = bytes as f64 / unique;
    assert!(error < 0.2, "{}", report["compression"]);
    // Half as much again: the interval holds in 95 of 100 farms, and this is one.
    assert!(
        (found - wanted).abs() <= 1.5 * error + 0.005,
        "{found} {wanted}"
    );
}

/// Chunks of equal disks are equal, wherever blocks start: moved by one sector, blocks are not.
#[test]
fn chunks_find_what_blocks_miss() {
    let Some(mut farm) = Farm::new() else { return };
    let mut contents = Contents::new(56);
    let disk = contents.noise(8 * MIB as usize);
    let mut moved = contents.noise(512);
    moved.extend(&disk[..disk.len() - 512]);
    farm.full("f/a.raw", "", disk);
    farm.full("f/b.qcow2", "", moved);
    let report = report(&farm, &farm.listed(), "--cdc");
    assert_eq!(figure(&report["total"], "unique_bytes"), 16 * MIB);
    let chunks = &report["chunks"];
    assert_eq!(figure(chunks, "data_bytes"), 16 * MIB);
    let unique = figure(chunks, "unique_bytes");
    assert!((8 * MIB..9 * MIB).contains(&unique), "{chunks}");
}

/// The table for spreadsheets says what the report says.
#[test]
fn a_row_for_each_image_as_csv() {
    let Some(farm) = mixed(57) else { return };
    let names = farm.listed();
    let report = report(&farm, &names, "--csv images.csv");
    let table = String::from_utf8(farm.folder.read("images.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    for (image, row) in array(&report, "images").iter().zip(&rows[1..]) {
        for (column, cell) in rows[0].iter().zip(row) {
            if let Some(number) = image[*column].as_u64() {
                assert_eq!(*cell, number.to_string(), "{column} of {}", row[0]);
            }
        }
        for column in ["distinct_bytes", "exclusive_bytes", "data_bytes"] {
            assert!(rows[0].contains(&column), "{:?}", rows[0]);
        }
    }
    assert!(rows.len() > names.len());
}
