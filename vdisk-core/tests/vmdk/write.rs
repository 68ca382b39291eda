//! What is written, byte by byte, where no other program would notice that it is not as specified.

use vdisk_core::{
    Disk, ErrorKind, Identity, Ids, Job, Kind, Result,
    format::{Options, ParentSpec, Spec, named, subformat},
    ops::changes,
    testing::{self, Files},
};

fn spec<'a>(name: &'a str, kind: &str, size: u64, child: bool) -> Spec<'a> {
    Spec {
        size,
        subformat: subformat(named("vmdk").unwrap(), Some(kind)).unwrap(),
        name,
        ids: Ids::random(0),
        level: 6,
        parent: child.then(|| ParentSpec {
            relative: "below.vmdk".into(),
            absolute: None,
            identity: Some(Identity::Cid(7)),
            modified: 0,
        }),
        options: Options::default(),
    }
}

/// An empty image of that kind, or why there is none.
fn create(spec: &Spec<'_>) -> Result<Files> {
    let files = Files::default();
    let mut target = files.target("a.vmdk");
    named("vmdk")?.create(&mut target, spec)?.finish()?;
    Ok(files)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn a_redo_log_is_laid_out_as_specified() {
    // 4097 sectors need two tables. Sector 1 becomes zero, sectors 4095 and 4096 get data.
    let below: Vec<u8> = vec![5; 4097 * 512];
    let mut disk = below.clone();
    disk[512..1024].fill(0);
    disk[4095 * 512..].fill(9);
    let files = Files::default();
    let mut target = files.target("a.vmdk");
    let spec = spec("a.vmdk", "vmfsSparse", disk.size(), true);
    let writer = named("vmdk").unwrap().create(&mut target, &spec).unwrap();
    changes::write(&below, &disk, writer, &Job::default()).unwrap();

    assert_eq!(files.names(), ["a-delta.vmdk", "a.vmdk"]);
    let text = String::from_utf8(files.get("a.vmdk")).unwrap();
    assert!(text.contains("createType=\"vmfsSparse\"\nparentFileNameHint=\"below.vmdk\"\n"));
    assert!(text.contains("\nRW 4097 VMFSSPARSE \"a-delta.vmdk\"\n"));
    let delta = files.get("a-delta.vmdk");
    assert_eq!(&delta[..4], b"COWD");
    // Version, flags, sectors, grain size, directory, its entries, first free sector.
    let header: Vec<u32> = (1..8).map(|n| number(&delta, 4 * n)).collect();
    let end = u32::try_from(delta.len() / 512).unwrap();
    assert_eq!(header, [1, 3, 4097, 1, 4, 2, end]);
    assert!(delta[32..2048].iter().all(|b| *b == 0));
    // Header 4, directory 1, table 32, two grains, table 32, one grain.
    assert_eq!((number(&delta, 2048), number(&delta, 2052)), (5, 39));
    assert_eq!(end, 72);
    let entry = |table: usize, n: usize| number(&delta, table * 512 + n * 4);
    let set: Vec<usize> = (0..4096).filter(|n| entry(5, *n) != 0).collect();
    assert_eq!(set, [1, 4095]);
    assert_eq!((entry(5, 1), entry(5, 4095), entry(39, 0)), (37, 38, 71));
    assert!(delta[37 * 512..38 * 512].iter().all(|b| *b == 0));
    assert!(delta[71 * 512..].iter().all(|b| *b == 9));
}

#[test]
fn what_a_kind_cannot_hold_is_refused() {
    let two_tib = 2 << 40;
    for (kind, size, child, expected) in [
        ("vmfsSparse", two_tib, true, ErrorKind::Unsupported),
        ("vmfsSparse", 512, false, ErrorKind::Usage),
        ("vmfs", 512, true, ErrorKind::Usage),
        ("twoGbMaxExtentFlat", 512, true, ErrorKind::Usage),
        ("twoGbMaxExtentFlat", 62 << 40, false, ErrorKind::Limit),
        ("monolithicFlat", 63 << 40, false, ErrorKind::Unsupported),
    ] {
        let error = create(&spec("a.vmdk", kind, size, child)).err();
        assert_eq!(error.map(|e| e.kind()), Some(expected), "{kind} of {size}");
    }
    let most = create(&spec("a.vmdk", "vmfsSparse", two_tib - 512, true)).unwrap();
    assert_eq!(number(&most.get("a-delta.vmdk"), 12), u32::MAX);
    for size in [0, 1 << 20 | 512, 4 << 30] {
        let mut spec = spec("a.vmdk", "twoGbMaxExtentFlat", 1 << 30, false);
        spec.options.extent_size = Some(size);
        let error = create(&spec).err().map(|e| e.kind());
        assert_eq!(error, Some(ErrorKind::Usage), "{size}");
    }
}

#[test]
fn choices_reach_the_descriptor() {
    let mut spec = spec("a.vmdk", "twoGbMaxExtentSparse", 1 << 20, false);
    spec.options = Options {
        adapter: Some("IDE".to_owned()),
        hardware_version: Some(13),
        extent_size: Some(512 << 10),
        ..Options::default()
    };
    let files = create(&spec).unwrap();
    let text = String::from_utf8(files.get("a.vmdk")).unwrap();
    for line in [
        "RW 1024 SPARSE \"a-s001.vmdk\"",
        "RW 1024 SPARSE \"a-s002.vmdk\"",
        "ddb.adapterType = \"ide\"",
        "ddb.geometry.cylinders = \"2\"",
        "ddb.geometry.heads = \"16\"",
        "ddb.virtualHWVersion = \"13\"",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    // An extent has no descriptor inside; its own header says how much it holds.
    let extent = files.get("a-s002.vmdk");
    assert_eq!(&extent[..4], b"KDMV");
    assert_eq!(number(&extent, 12), 1024);
    assert!(extent[28..44].iter().all(|b| *b == 0));
    spec.options.adapter = Some("scsi".to_owned());
    let error = create(&spec).err().unwrap();
    assert!(error.to_string().contains("known are ide, "), "{error}");
}

#[test]
fn a_disk_that_fills_fails_a_redo_log_too() {
    let below: Vec<u8> = vec![5; 3 << 20];
    let disk: Vec<u8> = (0..3u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let spec = spec("a.vmdk", "vmfsSparse", disk.size(), true);
    for left in 0.. {
        let mut target = testing::Failing::new(Files::default().target("a.vmdk"), left);
        let done = named("vmdk")
            .unwrap()
            .create(&mut target, &spec)
            .and_then(|writer| changes::write(&below, &disk, writer, &Job::default()));
        match done {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
            Ok(_) => {
                assert!(left > 5, "{left} writes");
                break;
            }
        }
    }
}

/// A disk of three tables, the last grain short, and what becomes of it: grains 1 to 3 zero, one
/// of the second table changed, the last grain zero.
pub(crate) fn before_and_after() -> (Vec<u8>, Vec<u8>) {
    let before: Vec<u8> = (0..(65 << 20) + 5 * 512)
        .map(|i: u32| (i >> 9) as u8 | 1)
        .collect();
    let mut after = before.clone();
    after[64 << 10..256 << 10].fill(0);
    after[40 << 20..(40 << 20) + 512].fill(0x77);
    after[65 << 20..].fill(0);
    (before, after)
}

#[test]
fn a_stream_can_be_a_child() {
    let (before, after) = before_and_after();
    let files = Files::default();
    let mut target = files.target("a.vmdk");
    let mut spec = spec("a.vmdk", "streamOptimized", after.size(), true);
    spec.options.notes = vec![("to.sha256".to_owned(), "a b=\u{e9}".to_owned())];
    let writer = named("vmdk").unwrap().create(&mut target, &spec).unwrap();
    changes::write(&before, &after, writer, &Job::default()).unwrap();

    let bytes = files.get("a.vmdk");
    let text = String::from_utf8_lossy(&bytes[512..21 * 512]);
    assert!(text.contains("\nparentCID=00000007\n") && text.contains("\"below.vmdk\"\n"));
    assert!(
        text.contains("\nddb.vdisk.to.sha256 = \"a b=\u{e9}\"\n"),
        "{text}"
    );
    let layer = testing::open_bytes(named("vmdk").unwrap(), bytes).unwrap();
    assert_eq!(layer.facts().notes, spec.options.notes);
    let parent = layer.facts().parent.clone().unwrap();
    assert_eq!(parent.identity, Some(Identity::Cid(7)));
    // Recorded are exactly the grains that changed, also those of zeros.
    let grains = after.len().div_ceil(65536) as u64;
    let recorded: Vec<u64> = (0..grains)
        .filter(|grain| layer.extent_at(grain << 16).unwrap().kind == Kind::Data)
        .collect();
    assert_eq!(recorded, [1, 2, 3, 640, 1040]);
    for grain in recorded {
        let range = (grain as usize) << 16..after.len().min((grain as usize + 1) << 16);
        let mut found = vec![9; range.len()];
        layer.read_at(grain << 16, &mut found).unwrap();
        assert!(found == after[range], "grain {grain}");
    }
}

#[test]
fn notes_are_ours_and_stay_lines() {
    let note = |key: &str, value: &str| {
        let mut spec = spec("a.vmdk", "monolithicFlat", 512, false);
        spec.options.notes = vec![(key.to_owned(), value.to_owned())];
        create(&spec).map(|files| String::from_utf8(files.get("a.vmdk")).unwrap())
    };
    assert!(
        note("x-1_y", "")
            .unwrap()
            .ends_with("\nddb.vdisk.x-1_y = \"\"\n")
    );
    for (key, value) in [
        ("", "v"),
        ("A", "v"),
        ("a b", "v"),
        ("a=", "v"),
        ("a", "\""),
        ("a", "x\ny"),
    ] {
        let error = note(key, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{key} {value}");
    }
    // As many as there is room for beside the tables.
    let mut spec = spec("a.vmdk", "monolithicSparse", 512, false);
    spec.options.notes = vec![("a".to_owned(), "v".repeat(10_000))];
    assert_eq!(create(&spec).err().unwrap().kind(), ErrorKind::Usage);
}
