//! The upper layers of chains: what they say, and what is read of them.

use crate::{
    SECTOR,
    model::{Model, scanned},
    vhd,
};
use proptest::prelude::*;
use std::sync::Arc;
use vdisk_core::{
    Chain, Deny, Disk, Error, ErrorKind, FORMATS, Image, Kind, Layer, Layout, OpenOptions,
    ParentRef, Place, Result, Run,
    format::{Facts, ParentSpec, named},
    open,
    storage::ImageFile,
    testing::{self, conformance, contents},
    units::FileOffset,
};

/// What each sector of a layer holds; none where it records nothing.
type Sectors = Vec<Option<Vec<u8>>>;

/// Children of any sizes over a base, topmost first.
fn stacks() -> impl Strategy<Value = Vec<vhd::Shape>> {
    let children = prop::collection::vec(vhd::shapes(4), 1..5);
    (children, vhd::shapes(3)).prop_map(|(mut shapes, base)| {
        shapes.push(base);
        shapes
    })
}

/// The images of the shapes, and what each holds.
fn built(stack: &[vhd::Shape]) -> (Chain, Vec<Sectors>) {
    let layer = |shape: &vhd::Shape| {
        let file = ImageFile::from_storage("test.vhd", shape.build()).unwrap();
        Arc::new(open::open_file(file, &OpenOptions::new(&Deny)).unwrap())
    };
    let chain = Chain::new(stack.iter().map(layer).collect()).unwrap();
    (chain, stack.iter().map(vhd::Shape::model).collect())
}

/// What the first `depth` of `layers` say, sector by sector, of a disk with the contents of all.
fn above(layers: &[Sectors], depth: usize) -> Model {
    let mut model = Model {
        kinds: Vec::new(),
        bytes: Vec::new(),
    };
    for sector in 0..layers[0].len() {
        // From the top: the first that has it decides, or is too short for it.
        let decides = |held: &Sectors| held.get(sector).is_none_or(Option::is_some);
        let number = layers.iter().position(decides);
        let held = number.and_then(|n| layers[n].get(sector)?.clone());
        model.kinds.push(match (number, &held) {
            // Only if all down to the base say nothing: nobody has it.
            (None, _) if depth >= layers.len() => Kind::Zero,
            (None, _) => Kind::Absent,
            (Some(n), None) if n <= depth => Kind::Zero,
            (Some(n), Some(_)) if n < depth => Kind::Data,
            _ => Kind::Absent,
        });
        model.bytes.extend(held.unwrap_or(vec![0; SECTOR]));
    }
    model
}

/// What is known of each sector of `disk`.
fn kinds(disk: &dyn Disk) -> Vec<Kind> {
    let at = (0..disk.size()).step_by(SECTOR);
    at.map(|pos| disk.extent_at(pos).unwrap().kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn upper_layers_say_what_they_record(stack in stacks()) {
        let (chain, held) = built(&stack);
        for depth in 0..=stack.len() + 1 {
            let model = above(&held, depth);
            let disk = chain.above(depth);
            prop_assert_eq!(conformance(&disk), Ok(()));
            prop_assert_eq!(kinds(&disk), model.kinds.clone());
            for (sector, kind) in model.kinds.iter().enumerate() {
                let mut bytes = vec![0xee; SECTOR];
                let read = disk.read_at((sector * SECTOR) as u64, &mut bytes);
                if *kind == Kind::Absent {
                    prop_assert_eq!(read.unwrap_err().kind(), ErrorKind::Reference);
                } else {
                    prop_assert!(read.is_ok() && bytes == model.bytes[sector * SECTOR..][..SECTOR]);
                }
            }
            if depth >= stack.len() {
                prop_assert!(contents(&disk).unwrap() == contents(&chain).unwrap());
            }
        }
    }

    #[test]
    fn blocks_of_upper_layers_are_those_of_the_model(
        stack in stacks(),
        unit in prop::sample::select(&[512usize, 4096, 12 << 10][..]),
    ) {
        let (chain, held) = built(&stack);
        for depth in 1..=stack.len() {
            let found = scanned(&chain.above(depth), &chain, unit, 2).unwrap();
            prop_assert_eq!(found, above(&held, depth).blocks(unit));
        }
    }
}

/// A chain of children of `format`, topmost first, each differing from the one below in some places.
fn written(format: &'static dyn vdisk_core::Format, states: &[Vec<u8>]) -> Vec<Arc<Layer>> {
    let child = format.subformats().iter().find(|s| s.child).unwrap();
    let base = format.subformats().first().unwrap();
    let files = testing::files(format, base, &states[0], None, 0).unwrap();
    let mut layers = vec![Arc::new(testing::open_files(format, &files).unwrap())];
    for (number, pair) in (1..).zip(states.windows(2)) {
        let parent = ParentSpec {
            relative: "below".into(),
            absolute: None,
            identity: layers[0].facts().identity,
            modified: 0,
        };
        let below: &dyn Disk = &pair[0];
        let files = testing::files(format, child, &pair[1], Some((below, parent)), number);
        let layer = testing::open_files(format, &files.unwrap()).unwrap();
        layers.insert(0, Arc::new(layer));
    }
    layers
}

/// Blocks of segments put on one another are those of the whole disk, in all formats with children.
#[test]
fn segments_make_up_the_disk() {
    let stretches = [
        (3000, Kind::Data, crate::model::Fill::Random),
        (3000, Kind::Zero, crate::model::Fill::Zeros),
        (2001, Kind::Data, crate::model::Fill::Sparse),
    ];
    let base = Model::new(&stretches, 9).bytes;
    let mut middle = base.clone();
    middle[10_240..11_264].fill(0);
    middle[2_000_896..2_400_256].fill(7);
    let mut top = middle.clone();
    top[512..1024].fill(3);
    top[2_048_000..2_050_048].fill(0);
    top[4_000_256..4_000_768].fill(9);
    let states = [base, middle, top];
    let formats = FORMATS
        .iter()
        .filter(|f| f.subformats().iter().any(|s| s.child));
    let mut tried = 0;
    for format in formats {
        let layers = written(*format, &states);
        let whole = Chain::new(layers).unwrap();
        for unit in [512, 4096, 12 << 10, 64 << 10] {
            // By unit, from the base up: half a digest, or zero.
            let mut seen = vec![None; whole.size().div_ceil(unit) as usize];
            for depth in [2, 1, 0] {
                let chain = whole.below(depth).unwrap();
                let recorded = chain.above(1);
                let blocks = scanned(&recorded, &chain, unit as usize, 2).unwrap();
                for (pos, len, print) in blocks {
                    let units = pos / unit..(pos + len).div_ceil(unit);
                    units.for_each(|u| seen[u as usize] = print);
                }
                let bytes = &states[2 - depth];
                let kinds = vec![Kind::Data; bytes.len() / SECTOR];
                let model = Model {
                    kinds,
                    bytes: bytes.clone(),
                };
                let mut expected = vec![None; seen.len()];
                for (pos, _, print) in model.blocks(unit as usize) {
                    if print.is_some() {
                        expected[(pos / unit) as usize] = print;
                    }
                }
                assert!(seen == expected, "{} {unit} {depth}", format.name());
            }
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}

/// A layer that may not be asked for anything.
struct Shut;

impl Layout for Shut {
    fn size(&self) -> u64 {
        1 << 20
    }
    fn locate(&self, _: u64) -> Result<Run> {
        Err(Error::new(ErrorKind::Io, "layer", "was asked"))
    }
}

/// A child of which only the first and last 4096 bytes are recorded.
struct Ends(u64);

impl Layout for Ends {
    fn size(&self) -> u64 {
        self.0
    }
    fn locate(&self, pos: u64) -> Result<Run> {
        let last = self.0 - 4096;
        let data = pos < 4096 || pos >= last;
        let place = match data {
            true => Place::Stored {
                file: 0,
                at: FileOffset(pos),
            },
            false => Place::Absent,
        };
        let end = [4096, last, self.0].into_iter().find(|e| *e > pos);
        Ok(Run {
            end: end.unwrap(),
            place,
        })
    }
}

fn child(layout: impl Layout + 'static) -> Arc<Layer> {
    let file = ImageFile::from_storage("a.img", vec![7; 2 << 20]).unwrap();
    let facts = Facts {
        parent: Some(ParentRef {
            hints: vec![],
            identity: None,
            alternative: None,
            format: None,
        }),
        ..Facts::default()
    };
    let image = Image::new(vec![file], Box::new(layout));
    Arc::new(Layer::new(named("vmdk").unwrap(), image, facts))
}

#[test]
fn layers_below_are_not_asked() {
    for (size, kinds) in [
        (1 << 20, vec![Kind::Data, Kind::Absent, Kind::Data]),
        // What is past the end of the layer below needs no question.
        (
            2 << 20,
            vec![Kind::Data, Kind::Absent, Kind::Zero, Kind::Data],
        ),
    ] {
        let chain = Chain::new(vec![child(Ends(size)), child(Shut)]).unwrap();
        let disk = chain.above(1);
        let extents = vdisk_core::disk::extents(&disk, 0..size, vdisk_core::disk::same_kind);
        let found: Vec<_> = extents.map(|e| e.unwrap().kind).collect();
        assert_eq!(found, kinds);
        let found = scanned(&disk, &chain, 4096, 2).unwrap();
        assert_eq!(found.len(), kinds.len() - 1, "{found:?}");
        // All together do ask.
        assert!(chain.extent_at(4096).is_err());
    }
}
