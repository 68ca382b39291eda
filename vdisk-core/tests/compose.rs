//! Layers put together: chains, siblings, overlays, and what does not fit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use proptest::prelude::*;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use vdisk_core::{
    Disk, ErrorKind, FileResolver, Identity, Job, OpenOptions, Result,
    format::ParentSpec,
    open_layer,
    ops::{
        compose::{ComposeOptions, Composed, compose},
        merge::{MergeOptions, Merged, Preference, Sibling},
        merge_plan,
    },
    testing,
};

const SIZE: usize = 1 << 20;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn identity(&self, name: &str) -> Option<Identity> {
        let resolver = FileResolver::default();
        open_layer(&self.path(name), &OpenOptions::new(&resolver))
            .unwrap()
            .facts()
            .identity
    }
    fn base(&self, name: &str, disk: &Vec<u8>, number: u8) {
        let format = vdisk_core::format::by_extension(Path::new(name)).unwrap();
        let bytes = testing::image(format, &format.subformats()[0], disk, None, number).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }
    fn child(&self, name: &str, (parent, below): (&str, &Vec<u8>), disk: &Vec<u8>, number: u8) {
        let format = vdisk_core::format::by_extension(Path::new(name)).unwrap();
        let kind = format.subformats().iter().find(|s| s.child).unwrap();
        let spec = ParentSpec {
            relative: parent.into(),
            absolute: None,
            identity: self.identity(parent),
            modified: 0,
        };
        let bytes = testing::image(format, kind, disk, Some((below, spec)), number).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }
    fn compose(&self, names: &[&str], overlay: bool) -> Result<Composed> {
        let paths: Vec<PathBuf> = names.iter().map(|n| self.path(n)).collect();
        let resolver = FileResolver::default();
        compose(
            &paths,
            &ComposeOptions {
                open: OpenOptions::new(&resolver),
                overlay,
                granularity: 512,
                prefer: &[],
            },
        )
    }
}

fn edited(disk: &[u8], at: usize, len: usize, byte: u8) -> Vec<u8> {
    let mut disk = disk.to_vec();
    disk[at..at + len].fill(byte);
    disk
}

fn refused(result: Result<Composed>) -> (ErrorKind, String) {
    let error = result.err().unwrap_or_else(|| panic!("was composed"));
    (error.kind(), error.to_string())
}

#[test]
fn a_chain_reads_as_its_top() {
    for ending in ["vmdk", "vhd"] {
        let f = Folder::new();
        let name = |stem: &str| format!("{stem}.{ending}");
        let base = edited(&vec![0; SIZE], 0, SIZE / 2, 1);
        let apps = edited(&base, 4096, 70_000, 2);
        let user = edited(&apps, 0, 8192, 0); // zeros must hide what lies below
        f.base(&name("base"), &base, 1);
        f.child(&name("apps"), (&name("base"), &base), &apps, 2);
        f.child(&name("user"), (&name("apps"), &apps), &user, 3);
        let all = [name("base"), name("apps"), name("user")];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let composed = f.compose(&all, false).unwrap();
        assert!(matches!(composed, Composed::Chain(_)));
        assert!(
            testing::contents(composed.disk()).unwrap() == user,
            "{ending}"
        );
        testing::conformance(composed.disk()).unwrap();

        let (kind, text) = refused(f.compose(&[all[0], all[2]], false));
        assert_eq!(kind, ErrorKind::Reference, "missing middle");
        assert!(text.contains(all[1]), "names what would fit: {text}");
        let (kind, text) = refused(f.compose(&[all[0], all[2], all[1]], false));
        assert_eq!(kind, ErrorKind::Usage, "wrong order: {text}");
        assert!(text.contains("before"), "{text}");
        let (kind, _) = refused(f.compose(&[all[0], all[1], all[1]], false));
        assert_eq!(kind, ErrorKind::Usage, "twice");
        // The base may itself be a child.
        let composed = f.compose(&[all[1], all[2]], false).unwrap();
        assert!(testing::contents(composed.disk()).unwrap() == user);
        let (kind, text) = refused(f.compose(&[all[2], all[1]], false));
        assert_eq!(kind, ErrorKind::Usage, "{text}");
        // A layer of another base.
        f.base(&name("other"), &base, 9);
        let (kind, text) = refused(f.compose(&[&name("other"), all[1]], false));
        assert_eq!(kind, ErrorKind::Reference);
        assert!(text.contains(all[0]) && text.contains("other"), "{text}");
    }
}

#[test]
fn siblings_merge_where_they_do_not_collide() {
    let f = Folder::new();
    let base = edited(&vec![0; SIZE], 0, SIZE / 2, 1);
    // Within one grain of 64 KiB, but not in one sector.
    let a = edited(&edited(&base, 1024, 512, 2), 600_000, 512, 7);
    let b = edited(&edited(&base, 2048, 512, 3), 600_000, 512, 7);
    let both = edited(&a, 2048, 512, 3);
    f.base("base.vmdk", &base, 1);
    f.child("a.vmdk", ("base.vmdk", &base), &a, 2);
    f.child("b.vmdk", ("base.vmdk", &base), &b, 3);
    let composed = f
        .compose(&["base.vmdk", "a.vmdk", "b.vmdk"], false)
        .unwrap();
    assert!(matches!(composed, Composed::Siblings { .. }));
    assert!(testing::contents(composed.disk()).unwrap() == both);
    testing::conformance(composed.disk()).unwrap();

    // Full disks of any format that share the base.
    f.base("full.raw", &a, 4);
    f.base("full.vhd", &b, 5);
    let composed = f
        .compose(&["base.vmdk", "full.raw", "full.vhd"], false)
        .unwrap();
    assert!(testing::contents(composed.disk()).unwrap() == both);
    let Composed::Siblings { full, .. } = composed else {
        panic!("not siblings");
    };
    assert_eq!(full, [true, true]);

    // A collision is an error when read, too.
    let c = edited(&base, 1024, 512, 9);
    f.child("c.vmdk", ("base.vmdk", &base), &c, 6);
    let composed = f
        .compose(&["base.vmdk", "a.vmdk", "c.vmdk"], false)
        .unwrap();
    let error = testing::contents(composed.disk()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.to_string().contains("a.vmdk") && error.to_string().contains("1024"),
        "{error}"
    );
}

#[test]
fn overlays_show_what_lies_below_their_holes() {
    let f = Folder::new();
    let base = edited(&vec![0; 2 * SIZE], 0, 2 * SIZE, 1);
    let overlay = edited(&vec![0; SIZE], 0, 65_536, 2);
    let mut model = base.clone();
    model[..65_536].fill(2);
    f.base("base.vhd", &base, 1);
    f.base("over.vmdk", &overlay, 2);
    let composed = f.compose(&["base.vhd", "over.vmdk"], true).unwrap();
    // As long as the longest, and the longer one shows past the end of the shorter.
    assert!(testing::contents(composed.disk()).unwrap() == model);
    testing::conformance(composed.disk()).unwrap();
}

/// The rule of the merge, sector by sector and as plainly as it can be said.
fn model(base: &[u8], siblings: &[Vec<u8>], block: usize) -> Result<Vec<u8>, usize> {
    let size = siblings.iter().map(Vec::len).fold(base.len(), usize::max);
    let full = |disk: &[u8]| {
        let mut disk = disk.to_vec();
        disk.resize(size, 0);
        disk
    };
    let base = full(base);
    let over = |s: &Vec<u8>| [s, &base[s.len()..]].concat();
    let siblings: Vec<Vec<u8>> = siblings.iter().map(over).collect();
    let mut merged = base.clone();
    for at in (0..size).step_by(block) {
        let range = at..size.min(at + block);
        let mut changes: Vec<&[u8]> = siblings
            .iter()
            .map(|s| &s[range.clone()])
            .filter(|s| *s != &base[range.clone()])
            .collect();
        changes.dedup();
        match changes.as_slice() {
            [] => {}
            [one] => merged[range].copy_from_slice(one),
            _ if changes.iter().all(|c| c == &changes[0]) => {
                merged[range].copy_from_slice(changes[0])
            }
            _ => return Err(at),
        }
    }
    Ok(merged)
}

proptest! {
    #[test]
    fn merging_follows_the_rule(
        sizes in prop::array::uniform4(1..200usize),
        edits in prop::collection::vec((0..3usize, any::<usize>(), 1..9usize, 0..4u8), 0..14),
        block in prop_oneof![Just(512usize), Just(4096)],
    ) {
        let base: Vec<u8> = (0..sizes[0] * 512).map(|i| (i / 512 % 5) as u8).collect();
        let mut siblings: Vec<Vec<u8>> = sizes[1..].iter().map(|_| base.clone()).collect();
        for (which, size) in sizes[1..].iter().enumerate() {
            // Longer or a little shorter than the base.
            let len = (base.len() + size % 9 * 512).saturating_sub(4 * 512).max(512);
            siblings[which].resize(len, 0);
        }
        for (which, at, sectors, byte) in edits {
            let disk = &mut siblings[which];
            let start = at % (disk.len() / 512) * 512;
            let end = disk.len().min(start + sectors * 512);
            disk[start..end].fill(byte);
        }
        let named = |name: &str, disk: &Vec<u8>| Sibling { name: name.into(), disk: Arc::new(disk.clone()) };
        let options = MergeOptions { granularity: block as u64, preferences: vec![] };
        let merged = Merged::new(
            named("base", &base),
            siblings.iter().map(|s| named("s", s)).collect(),
            options,
        ).unwrap();
        let plan = merge_plan::plan(&merged, &Job::default()).unwrap();
        prop_assert_eq!(
            plan.base + plan.alike + plan.conflict + plan.taken.iter().sum::<u64>(),
            merged.size()
        );
        match model(&base, &siblings, block) {
            Ok(expected) => {
                prop_assert_eq!(plan.conflict, 0);
                prop_assert!(testing::contents(&merged).unwrap() == expected);
                prop_assert_eq!(testing::conformance(&merged), Ok(()));
            }
            Err(at) => {
                prop_assert!(plan.conflict > 0);
                prop_assert_eq!(plan.conflicts[0].range.start, at as u64);
                prop_assert_eq!(
                    testing::contents(&merged).err().map(|e| e.kind()),
                    Some(ErrorKind::Conflict)
                );
                // Settled for one sibling everywhere, the merge can be read.
                let options = MergeOptions {
                    granularity: block as u64,
                    preferences: (0..3)
                        .map(|sibling| Preference { sibling, range: 0..u64::MAX })
                        .collect(),
                };
                let merged = Merged::new(
                    named("base", &base),
                    siblings.iter().map(|s| named("s", s)).collect(),
                    options,
                ).unwrap();
                prop_assert_eq!(merge_plan::plan(&merged, &Job::default()).unwrap().conflict, 0);
                prop_assert!(testing::contents(&merged).is_ok());
            }
        }
    }
}

#[test]
fn a_preference_settles_only_its_range() {
    let base = vec![0; 8192];
    let (a, b) = (edited(&base, 0, 8192, 1), edited(&base, 0, 8192, 2));
    let named = |name: &str, disk: &Vec<u8>| Sibling {
        name: name.into(),
        disk: Arc::new(disk.clone()),
    };
    let merged = |range: std::ops::Range<u64>| {
        let preferences = vec![Preference { sibling: 1, range }];
        let options = MergeOptions {
            granularity: 512,
            preferences,
        };
        Merged::new(
            named("base", &base),
            vec![named("a", &a), named("b", &b)],
            options,
        )
        .unwrap()
    };
    let plan = merge_plan::plan(&merged(0..4096), &Job::default()).unwrap();
    assert_eq!(
        (plan.settled, plan.conflict, plan.taken),
        (4096, 4096, vec![0, 4096])
    );
    let mut half = vec![0; 4096];
    merged(0..4096).read_at(0, &mut half).unwrap();
    assert!(half.iter().all(|&byte| byte == 2));
}
