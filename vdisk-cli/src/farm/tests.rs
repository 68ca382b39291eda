//! What happens to images between the time when they are found and the time when they are read.

use super::{Action, Farm};
use crate::{
    args::InputArgs,
    ui::{GlobalArgs, Ui},
};
use clap::Parser;
use std::{fs, path::Path};
use vdisk_core::{
    Disk, Identity,
    format::{ParentSpec, named},
    testing,
};
use vdisk_fingerprints::Folder;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(flatten)]
    input: InputArgs,
}

/// A VMDK of 1 MiB full of the byte `number`, perhaps a child of another; returns its CID.
fn vmdk(path: &Path, number: u8, parent: Option<(&str, u32)>) -> u32 {
    let format = named("vmdk").unwrap();
    let mut disk = vec![number; 1 << 20];
    // A partition from sector 63 on.
    let entry = [0, 1, 1, 0, 7, 1, 1, 0, 63, 0, 0, 0, 0, 4, 0, 0];
    disk.splice(446..462, entry);
    disk[462..510].fill(0);
    disk.splice(510..512, [0x55, 0xaa]);
    let zeros = vec![0u8; 1 << 20];
    let parent = parent.map(|(name, cid)| {
        let spec = ParentSpec {
            relative: name.into(),
            absolute: None,
            identity: Some(Identity::Cid(cid)),
            modified: 0,
        };
        (&zeros as &dyn Disk, spec)
    });
    let bytes = testing::image(format, &format.subformats()[0], &disk, parent, number).unwrap();
    fs::write(path, &bytes).unwrap();
    match testing::open_bytes(format, bytes).unwrap().facts().identity {
        Some(Identity::Cid(cid)) => cid,
        other => panic!("{other:?}"),
    }
}

/// A base that is not in the folder of its two children; runs `meanwhile` between finding and reading.
/// Returns the names of the images that were read and of those that were not.
fn read(meanwhile: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let line = Line::parse_from([
        "vdisk",
        "--quiet",
        "--parent",
        path.join("base.vmdk").to_str().unwrap(),
    ]);
    let ui = Ui::new(&line.global);
    let desks = path.join("desks");
    fs::create_dir(&desks).unwrap();
    let cid = vmdk(&path.join("base.vmdk"), 1, None);
    for (name, number) in [("one.vmdk", 2), ("two.vmdk", 3)] {
        vmdk(&desks.join(name), number, Some(("../base.vmdk", cid)));
    }
    let mut farm = Farm::find(&[desks], 4096, &line.input, &ui).unwrap();
    assert!(farm.errors.is_empty(), "{:?}", farm.errors);
    assert_eq!((farm.images.len(), farm.nodes.len()), (2, 3));
    meanwhile(path);
    let folder = Folder::open(&path.join("prints"), true).unwrap();
    let mut kept = Vec::new();
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    farm.keep(folder, &line.input, &ui, &mut |one| {
        assert!(one.action == Action::Read);
        kept.push(last(&one.header.path));
    })
    .unwrap();
    let errors = farm.errors.iter().map(|e| last(&e.path)).collect();
    (kept, errors)
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn any_image_over_a_base_leads_to_it() {
    assert_eq!(
        read(|_| {}),
        (list(&["base.vmdk", "one.vmdk", "two.vmdk"]), list(&[]))
    );
    for (gone, stays) in [("one.vmdk", "two.vmdk"), ("two.vmdk", "one.vmdk")] {
        let found = read(|path| fs::remove_file(path.join("desks").join(gone)).unwrap());
        assert_eq!(found, (list(&["base.vmdk", stays]), list(&[gone])));
    }
}

#[test]
fn an_image_that_became_another_is_left_out() {
    let found = read(|path| {
        vmdk(&path.join("new"), 9, None);
        fs::rename(path.join("new"), path.join("desks/one.vmdk")).unwrap();
    });
    assert_eq!(
        found,
        (list(&["base.vmdk", "two.vmdk"]), list(&["one.vmdk"]))
    );
    let found = read(|path| {
        vmdk(&path.join("new"), 1, None); // the same contents and CID
        fs::rename(path.join("new"), path.join("base.vmdk")).unwrap();
    });
    assert_eq!(found, (list(&[]), list(&["one.vmdk", "two.vmdk"])));
}

#[test]
fn clones_with_their_partitions_at_one_place_still_share_their_base() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let line = Line::parse_from(["vdisk", "--quiet"]);
    let cid = vmdk(&path.join("base.vmdk"), 1, None);
    for (name, number) in [("one.vmdk", 2), ("two.vmdk", 3)] {
        vmdk(&path.join(name), number, Some(("base.vmdk", cid)));
    }
    let ui = Ui::new(&line.global);
    let farm = Farm::find(&[path.to_owned()], 4096, &line.input, &ui).unwrap();
    assert_eq!(farm.images[0].partitions, [63 * 512]);
    let shifted = farm.shifted(4096).unwrap();
    assert_eq!(shifted.nodes.len(), 3);
    let parents: Vec<_> = shifted.nodes.iter().map(|n| n.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(0)]);
    assert!(shifted.nodes.iter().all(|n| n.size == (1 << 20) + 512));
    assert!(farm.shifted(512).is_none());
}

#[test]
fn a_second_count_is_about_the_same_images() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let line = Line::parse_from(["vdisk", "--quiet"]);
    let ui = Ui::new(&line.global);
    for (name, number) in [("one.vmdk", 1), ("two.vmdk", 2)] {
        vmdk(&path.join(name), number, None);
    }
    let mut farm = Farm::find(&[path.to_owned()], 4096, &line.input, &ui).unwrap();
    let keep = |farm: &mut Farm, to: &str| {
        let folder = Folder::open(&path.join(to), true).unwrap();
        farm.keep(folder, &line.input, &ui, &mut |_| {}).unwrap();
        farm.errors.clone()
    };
    assert!(keep(&mut farm, "first").is_empty());
    assert!(keep(&mut farm.shifted(4096).unwrap(), "second").is_empty());
    // The same file of the same size, with other contents.
    vmdk(&path.join("two.vmdk"), 3, None);
    let errors = keep(&mut farm.shifted(4096).unwrap(), "third");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].path.ends_with("two.vmdk"), "{errors:?}");
    assert!(errors[0].error.contains("was changed"), "{errors:?}");
}
