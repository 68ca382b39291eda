//! Blocks as files may claim them, and wishes that make no sense.

use crate::figures::options;
use vdisk_core::{
    ErrorKind, Job,
    ops::dedup::{Block, Content, Count, Fingerprint, Node, Options},
};

fn node(size: u64, parent: Option<usize>) -> Node {
    Node {
        size,
        image: true,
        parent,
    }
}

fn data(pos: u64, len: u64) -> Block {
    let content = Content::Data {
        print: Fingerprint::of(b"x"),
        deflated: Some(2),
    };
    Block { pos, len, content }
}

fn zeros(pos: u64, len: u64) -> Block {
    let content = Content::Zero;
    Block { pos, len, content }
}

/// A disk of two and a half units, and a child.
fn nodes() -> [Node; 2] {
    [node(10_240, None), node(10_240, Some(0))]
}

#[test]
fn blocks_that_cannot_be_are_refused_and_the_others_are_counted() {
    let odd = Block {
        content: Content::Data {
            print: Fingerprint::of(b"x"),
            deflated: Some(4097),
        },
        ..data(0, 4096)
    };
    let both: [&[Block]; 13] = [
        &[data(0, 2048)],
        &[data(0, 8192)],
        &[data(0, 0)],
        &[zeros(0, 0)],
        &[zeros(0, 2048)],
        &[zeros(0, 16_384)],
        &[zeros(0, u64::MAX)],
        &[zeros(0, 8192), data(8192, 4096)],
        &[data(512, 4096)],
        &[data(0, 4096), data(0, 4096)],
        &[zeros(0, 8192), data(4096, 4096)],
        &[zeros(12_288, 4096)],
        &[odd],
    ];
    let root: [&[Block]; 4] = [
        &[],
        &[data(0, 4096)],
        &[zeros(4096, 6144)],
        &[data(0, 4096), data(8192, 2048)],
    ];
    let cases = both.iter().map(|blocks| (*blocks, 1));
    let cases = cases.chain(both.iter().chain(&root).map(|blocks| (*blocks, 0)));
    for (blocks, bad) in cases {
        let count = || {
            let mut count = Count::new(&nodes(), options(4096)).unwrap();
            let job = Job::default();
            if bad == 1 {
                let whole = [data(0, 4096), zeros(4096, 6144)];
                count.add(0, &whole, &job).unwrap();
            }
            let said = count.add(bad, blocks, &job);
            (count, said)
        };
        // What is refused or missing is never counted as if it were whole.
        let (whole, said) = count();
        let said = said.and_then(|()| whole.complete(bad));
        let error = said.expect_err(&format!("{blocks:?}"));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.to_string().starts_with("fingerprints: segment"),
            "{error}"
        );
        let error = whole.finish(&Job::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{blocks:?}");

        let (mut rest, _) = count();
        rest.fail(bad);
        let found = rest.finish(&Job::default()).unwrap();
        let left = if bad == 1 { 4096 } else { 0 };
        assert_eq!((found.total.data, found.total.unique), (left, left));
        assert_eq!(found.images[0].is_some(), bad == 1);
        assert_eq!(found.images[1], None);
    }
}

/// A unit in which a disk ends and the one over it goes on: only the latter knows what is in it.
#[test]
fn a_unit_of_two_disks_has_to_be_recorded() {
    let nodes = [node(4608, None), node(12_288, Some(0))];
    let count = |own: &[Block]| {
        let mut count = Count::new(&nodes, options(4096))?;
        let job = Job::default();
        count.add(0, &[zeros(0, 4096), data(4096, 512)], &job)?;
        count.add(1, own, &job)?;
        count.finish(&job)
    };
    let refused: [&[Block]; 3] = [&[], &[zeros(0, 4096)], &[data(8192, 4096)]];
    for own in refused {
        let error = count(own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{own:?}");
    }
    let good: [&[Block]; 3] = [
        &[data(4096, 4096)],
        &[zeros(0, 12_288)],
        &[zeros(4096, 4096), data(8192, 4096)],
    ];
    for (own, bytes) in good.iter().zip([4096, 0, 4096]) {
        assert_eq!(count(own).unwrap().images[1].unwrap().data, bytes);
    }
}

#[test]
fn nodes_are_added_once_and_exist() {
    let mut count = Count::new(&nodes(), options(4096)).unwrap();
    let job = Job::default();
    count.add(0, &[zeros(0, 8192)], &job).unwrap();
    count.add(0, &[data(8192, 2048)], &job).unwrap();
    count.add(1, &[zeros(0, 4096)], &job).unwrap();
    let again = count.add(0, &[zeros(0, 4096)], &job).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Corrupt);
    let beyond = count.add(2, &[], &job).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Usage);
    count.fail(7);
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    let refused = |options: Options, why: &str| {
        let error = Count::new(&nodes(), options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(why), "{error}");
    };
    let usual = || options(4096);
    refused(
        Options {
            unit: 1000,
            ..usual()
        },
        "block size",
    );
    refused(Options { unit: 0, ..usual() }, "block size");
    refused(
        Options {
            block: 6144,
            ..usual()
        },
        "not a multiple of 4096",
    );
    refused(
        Options {
            block: 0,
            ..usual()
        },
        "not a multiple",
    );
    let sizes = vec![3 << 20, 16 << 20];
    refused(Options { sizes, ..usual() }, "does not nest");
    let sizes = (1..=17).map(|n| n * 4096).collect();
    refused(Options { sizes, ..usual() }, "more than 16 sizes");
    let memory = (8 << 20) - 1;
    refused(Options { memory, ..usual() }, "at least 8388608");
    let sample_bits = 17;
    refused(
        Options {
            sample_bits,
            ..usual()
        },
        "2^17",
    );
    refused(
        Options {
            groups: vec![0],
            ..usual()
        },
        "groups",
    );
    refused(
        Options {
            groups: vec![0, 2],
            ..usual()
        },
        "groups",
    );

    // Deep chains at far sizes need a group of each layer in memory.
    let tower: Vec<Node> = (0..200usize).map(|n| node(512, n.checked_sub(1))).collect();
    let sizes = vec![4 << 20];
    let deep = Options {
        sizes,
        ..options(512)
    };
    let error = Count::new(&tower, deep.clone()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let memory = 1 << 30;
    assert!(Count::new(&tower, Options { memory, ..deep }).is_ok());
}

#[test]
fn chunks_of_images_that_failed_do_not_count() {
    let nodes = [node(4096, None), node(4096, None), node(4096, None)];
    let mut count = Count::new(&nodes, options(4096)).unwrap();
    let job = Job::default();
    let chunk = |name: &[u8], len| (Fingerprint::of(name), len);
    for node in 0..3 {
        count.add(node, &[data(0, 4096)], &job).unwrap();
    }
    count
        .add_chunks(0, &[chunk(b"a", 100), chunk(b"b", 70)], &job)
        .unwrap();
    count.add_chunks(1, &[chunk(b"a", 100)], &job).unwrap();
    count.add_chunks(1, &[chunk(b"a", 100)], &job).unwrap();
    count.add_chunks(2, &[chunk(b"c", 50)], &job).unwrap();
    assert!(count.add_chunks(0, &[chunk(b"d", 0)], &job).is_err());
    assert!(count.add_chunks(0, &[chunk(b"d", u32::MAX)], &job).is_err());
    count.fail(2);
    let chunks = count.finish(&job).unwrap().chunks.unwrap();
    assert_eq!((chunks.chunks, chunks.data, chunks.unique), (4, 370, 170));
}
