//! What text and CSV show of a report, and what they leave out.

use super::{MIB, report, text};
use crate::verbs::dedup_report::{csv, report::Cluster};
use vdisk_core::ops::dedup::{ChunkCounts, Refs, SizeCounts};

#[test]
fn of_many_images_the_table_has_those_with_most_of_their_own() {
    let names: Vec<String> = (0..41).map(|n| format!("image-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (farm, mut outcome) = super::farm(&names);
    for (number, image) in outcome.images.iter_mut().flatten().enumerate() {
        image.exclusive = (number as u64 % 30) * 4096;
    }
    let text = text(&report(&farm, &outcome, None));
    let table = text.split(" partitions not").next().unwrap();
    let shown: Vec<_> = names
        .iter()
        .filter(|name| table.contains(**name))
        .copied()
        .collect();
    assert_eq!(shown, names[10..30]);
    assert!(text.contains("The 20 of 41 images"), "{text}");
}

#[test]
fn a_page_of_text_has_all_that_was_asked_for() {
    let (farm, mut outcome) = super::farm(&["a", "b"]);
    outcome.sizes = vec![SizeCounts {
        block: 65536,
        counts: outcome.total,
        blocks: 1000,
    }];
    outcome.chunks = Some(ChunkCounts {
        chunks: 100,
        data: 100 * MIB,
        unique: 25 * MIB,
    });
    outcome.refs = vec![Refs {
        from: 4,
        blocks: 10,
        unique: 40_960,
        data: 200_000,
    }];
    let mut report = report(&farm, &outcome, None);
    assert_eq!(report.sweep[0].blocks, 1000);
    assert_eq!((report.references[0].from, report.references[0].to), (4, 7));
    report.clusters = vec![Cluster {
        base: "gold.vmdk".to_owned(),
        members: (0..7).map(|n| n.to_string()).collect(),
        shared_percent: 92.04,
        frees_bytes: 310 << 30,
        commands: (0..7).map(|n| format!("vdisk split {n}")).collect(),
    }];
    let text = text(&report);
    for part in [
        "7 images share on average 92.0 % of their data with gold.vmdk at the same places. \
         Thin children of it would free about 310 GiB, once the originals are deleted:\n  vdisk split 0\n",
        "  vdisk split 4\n  and 2 more (see --json)\n",
        " 64 KiB ",
        "chunks, ~64 KiB",
        "75.0 %",
        "2 partitions not at a multiple of 4 KiB:\n  a at 32256, off by 3584\n",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
}

#[test]
fn csv_has_a_row_for_each_image_and_quotes_names() {
    let (farm, outcome) = super::farm(&["a, \"b\".vmdk", "c"]);
    let bytes = csv::table(&report(&farm, &outcome, None)).unwrap();
    let rows = String::from_utf8(bytes).unwrap();
    let lines: Vec<_> = rows.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("path,format,layers,group,total_bytes,"));
    assert!(lines[1].starts_with("\"a, \"\"b\"\".vmdk\",vmdk,1,,104857600,20971520,"));
    let columns = lines[0].split(',').count();
    assert_eq!(lines[2].split(',').count(), columns);
    // A farm without images has its columns too.
    let (farm, outcome) = super::farm(&[]);
    let empty = csv::table(&report(&farm, &outcome, None)).unwrap();
    assert_eq!(empty, format!("{}\n", lines[0]).into_bytes());
}
