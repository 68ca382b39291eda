//! Images that get another parent, become children or are carried as deltas: against byte arrays.
//!
//! Random trees of images in files, of all formats that have children; after each operation every
//! image must still read as its own array says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use vdisk_core::{
    Chain, Disk, ErrorKind, FileResolver, Ids, Job, OpenOptions, format,
    format::{Options, ParentSpec, Spec},
    ops::{
        changes, child, convert,
        delta::{self, Delta},
        rebase::{self, Wish},
        repoint, split,
    },
    target::{Output, OutputOptions},
    testing,
};

const SECTOR: usize = 512;

fn resolver() -> FileResolver {
    FileResolver::default()
}

fn open(path: &Path) -> Chain {
    vdisk_core::open(path, &OpenOptions::new(&resolver()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes `contents` to `path`, as a base or as a child of the image at `parent`.
fn write(path: &Path, contents: &Vec<u8>, parent: Option<&Path>, subformat: Option<&str>) {
    let format = format::by_extension(path).unwrap();
    let parent = parent.map(open);
    let default = format
        .subformats()
        .iter()
        .find(|s| s.child == parent.is_some() || s.name == "monolithicSparse");
    let subformat = match subformat {
        Some(name) => format::subformat(format, Some(name)).unwrap(),
        None => default.unwrap(),
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    let spec = Spec {
        size: contents.size(),
        subformat,
        name,
        ids: Ids::random(1_000_000_000),
        level: 1,
        parent: parent
            .as_ref()
            .map(|p| child::place(p, path, false).unwrap().spec),
        options: Options::default(),
    };
    let mut output = Output::create(path, OutputOptions::default()).unwrap();
    let writer = format.create(&mut output, &spec).unwrap();
    match &parent {
        Some(parent) => {
            changes::write(parent, contents, writer, &Job::default()).unwrap();
        }
        None => convert::copy(contents, writer, &Job::default()).unwrap(),
    }
    output.publish().unwrap();
}

fn wish() -> Wish {
    Wish {
        created: 1_000_000_000,
        ..Wish::default()
    }
}

/// An image of the tree: its file, and what it must read as.
struct Node {
    path: PathBuf,
    model: Vec<u8>,
    parent: Option<usize>,
}

struct Tree {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

/// How a disk differs from the one that it is made from.
#[derive(Clone, Debug)]
struct Change {
    from: u8,
    /// Sectors, and the byte they repeat.
    at: u16,
    len: u16,
    byte: u8,
    /// Sectors that the disk is longer or shorter.
    grow: i16,
    /// A child, or a full image of the same format.
    child: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// The image becomes a child of another one, in its place.
    Rehang(u8, u8),
    /// The same, as a new image.
    Beside(u8, u8),
    /// What is between two disks, and back.
    Carry(u8, u8),
}

impl Tree {
    fn new(formats: &[u8], seed: &[u8], changes: &[Change]) -> Self {
        let mut tree = Self {
            folder: tempfile::tempdir().unwrap(),
            nodes: Vec::new(),
        };
        for (number, kind) in formats.iter().enumerate() {
            let ending = ["vmdk", "vhd", "vhdx", "raw"][usize::from(*kind) % 4];
            let mut model: Vec<u8> = seed
                .iter()
                .flat_map(|byte| vec![byte.wrapping_mul(number as u8 + 1); 40 * SECTOR])
                .collect();
            model.resize(model.len().max(SECTOR), 0);
            tree.add(ending, model, None);
        }
        for change in changes {
            let from = usize::from(change.from) % tree.nodes.len();
            let mut model = tree.nodes[from].model.clone();
            let sectors = i32::try_from(model.len() / SECTOR).unwrap() + i32::from(change.grow);
            model.resize(sectors.max(1) as usize * SECTOR, 0);
            let start = usize::from(change.at) * SECTOR % model.len();
            let end = model.len().min(start + usize::from(change.len) * SECTOR);
            model[start..end].fill(change.byte);
            let ending = match tree.nodes[from].path.extension().unwrap().to_str().unwrap() {
                "raw" if change.child => "vhd",
                other => other,
            };
            let ending = ending.to_owned();
            tree.add(&ending, model, change.child.then_some(from));
        }
        tree
    }

    fn add(&mut self, ending: &str, model: Vec<u8>, parent: Option<usize>) {
        let name = format!("{}.{ending}", self.nodes.len());
        let path = self.folder.path().join(name);
        write(
            &path,
            &model,
            parent.map(|p| self.nodes[p].path.as_path()),
            None,
        );
        self.nodes.push(Node {
            path,
            model,
            parent,
        });
    }

    fn is_above(&self, node: usize, other: usize) -> bool {
        let mut at = Some(other);
        while let Some(one) = at {
            if one == node {
                return true;
            }
            at = self.nodes[one].parent;
        }
        false
    }

    fn take(&mut self, step: &Step) {
        let index = |n: u8| usize::from(n) % self.nodes.len();
        let options = OpenOptions::new(&RESOLVER);
        match *step {
            Step::Rehang(one, onto) | Step::Beside(one, onto) => {
                let (one, onto) = (index(one), index(onto));
                let beside = matches!(step, Step::Beside(..));
                let (image, parent) = (open(&self.nodes[one].path), open(&self.nodes[onto].path));
                let allowed = child::check(&parent, image.top().format()).is_ok()
                    && image.top().format().name() != "raw"
                    && !self.is_above(one, onto);
                let ending = image.top().format().name();
                let output = self
                    .folder
                    .path()
                    .join(format!("{}.{ending}", self.nodes.len()));
                let wish = Wish {
                    output: beside.then(|| output.clone()),
                    ..wish()
                };
                let planned = rebase::plan(&image, &parent, &wish);
                assert_eq!(planned.is_ok(), allowed, "{one} onto {onto}");
                let Ok(plan) = planned else {
                    return;
                };
                // A plan can be kept as text.
                let text = serde_json::to_string(&plan).unwrap();
                let plan: rebase::Plan = serde_json::from_str(&text).unwrap();
                let old = image.top().facts().identity;
                let estimate = plan.measure(&options, &Job::default()).unwrap();
                let done = plan.apply(&options, false, &Job::default()).unwrap();
                assert!(done.kept);
                assert_eq!(done.recorded, estimate.recorded);
                if beside {
                    let model = self.nodes[one].model.clone();
                    self.nodes.push(Node {
                        path: output.clone(),
                        model,
                        parent: Some(onto),
                    });
                    assert_eq!(open(&output).top().facts().identity, old);
                } else {
                    self.nodes[one].parent = Some(onto);
                    assert_eq!(open(&self.nodes[one].path).top().facts().identity, old);
                }
            }
            Step::Carry(a, b) => {
                let (a, b) = (&self.nodes[index(a)], &self.nodes[index(b)]);
                let path = self.folder.path().join("delta.vmdk");
                carry(&open(&a.path), &open(&b.path), &path);
                let layer = vdisk_core::open_layer(&path, &options).unwrap();
                let found = Delta::of(&layer).unwrap();
                assert_eq!(found.base.size, a.model.size());
                found.check_base(&open(&a.path), &Job::default()).unwrap();
                let made = delta::onto(layer, &open(&a.path)).unwrap();
                assert!(testing::contents(&made).unwrap() == b.model, "delta");
                found.check_result(&made, &Job::default()).unwrap();
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    fn check(&self, after: &str) {
        for node in &self.nodes {
            let chain = open(&node.path);
            let mut depth = 1;
            let mut at = node.parent;
            while let Some(parent) = at {
                depth += 1;
                at = self.nodes[parent].parent;
            }
            let name = node.path.display();
            assert_eq!(chain.layers().len(), depth, "{name} {after}");
            let found = testing::contents(&chain).unwrap();
            assert!(found == node.model, "{name} {after}");
        }
        let left = std::fs::read_dir(self.folder.path()).unwrap().count();
        assert_eq!(left, self.nodes.len(), "files left behind {after}");
    }
}

static RESOLVER: FileResolver = FileResolver {
    allowed: Vec::new(),
    parents: Vec::new(),
    devices: false,
    access: vdisk_core::storage::Access::Positioned,
};

/// Writes the delta from `a` to `b`.
fn carry(a: &Chain, b: &Chain, path: &Path) {
    let delta = Delta::between(a, b, &Job::default()).unwrap();
    let vmdk = format::named("vmdk").unwrap();
    let parent: ParentSpec = delta.parent(a, path).unwrap();
    let spec = Spec {
        size: b.size(),
        subformat: format::subformat(vmdk, Some("streamOptimized")).unwrap(),
        name: "delta.vmdk",
        ids: Ids::random(0),
        level: 6,
        parent: Some(parent),
        options: Options {
            notes: delta.notes(),
            ..Options::default()
        },
    };
    let mut output = Output::create(path, OutputOptions::default()).unwrap();
    let writer = vmdk.create(&mut output, &spec).unwrap();
    changes::write(a, b, writer, &Job::default()).unwrap();
    output.publish().unwrap();
}

fn changes_of_disks() -> impl Strategy<Value = Vec<Change>> {
    let one = (
        any::<u8>(),
        any::<u16>(),
        1..400u16,
        prop_oneof![Just(0u8), any::<u8>()],
        prop_oneof![3 => Just(0i16), 1 => -300..300i16],
        prop::bool::weighted(0.7),
    );
    let one = one.prop_map(|(from, at, len, byte, grow, child)| Change {
        from,
        at,
        len,
        byte,
        grow,
        child,
    });
    prop::collection::vec(one, 1..6)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let two = || (any::<u8>(), any::<u8>());
    let one = prop_oneof![
        3 => two().prop_map(|(a, b)| Step::Rehang(a, b)),
        1 => two().prop_map(|(a, b)| Step::Beside(a, b)),
        1 => two().prop_map(|(a, b)| Step::Carry(a, b)),
    ];
    prop::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_image_keeps_what_it_reads_as(
        formats in prop::collection::vec(any::<u8>(), 1..3),
        seed in prop::collection::vec(any::<u8>(), 1..30),
        changes in changes_of_disks(),
        steps in steps(),
    ) {
        let mut tree = Tree::new(&formats, &seed, &changes);
        tree.check("at first");
        for step in &steps {
            tree.take(step);
            tree.check(&format!("after {step:?}"));
        }
    }
}

/// A base, a disk like it, and what they hold.
fn pair(folder: &Path, ending: &str) -> (PathBuf, PathBuf, Vec<u8>) {
    let model: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 512 + i) as u8).collect();
    let base = folder.join(format!("base.{ending}"));
    let disk = folder.join(format!("disk.{ending}"));
    write(&base, &model, None, None);
    write(&disk, &model, None, None);
    (base, disk, model)
}

#[test]
fn a_plan_is_not_made_to_images_that_changed_since() {
    for (ending, target) in [("vmdk", 0), ("vhd", 1), ("vhdx", 0)] {
        let folder = tempfile::tempdir().unwrap();
        let (base, disk, _) = pair(folder.path(), ending);
        let plan = rebase::plan(&open(&disk), &open(&base), &wish()).unwrap();
        let changed = [&disk, &base][target];
        let bytes = std::fs::read(changed).unwrap();
        std::fs::remove_file(changed).unwrap();
        std::fs::write(changed, &bytes).unwrap();
        let before = std::fs::read(&disk).unwrap();
        let options = OpenOptions::new(&RESOLVER);
        let error = plan.apply(&options, false, &Job::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(std::fs::read(&disk).unwrap() == before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

#[test]
fn an_image_in_use_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (base, disk, _) = pair(folder.path(), "vhd");
    let plan = rebase::plan(&open(&disk), &open(&base), &wish()).unwrap();
    let user = std::fs::File::open(&disk).unwrap();
    user.lock().unwrap();
    let options = OpenOptions::new(&RESOLVER);
    let error = plan.apply(&options, false, &Job::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(open(&disk).layers().len(), 1);
    drop(user);
    plan.apply(&options, false, &Job::default()).unwrap();
    assert_eq!(open(&disk).layers().len(), 2);
}

#[test]
fn an_image_that_would_not_get_smaller_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (base, disk, model) = pair(folder.path(), "vmdk");
    let other = folder.path().join("other.vmdk");
    let strange: Vec<u8> = model.iter().map(|b| b ^ 0x55).collect();
    write(&other, &strange, None, None);
    let wish = Wish {
        only_if_smaller: true,
        ..wish()
    };
    let options = OpenOptions::new(&RESOLVER);
    let rehang = |image: &Path| {
        let plan = rebase::plan(&open(image), &open(&base), &wish).unwrap();
        plan.apply(&options, true, &Job::default()).unwrap().kept
    };
    assert!(!rehang(&other));
    assert_eq!(open(&other).layers().len(), 1);
    assert!(rehang(&disk));
    assert_eq!(open(&disk).layers().len(), 2);
}

#[test]
fn what_can_be_kept_of_an_image_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions::new(&RESOLVER);
    let detail = |path: &Path, name: &str| {
        let chain = open(path);
        let facts = chain.top().facts().clone();
        let found = facts.details.into_iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value)
    };
    for (ending, subformat, kept) in [
        (
            "vmdk",
            "monolithicSparse",
            &["adapter type", "hardware version"][..],
        ),
        (
            "vhdx",
            "dynamic",
            &["block size", "virtual disk id", "data write GUID"],
        ),
    ] {
        let (base, disk, model) = pair(folder.path(), ending);
        std::fs::remove_file(&disk).unwrap();
        let format = format::named(ending).unwrap();
        let spec = Spec {
            size: model.size(),
            subformat: format::subformat(format, Some(subformat)).unwrap(),
            name: "disk",
            ids: Ids::random(0),
            level: 1,
            parent: None,
            options: Options {
                adapter: Some("pvscsi".to_owned()),
                hardware_version: Some(19),
                block_size: Some(8 << 20),
                disk_id: Some([7; 16]),
                ..Options::default()
            },
        };
        let mut output = Output::create(&disk, OutputOptions::default()).unwrap();
        let writer = format.create(&mut output, &spec).unwrap();
        convert::copy(&model, writer, &Job::default()).unwrap();
        output.publish().unwrap();
        let before: Vec<_> = kept.iter().map(|name| detail(&disk, name)).collect();
        assert!(before.iter().all(Option::is_some), "{before:?}");
        let plan = rebase::plan(&open(&disk), &open(&base), &wish()).unwrap();
        assert_eq!(plan.warnings, Vec::<String>::new());
        plan.apply(&options, false, &Job::default()).unwrap();
        let after: Vec<_> = kept.iter().map(|name| detail(&disk, name)).collect();
        assert_eq!(before, after);
        assert_eq!(open(&disk).layers().len(), 2);
    }
}

#[test]
fn a_raw_parent_is_known_by_its_contents_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (base, copy, model) = pair(folder.path(), "raw");
    let child = folder.path().join("child.vhd");
    let mut own = model;
    own[5000..6000].fill(9);
    write(&child, &own, Some(&base), None);
    let options = OpenOptions::new(&RESOLVER);
    let job = Job::default();
    let plan = repoint::plan(&child, &open(&copy), false, false, &options, &job).unwrap();
    assert_eq!(plan.proof, repoint::Proof::Contents);
    plan.apply(&options).unwrap();
    std::fs::remove_file(&base).unwrap();
    assert!(testing::contents(&open(&child)).unwrap() == own);
    let other = folder.path().join("other.raw");
    std::fs::write(&other, vec![1; 1 << 20]).unwrap();
    let error = repoint::plan(&child, &open(&other), false, false, &options, &job).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn a_folder_is_searched_for_disks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (base, disk, model) = pair(folder.path(), "vmdk");
    write(&at("child.vmdk"), &model, Some(&disk), None);
    write(&at("flat.vmdk"), &model, None, Some("monolithicFlat"));
    write(&at("set.vmdk"), &model, None, Some("twoGbMaxExtentSparse"));
    write(&at("package.ova"), &model, None, None);
    write(&at("top.vmdk"), &model, Some(&base), None);
    std::fs::write(at("disk.raw"), &model).unwrap();
    std::fs::write(at("notes.txt"), b"words").unwrap();
    std::fs::write(at(".hidden.raw"), &model).unwrap();
    std::fs::create_dir(at("sub.raw")).unwrap();
    std::os::unix::fs::symlink(at("disk.raw"), at("link.raw")).unwrap();
    std::fs::write(at("bad.vhdx"), b"vhdxfile").unwrap();
    let options = OpenOptions::new(&RESOLVER);
    // Over a child: its own parent is no candidate, or there would be a loop.
    let found = split::images(folder.path(), &open(&at("top.vmdk")), &options).unwrap();
    let found: Vec<String> = found
        .iter()
        .map(|f| {
            let name = f.path().file_name().unwrap().to_str().unwrap();
            let what = match f {
                split::Found::Disk(_) => "disk",
                split::Found::Left(_, why) => why,
                split::Found::Bad(..) => "bad",
            };
            format!("{name}: {what}")
        })
        .collect();
    assert_eq!(
        found,
        [
            "bad.vhdx: bad",
            "child.vmdk: has a parent already",
            "disk.raw: disk",
            "disk.vmdk: disk",
            "flat.vmdk: disk",
            "package.ova: is a package",
            "set.vmdk: disk",
        ]
    );
}

#[test]
fn a_child_of_virtualbox_goes_on_naming_its_parent_by_uuid() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let uuid = |n: u8| format!("{n:02x}dc2fa1-0c4d-4f0f-8d3c-54a2d2f8f5b6");
    let disk = |name: &str, own: u8, parent: &str| {
        std::fs::write(at(&format!("{own}-flat.vmdk")), vec![1; 512]).unwrap();
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID={own:08x}\ncreateType=\"monolithicFlat\"\n\
             RW 1 FLAT \"{own}-flat.vmdk\" 0\nddb.uuid.image=\"{}\"\n{parent}",
            uuid(own)
        );
        std::fs::write(at(name), &text).unwrap();
        text
    };
    disk("old.vmdk", 1, "");
    disk("new.vmdk", 2, "");
    let before = disk(
        "child.vmdk",
        3,
        &format!("ddb.uuid.parent=\"{}\"\n", uuid(1)),
    );
    let options = OpenOptions::new(&RESOLVER);
    let plan = |parent: &str, accept| {
        let (child, parent) = (at("child.vmdk"), open(&at(parent)));
        repoint::plan(&child, &parent, false, accept, &options, &Job::default())
    };
    let same = plan("old.vmdk", false).unwrap();
    assert_eq!(same.proof, repoint::Proof::Identity);
    assert!(same.edits(&options).unwrap().patches.is_empty());
    let error = plan("new.vmdk", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    plan("new.vmdk", true).unwrap().apply(&options).unwrap();
    let after = std::fs::read_to_string(at("child.vmdk")).unwrap();
    let line = |n| format!("ddb.uuid.parent=\"{}\"", uuid(n));
    assert_eq!(after, before.replace(&line(1), &line(2)));
}
