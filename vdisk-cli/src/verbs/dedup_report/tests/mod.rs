//! Reports of hand-made counts: figures that follow from others, estimates, and what is left out.

mod views;

use super::{
    figures::Counted,
    groups::{GroupBy, Groups},
    report::FarmReport,
};
use crate::{
    exit::Exit,
    farm::{Farm, Image, Trouble},
    ui::Report,
};
use vdisk_core::ops::dedup::{Compression, Counts, ImageCounts, Node, Outcome, Sampled};

const MIB: u64 = 1 << 20;

/// Images of 100 MiB, half of it data of which 10 MiB are distinct and 4 MiB exclusive.
fn farm(names: &[&str]) -> (Farm, Outcome) {
    let images = names.iter().enumerate().map(|(node, name)| Image {
        name: (*name).to_owned(),
        path: name.into(),
        node,
        format: "vmdk".to_owned(),
        layers: 1,
        allocated: 20 * MIB,
        partitions: vec![MIB, 32_256],
        largest_partition: Some(MIB),
    });
    let node = Node {
        size: 100 * MIB,
        image: true,
        parent: None,
    };
    let many = names.len() as u64;
    let mut farm = Farm::default();
    farm.images = images.collect();
    farm.nodes = vec![node; names.len()];
    farm.files = (0..names.len())
        .map(|file| vec![(Some(file), 20 * MIB)])
        .collect();
    farm.unit = 4096;
    let image = ImageCounts {
        total: 100 * MIB,
        zero: 50 * MIB,
        data: 50 * MIB,
        distinct: 10 * MIB,
        internal_duplicate: 40 * MIB,
        exclusive: 4 * MIB,
        shared: 6 * MIB,
    };
    let unique = (6 + 4 * many) * MIB;
    let total = Counts {
        total: 100 * MIB * many,
        zero: 50 * MIB * many,
        data: 50 * MIB * many,
        unique: unique.min(50 * MIB * many),
        duplicate: (50 * MIB * many).saturating_sub(unique),
        once: 3 * MIB,
    };
    let outcome = Outcome {
        total,
        images: vec![Some(image); names.len()],
        groups: Vec::new(),
        sizes: Vec::new(),
        chunks: None,
        refs: Vec::new(),
        pairs: None,
        places: None,
        compression: None,
        sampled: Sampled {
            bits: 0,
            unique_error: 0,
        },
        spilled: 0,
    };
    (farm, outcome)
}

fn report(farm: &Farm, outcome: &Outcome, guarantee: Option<f64>) -> FarmReport {
    Counted {
        farm,
        outcome,
        groups: &Groups::default(),
        block_size: 4096,
        memory: 1 << 30,
        chunk: outcome.chunks.map(|_| 65536),
        sweep: !outcome.sizes.is_empty(),
        guarantee,
    }
    .report()
}

fn text(report: &FarmReport) -> String {
    let mut bytes = Vec::new();
    report.text(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Every number of a JSON value is one: `NaN` and infinity would be null.
fn ratios(report: &FarmReport) -> serde_json::Value {
    let json = serde_json::to_value(report).unwrap();
    for name in ["thin", "zero", "dedup", "total"] {
        assert!(json["total"]["ratios"][name].is_f64(), "{name}: {json:#}");
    }
    json["total"]["ratios"].clone()
}

#[test]
fn each_step_has_its_ratio_and_all_multiply_to_the_total() {
    let (farm, mut outcome) = farm(&["a", "b"]);
    outcome.compression = Some(Compression {
        units: 100,
        bytes: 400_000,
        deflated: 100_000,
        ratio: 0.25,
        error: 0.05,
    });
    let report = report(&farm, &outcome, None);
    let ratios = ratios(&report);
    // 200 MiB on 40, of which 100 are data, 14 of it distinct, 3.5 after deflate.
    assert_eq!(ratios["thin"], 5.0);
    assert_eq!(ratios["zero"], 2.0);
    assert_eq!(ratios["dedup"], 100.0 / 14.0);
    assert_eq!(ratios["compression"], 4.0);
    assert_eq!(ratios["total"], 200.0 / 3.5);
    assert_eq!(report.total.steps.compressed_bytes, Some(7 * MIB / 2));
    assert_eq!(report.total.steps.saving_percent, 86.0);
    let image = &report.images[0].steps;
    assert_eq!(image.unique_bytes, 10 * MIB);
    assert_eq!(image.duplicate_bytes, 40 * MIB);
    assert_eq!(image.compressed_bytes, Some(5 * MIB / 2));
    let text = text(&report);
    for part in [
        "2 images show 200 MiB; 100 MiB is data, 14 MiB distinct: 86.0 % of the data are duplicates.\n\
         Stored now: 40 MiB; each block once: 14 MiB, smaller by 65.0 %.\n",
        "Deflate would bring it to 3.5 MiB (+- 716.8 KiB, from 100 blocks).",
        "57.14x",
        "~3.5 MiB",
    ] {
        assert!(text.contains(part), "no '{part}' in {text}");
    }
}

#[test]
fn a_farm_of_nothing_divides_nothing_by_nothing() {
    let (farm, outcome) = farm(&[]);
    let empty = report(&farm, &outcome, None);
    assert_eq!(ratios(&empty)["total"], 1.0);
    assert_eq!(empty.total.steps.saving_percent, 0.0);
    assert!(text(&empty).starts_with("0 images, "));
    // Disks full of zeros.
    let (farm, mut outcome) = self::farm(&["a"]);
    let zero = ImageCounts {
        total: MIB,
        zero: MIB,
        ..ImageCounts::default()
    };
    outcome.images = vec![Some(zero)];
    outcome.total = Counts {
        total: MIB,
        zero: MIB,
        ..Counts::default()
    };
    let zeros = report(&farm, &outcome, Some(50.0));
    assert_eq!(ratios(&zeros)["dedup"], 1.0);
    assert_eq!(zeros.images[0].distinct_bytes, 0);
    assert_eq!(zeros.exit(), Exit::Refused);
}

#[test]
fn estimates_stay_within_what_is_known() {
    let (farm, mut outcome) = farm(&["a", "b"]);
    outcome.sampled = Sampled {
        bits: 6,
        unique_error: 20 * MIB,
    };
    outcome.total.unique = 300 * MIB;
    outcome.total.once = 300 * MIB;
    for image in outcome.images.iter_mut().flatten() {
        image.distinct = 70 * MIB;
        image.exclusive = 90 * MIB;
    }
    let much = report(&farm, &outcome, None);
    assert_eq!(much.total.steps.unique_bytes, 100 * MIB);
    assert_eq!(much.total.steps.duplicate_bytes, 0);
    assert_eq!(much.total.once_bytes, 100 * MIB);
    let image = &much.images[0];
    assert_eq!(
        (image.distinct_bytes, image.exclusive_bytes),
        (50 * MIB, 50 * MIB)
    );
    assert_eq!((image.internal_duplicate_bytes, image.shared_bytes), (0, 0));
    // One block was in the sample, and it is no block of the first image.
    outcome.total.unique = 64 * 4096;
    outcome.sampled.unique_error = 0;
    outcome.images[0].as_mut().unwrap().distinct = 0;
    let little = report(&farm, &outcome, Some(90.0));
    assert_eq!(little.sample.as_ref().unwrap().distinct_bytes, 4096);
    assert_eq!(little.total.steps.unique_bytes, 64 * 4096);
    assert_eq!(little.images[0].distinct_bytes, 64 * 4096);
    let error = little.sample.as_ref().unwrap().unique_error_bytes;
    assert_eq!(error, 4 * 64 * 4096);
    assert_eq!(
        little.guarantee.as_ref().unwrap().saving_percent,
        100.0 - 100.0 * (error + 64 * 4096) as f64 / (100.0 * MIB as f64)
    );
}

/// There is data all the same, and nobody knows how much of it is duplicates.
#[test]
fn a_sample_without_a_block_knows_nothing() {
    let (farm, mut outcome) = farm(&["a", "b"]);
    outcome.sampled = Sampled {
        bits: 3,
        unique_error: 0,
    };
    outcome.total.unique = 0;
    outcome.total.once = 0;
    for image in outcome.images.iter_mut().flatten() {
        image.distinct = 0;
        image.exclusive = 0;
    }
    for wanted in [0.0, 1.0, 90.0] {
        let nothing = report(&farm, &outcome, Some(wanted));
        let steps = &nothing.total.steps;
        let error = nothing.sample.as_ref().unwrap().unique_error_bytes;
        assert_eq!((steps.unique_bytes, error), (100 * MIB, 100 * MIB));
        assert_eq!((steps.saving_percent, steps.ratios.dedup), (0.0, 1.0));
        assert_eq!(nothing.exit(), Exit::Refused, "{wanted}");
        let said = text(&nothing);
        for part in ["the sample has no block: take a larger one", "is not met"] {
            assert!(said.contains(part), "no '{part}' in {said}");
        }
        assert!(!said.contains("duplicates.\n"), "{said}");
        let page = super::html::page(&nothing);
        assert!(page.contains("the sample has no block: take a larger one"));
    }
}

/// Two disks of one sector: less than a block, and exact all the same.
#[test]
fn exact_figures_are_shown_as_they_are() {
    let (farm, mut outcome) = farm(&["a", "b"]);
    let sector = ImageCounts {
        total: 512,
        data: 512,
        distinct: 512,
        shared: 512,
        ..ImageCounts::default()
    };
    outcome.images = vec![Some(sector); 2];
    outcome.total = Counts {
        total: 1024,
        data: 1024,
        unique: 512,
        duplicate: 512,
        ..Counts::default()
    };
    let report = report(&farm, &outcome, Some(50.0));
    assert_eq!(report.total.steps.unique_bytes, 512);
    assert_eq!(report.images[0].distinct_bytes, 512);
    assert_eq!(report.exit(), Exit::Done);
}

#[test]
fn a_guarantee_is_met_only_by_what_is_sure() {
    let (mut farm, mut outcome) = farm(&["a", "b"]);
    let exit = |farm: &Farm, outcome: &Outcome, wanted| {
        let report = report(farm, outcome, Some(wanted));
        let guarantee = report.guarantee.as_ref().unwrap();
        (guarantee.met, guarantee.saving_percent, report.exit())
    };
    assert_eq!(exit(&farm, &outcome, 86.0), (true, 86.0, Exit::Done));
    assert_eq!(exit(&farm, &outcome, 86.1), (false, 86.0, Exit::Refused));
    outcome.sampled = Sampled {
        bits: 4,
        unique_error: 10 * MIB,
    };
    assert_eq!(exit(&farm, &outcome, 76.0), (true, 76.0, Exit::Done));
    assert_eq!(exit(&farm, &outcome, 80.0), (false, 76.0, Exit::Refused));
    // What could not be read might have changed it.
    farm.errors.push(Trouble {
        path: "c".to_owned(),
        error: "c: cannot be read".to_owned(),
    });
    assert_eq!(exit(&farm, &outcome, 76.0), (true, 76.0, Exit::Differs));
    assert_eq!(exit(&farm, &outcome, 80.0), (false, 76.0, Exit::Refused));
    let said = text(&report(&farm, &outcome, Some(76.004)));
    assert!(
        said.contains("The guarantee of 76.004 % is not met: the saving is at least 76.00 %."),
        "{said}"
    );
    assert!(
        said.ends_with("1 image not readable\n  c: cannot be read\n"),
        "{said}"
    );
    let mut on_terminal = report(&farm, &outcome, None);
    on_terminal.errors_seen = true;
    assert!(text(&on_terminal).ends_with("1 image not readable (named above)\n"));
    assert!(
        said.contains("Not whole: 1 image could not be read"),
        "{said}"
    );
}

#[test]
fn images_that_failed_have_no_row() {
    let (farm, mut outcome) = farm(&["a", "b", "c"]);
    outcome.images[1] = None;
    let report = report(&farm, &outcome, None);
    let paths: Vec<_> = report.images.iter().map(|i| i.path.as_str()).collect();
    assert_eq!(paths, ["a", "c"]);
    assert!(report.misaligned.iter().all(|m| m.path != "b"));
    assert_eq!(report.misaligned[0].start, 32_256);
    assert_eq!(report.misaligned[0].off_by, 32_256 % 4096);
}

#[test]
fn groups_are_those_of_the_images_that_were_counted() {
    let names = ["eu/a", "us/b", "eu/c", "lost/d"];
    let (farm, mut outcome) = farm(&names);
    let groups = Groups::of(&farm, Some(&GroupBy::Folder));
    assert_eq!(groups.names, ["eu", "lost", "us"]);
    assert_eq!(groups.of_nodes, [0, 2, 0, 1]);
    outcome.images[3] = None;
    outcome.groups = vec![outcome.total, Counts::default(), outcome.total];
    let report = Counted {
        groups: &groups,
        farm: &farm,
        outcome: &outcome,
        block_size: 4096,
        memory: 0,
        chunk: None,
        sweep: false,
        guarantee: None,
    }
    .report();
    let rows: Vec<_> = report
        .groups
        .iter()
        .map(|g| (g.name.as_str(), g.images))
        .collect();
    assert_eq!(rows, [("eu", 2), ("us", 1)]);
    assert_eq!(report.groups[0].steps.allocated_bytes, 40 * MIB);
    assert_eq!(report.images[1].group.as_deref(), Some("us"));
    assert!(text(&report).contains("\n eu "));
}
