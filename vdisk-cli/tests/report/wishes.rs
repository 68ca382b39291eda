//! Flags that contradict each other or say nothing are refused before anything is read.

use super::{Folder, desktops, noise};

#[test]
fn what_makes_no_sense_is_refused_before_images_are_read() {
    let folder = Folder::new();
    // Reading this one would warn.
    folder.write("broken.vmdk", b"KDMV");
    folder.write("there.csv", b"precious");
    for (args, why) in [
        ("", "required"),
        ("broken.vmdk --from .", "cannot be used with"),
        ("--from nowhere", "there is no such folder"),
        ("--from . --cache c", "cannot be used with"),
        ("--from . --cdc", "cannot be used with"),
        ("--from . --alignment", "cannot be used with"),
        ("broken.vmdk --block-size 1000", "is not a multiple of 512"),
        ("broken.vmdk --block-size 32M", "is not a multiple of 512"),
        (
            "broken.vmdk --memory 7M",
            "--memory: 7 MiB is too little: at least 8 MiB",
        ),
        ("broken.vmdk --temp nowhere", "there is no such folder"),
        ("broken.vmdk --group-by desk-*", "one {group}"),
        ("broken.vmdk --sweep --block-size 512", "--sweep: "),
        ("broken.vmdk --sweep --block-size 20K", "do not nest"),
        ("broken.vmdk --cdc=48K", "power of two"),
        ("broken.vmdk --guarantee 101", "from 0 to 100"),
        ("broken.vmdk --guarantee half", "from 0 to 100"),
        ("broken.vmdk --sample 64", "is not 1/N"),
        ("broken.vmdk --sample 1/60", "is not 1/N"),
        (
            "broken.vmdk --csv there.csv",
            "there.csv: output: exists already",
        ),
        ("broken.vmdk --csv no/x.csv", "folder that does not exist"),
        ("broken.vmdk --csv -", "standard output has the report"),
        ("broken.vmdk --html x.vmdk", "has the ending of an image"),
        ("broken.vmdk --html x --csv x", "both CSV and a page"),
        (
            "broken.vmdk --csv broken.vmdk --force",
            "has the ending of an image",
        ),
    ] {
        let run = folder
            .run(&format!("dedup-report {args}"))
            .code(2)
            .says(why);
        assert!(!run.err.contains("left out"), "{args}: {}", run.err);
        assert_eq!(run.out, "", "{args}");
    }
    assert_eq!(folder.names(), ["broken.vmdk", "there.csv"]);
}

/// The value of `--cdc` follows an equals sign, so that it does not take a path for one.
#[test]
fn a_path_after_cdc_is_a_path() {
    let folder = desktops();
    for cdc in ["--cdc win", "win --cdc=32K"] {
        let json = folder
            .run(&format!("dedup-report {cdc} --json"))
            .code(0)
            .json();
        assert_eq!(json["images"].as_array().unwrap().len(), 2, "{cdc}");
        let average = if cdc.ends_with("32K") { 32768 } else { 65536 };
        assert_eq!(json["chunks"]["average_size"], average);
    }
}

#[test]
fn what_was_meant_is_said() {
    let folder = desktops();
    folder
        .run("dedup-report --cdc 32K win")
        .code(2)
        .says("there is no file '32K'; a size is given as --cdc=32K");
    folder.write("32K", &[0; 4096]);
    folder
        .run("dedup-report --cdc 32K win --input-format raw")
        .code(0);
    let warning = "no image has a name that fits the pattern";
    folder
        .run("dedup-report win --group-by x-{group}.raw")
        .code(0)
        .says(warning);
    for args in [
        "win --group-by a{group}w",
        "win --group-by {group}.raw",
        "win --group-by folder",
    ] {
        let run = folder.run(&format!("dedup-report {args}")).code(0);
        assert!(!run.err.contains(warning), "{args}: {}", run.err);
    }
}

/// Whatever the blocks, one in 65,536 of them is not here.
#[test]
fn a_sample_without_a_block_meets_nothing() {
    let folder = Folder::new();
    folder.write("a.raw", &[7; 8192]);
    let args = "dedup-report a.raw --sample 1/65536 --guarantee 1";
    folder
        .run(args)
        .code(3)
        .prints("Nothing is known of duplicates, as the sample has no block: take a larger one.");
    let json = folder.run(&format!("{args} --json")).code(3).json();
    assert_eq!(json["sample"]["distinct_bytes"], 0);
    assert_eq!(json["total"]["unique_bytes"], 8192);
    assert_eq!(json["guarantee"]["met"], false);
}

#[test]
fn a_guarantee_decides_how_the_run_ends() {
    let folder = desktops();
    // 9 MiB and 1 of data; the same 2.75 MiB in three disks, 0.25 in each, and 1.
    let saving = 100.0 * (10.0 - 4.5) / 10.0;
    for (wanted, code, met) in [("50", 0, true), ("55", 0, true), ("55.1%", 3, false)] {
        let args = format!("dedup-report . --guarantee {wanted} --json");
        let json = folder.run(&args).code(code).json();
        assert_eq!(json["guarantee"]["met"], met, "{wanted}");
        assert_eq!(json["guarantee"]["saving_percent"], saving);
    }
    folder
        .run("dedup-report . --guarantee 55.1")
        .code(3)
        .prints("The guarantee of 55.1 % is not met: the saving is 55.00 %.");
    // What could not be read is not hidden by the others.
    folder.write("broken.vmdk", &[b'K'; 3]);
    let json = folder
        .run("dedup-report . --guarantee 50 --json")
        .code(1)
        .json();
    assert_eq!(json["complete"], false);
    assert_eq!(json["guarantee"]["met"], true);
    folder.run("dedup-report . --guarantee 60").code(3);
    folder.write("empty.raw", b"");
    folder.run("dedup-report empty.raw --guarantee 1").code(3);
    folder.run("dedup-report empty.raw --guarantee 0").code(0);
}

/// A sample knows less: what it is sure of must reach the guarantee.
#[test]
fn a_sample_meets_only_what_it_is_sure_of() {
    let folder = Folder::new();
    let half = noise(1, 4 << 20);
    folder.write("a.raw", &[&half[..], &half[..]].concat());
    let run = |wanted: &str| {
        let args = format!("dedup-report a.raw --sample 1/4 --block-size 512 --guarantee {wanted}");
        folder.run(&format!("{args} --json"))
    };
    let json = run("10").code(0).json();
    assert_eq!(json["sample"]["one_in"], 4);
    assert_eq!(json["total"]["data_bytes"], 8 << 20);
    let error = json["sample"]["unique_error_bytes"].as_u64().unwrap();
    assert!(error > 0);
    let unique = json["total"]["unique_bytes"].as_u64().unwrap();
    assert!(unique.abs_diff(4 << 20) < 2 * error, "{unique} +- {error}");
    let sure = json["guarantee"]["saving_percent"].as_f64().unwrap();
    let saving = json["total"]["saving_percent"].as_f64().unwrap();
    assert!(sure < saving, "{sure} {saving}");
    run(&((sure + saving) / 2.0).to_string()).code(3);
}
