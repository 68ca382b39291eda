//! Trees of images by chance: deep and wide, of odd sizes, with children that are longer, and of which
//! some are only parents.

use crate::{builder::Farm, compare::assert_same, contents::Contents, truth::truth};

const MIB: usize = 1 << 20;

/// Trees of VMDK, VHD and qcow2, `number` images in all.
fn trees(seed: u64, number: usize) -> Option<Farm> {
    let mut farm = Farm::new()?;
    let mut contents = Contents::new(seed);
    for image in 0..number {
        let ending = contents.dice.pick(&["vmdk", "vmdk", "vhd", "qcow2"]);
        let name = format!("{ending}/{image:02}.{ending}");
        let family: Vec<usize> = (0..farm.images.len())
            .filter(|i| farm.images[*i].name.ends_with(ending))
            .collect();
        if family.is_empty() || contents.dice.below(5) == 0 {
            // Whole segments end at multiples of 4 MiB, others do not.
            let odd = 512 * contents.dice.below(2000) as usize;
            let size = contents.dice.pick(&[4 * MIB, 8 * MIB, MIB + odd]);
            let options = match ending {
                "vmdk" => "subformat=monolithicSparse",
                "vhd" => "subformat=dynamic force_size=on",
                _ => "",
            };
            let disk = contents.disk(size);
            farm.full(&name, options, disk);
            continue;
        }
        // Often the newest, so that chains get deep.
        let below = match contents.dice.below(2) {
            0 => *family.last().unwrap(),
            _ => contents.dice.pick(&family),
        };
        let parent = farm.images[below].name.clone();
        let mut size = farm.images[below].bytes.len();
        if ending == "vhd" {
            farm.clone_of(&name, &parent);
        } else {
            if contents.dice.below(3) == 0 {
                size += 512 * contents.dice.below(3000) as usize;
            }
            let options = match (ending, contents.dice.below(3)) {
                ("vmdk", 0) => "zeroed_grain=on",
                ("qcow2", 0) => "cluster_size=512",
                ("qcow2", 1) => "extended_l2=on",
                _ => "",
            };
            farm.child(&name, &parent, size, options);
        }
        let bytes = farm.bytes(&name);
        let number = contents.dice.below(6) as usize;
        let changes = contents.changes(&bytes, number);
        if number > 0 {
            farm.write(&name, &changes);
        }
    }
    for image in &mut farm.images {
        image.listed = contents.dice.below(4) != 0;
    }
    Some(farm)
}

fn check(seed: u64) {
    let Some(farm) = trees(seed, 20) else { return };
    let names = farm.listed();
    let all = names.join(" ");
    let expected = truth(&farm, &names, &[4096, 65536, 512, 12288]);
    for (flags, size) in [
        ("--threads 3", 0),
        ("--block-size 64K --memory 8M", 1),
        ("--block-size 512 --memory 8M --threads 1", 2),
        ("--block-size 12K", 3),
    ] {
        let args = format!("dedup-report {all} --json {flags}");
        let report = farm.folder.run(&args).code(0).json();
        assert_same(&format!("{flags} of {seed}"), &report, &expected[size]);
    }
}

#[test]
fn trees_of_any_shape_are_counted_exactly() {
    for seed in 80..83 {
        check(seed);
    }
}
