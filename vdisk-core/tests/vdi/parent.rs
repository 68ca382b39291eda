//! Children name no file: a person does, and UUID and state of it decide.

use crate::builder::{Is, MODIFIED, Shape, put};
use std::{fs, path::Path};
use vdisk_core::{Chain, ErrorKind, FileResolver, OpenOptions, Result, testing::contents};

fn open(path: &Path, parents: &[&Path]) -> Result<Chain> {
    let resolver = FileResolver {
        parents: parents.iter().map(|p| p.to_path_buf()).collect(),
        ..FileResolver::default()
    };
    vdisk_core::open(path, &OpenOptions::new(&resolver))
}

#[test]
fn a_parent_that_is_given_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = Shape::sample();
    let middle = Shape {
        kind: 4,
        blocks: vec![Is::Hole, Is::Hole, Is::Data, Is::Zero],
        parent: Some((base.uuid, MODIFIED)),
        uuid: *b"between the two.",
        seed: 90,
        ..Shape::sample()
    };
    let top = Shape {
        kind: 4,
        blocks: vec![Is::Hole, Is::Data, Is::Hole, Is::Hole],
        parent: Some((middle.uuid, MODIFIED)),
        uuid: *b"above all others",
        seed: 130,
        ..Shape::sample()
    };
    fs::write(at("base.vdi"), base.build()).unwrap();
    fs::write(at("middle.vdi"), middle.build()).unwrap();
    fs::write(at("top.vdi"), top.build()).unwrap();
    let mut changed = base.build();
    put(&mut changed, 408, b"another state...");
    fs::write(at("changed.vdi"), changed).unwrap();

    let chain = open(&at("top.vdi"), &[&at("base.vdi"), &at("middle.vdi")]).unwrap();
    let (low, mid, high) = (base.model(), middle.model(), top.model());
    let expected: Vec<u8> = [&low[0].1, &high[1].1, &mid[2].1, &mid[3].1]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    assert_eq!(chain.layers().len(), 3);
    assert!(contents(&chain).unwrap() == expected);

    let error = |parents: &[&Path]| open(&at("middle.vdi"), parents).err().unwrap();
    for (parents, word) in [
        (vec![], "without a name"),
        (vec![at("changed.vdi")], "changed"),
        (vec![at("top.vdi")], "another image"),
    ] {
        let parents: Vec<&Path> = parents.iter().map(|p| p.as_path()).collect();
        let error = error(&parents);
        assert_eq!(error.kind(), ErrorKind::Reference, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
