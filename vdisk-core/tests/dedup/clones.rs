//! What clones cost, and what large zeros cost.

use crate::{farm::Farm, figures::options};
use std::sync::Mutex;
use vdisk_core::{
    Job, Watch,
    ops::dedup::{Block, Content, Count, Fingerprint, Node, Options},
};

/// How much each phase announced.
#[derive(Default)]
struct Phases(Mutex<Vec<(String, u64, u64)>>);

impl Watch for Phases {
    fn phase(&self, name: &str, total: u64) {
        self.0.lock().unwrap().push((name.to_owned(), total, 0));
    }
    fn advance(&self, done: u64) {
        if let Some(last) = self.0.lock().unwrap().last_mut() {
            last.2 += done;
        }
    }
}

impl Phases {
    /// The total of `phase`, which must have been reached.
    fn total(&self, phase: &str) -> u64 {
        let phases = self.0.lock().unwrap();
        let (_, total, done) = phases.iter().find(|p| p.0 == phase).unwrap();
        assert_eq!(total, done, "{phase}");
        *total
    }
}

/// How many positions and records a base of 400 blocks with `clones` clones makes, each of which has
/// three blocks of its own.
fn cost(clones: usize) -> (u64, u64) {
    let mut farm = Farm::new(4096);
    let base = farm.root(400 * 4096);
    for unit in 0..400 {
        farm.write(base, unit..unit + 1, &(unit as u32 + 1).to_le_bytes());
    }
    for clone in 0..clones {
        let node = farm.child(base, 400 * 4096);
        for unit in [clone % 400, 200, 399] {
            farm.write(node, unit..unit + 1, &(clone as u32 + 1000).to_le_bytes());
        }
    }
    let phases = Phases::default();
    let job = Job {
        watch: &phases,
        ..Job::default()
    };
    let mut count = Count::new(&farm.nodes, options(4096)).unwrap();
    for node in 0..farm.nodes.len() {
        count.add(node, &farm.blocks(node, 1), &job).unwrap();
    }
    count.finish(&job).unwrap();
    (phases.total("resolve"), phases.total("count"))
}

#[test]
fn the_hundredth_clone_costs_what_its_own_blocks_cost() {
    let (before, after) = (cost(99), cost(100));
    assert_eq!(after.0 - before.0, 3);
    // Blocks and 64 KiB places, each there more, and what it hides less.
    assert_eq!(after.1 - before.1, 12);
}

#[test]
fn zeros_cost_nothing_however_long_they_are() {
    const TIB: u64 = 1 << 40;
    let data = |pos: u64, of: &[u8]| Block {
        pos,
        len: 4096,
        content: Content::Data {
            print: Fingerprint::of(of),
            deflated: None,
        },
    };
    let zeros = |pos: u64, end: u64| Block {
        pos,
        len: end - pos,
        content: Content::Zero,
    };
    let node = |parent| Node {
        size: 8 * TIB,
        image: true,
        parent,
    };
    let nodes = [node(None), node(Some(0)), node(Some(0)), node(None)];
    let base = [
        data(0, b"a"),
        zeros(4096, TIB),
        data(TIB, b"b"),
        zeros(TIB + 4096, 7 * TIB),
        data(7 * TIB, b"c"),
        zeros(7 * TIB + 4096, 8 * TIB),
    ];
    let phases = Phases::default();
    let job = Job {
        watch: &phases,
        ..Job::default()
    };
    let sizes = vec![4096, 1 << 20, 4 << 20];
    let options = Options {
        sizes,
        ..options(4096)
    };
    let mut count = Count::new(&nodes, options).unwrap();
    count.add(0, &base, &job).unwrap();
    // Hides the second block only, and the first; and nothing.
    count.add(1, &[zeros(4096, 6 * TIB)], &job).unwrap();
    let own = [zeros(0, 7 * TIB), data(7 * TIB + 4096, b"d")];
    count.add(2, &own, &job).unwrap();
    count.add(3, &[zeros(0, 8 * TIB)], &job).unwrap();
    let found = count.finish(&job).unwrap();

    let of = |image: usize| found.images[image].unwrap().data / 4096;
    assert_eq!([of(0), of(1), of(2), of(3)], [3, 2, 2, 0]);
    assert_eq!(found.total.total, 32 * TIB);
    assert_eq!(found.total.unique, 4 * 4096);
    assert_eq!(found.total.once, 2 * 4096); // b and d
    let large = found.sizes.last().unwrap();
    // At 4 MiB: a, b, c, and c with d behind it.
    assert_eq!((large.block, large.counts.unique), (4 << 20, 16 << 20));
    assert_eq!(large.counts.data, 6 * (4 << 20));
    assert_eq!(phases.total("resolve"), 6);
}
