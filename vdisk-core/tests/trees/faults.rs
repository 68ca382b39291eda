//! The last change of a story fails at each of its operations, in each way: afterwards every image reads
//! as before it, or every image as after it.

use crate::{
    expect::Fate,
    kinds,
    model::{Model, Tree},
    peers::nobody_starts,
    perform::Unflushed,
    runner,
    steps::{Step, base, clone, commit, compact, resize, write},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use vdisk_core::{
    Error, ErrorKind, Job, Result,
    ops::redo,
    testing::{Fault, Faulty},
    transaction::{self, Medium},
};

/// How many stories are told.
const CASES: u32 = 6;

/// How often a change is made to fail in one way; those of fewer operations fail at each.
const TRIES: u64 = 32;

/// Counts the operations of a change.
#[derive(Default)]
struct Counting(AtomicU64);

impl Counting {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Medium for Counting {
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.next();
        Unflushed.write_at(file, at, bytes)
    }
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.next();
        Unflushed.set_len(file, len)
    }
    fn sync(&self, _: &File) -> io::Result<()> {
        self.next();
        Ok(())
    }
    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        self.next();
        Unflushed.punch(file, range)
    }
    fn publish(&self, file: tempfile::NamedTempFile, path: &Path) -> io::Result<File> {
        self.next();
        Unflushed.publish(file, path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.next();
        fs::remove_file(path)
    }
}

/// Disks and what grows on them; then changes of each kind, each of which is made alone.
fn stories() -> impl Strategy<Value = (Vec<Step>, [Vec<Step>; 4])> {
    let grown = prop_oneof![6 => clone(), 8 => write(), 1 => commit(), 1 => resize()];
    let grown = prop::collection::vec(grown, 2..8);
    let few = 6..7;
    let last = (
        prop::collection::vec(commit(), few.clone()),
        prop::collection::vec(compact(), few.clone()),
        prop::collection::vec(resize(), few.clone()),
        prop::collection::vec(write(), few),
    );
    let last = last.prop_map(|(a, b, c, d)| [a, b, c, d]);
    (prop::collection::vec(base(), 1..3), grown, last).prop_map(|(mut all, grown, last)| {
        all.extend(grown);
        (all, last)
    })
}

/// A change, and what is before and after it.
struct Scene<'a> {
    tree: &'a Tree,
    step: &'a Step,
    /// The image beside which the journal lies.
    main: PathBuf,
    before: Vec<(PathBuf, Vec<u8>)>,
    after: Model,
}

impl Scene<'_> {
    /// Makes the change with a medium that fails after `good` operations.
    fn fail(&self, fault: Fault, good: u64) {
        self.tree.restore(&self.before);
        let medium = Faulty::new(fault, good);
        let done = self.tree.perform(self.step, &medium);
        let what = format!("{fault:?} after {good}: {done:?}");
        let left = transaction::unfinished(&self.main).unwrap();
        match (&done, left) {
            (Ok(()), None) => self.is_after(&what),
            (Ok(()), Some(_)) => panic!("{what}: the journal is still there"),
            (Err(error), None) if fault == Fault::Full => {
                assert!(error.to_string().contains("nothing was changed"), "{what}");
                assert!(self.is_before(), "{what}");
            }
            (Err(_), None) => {
                if !self.is_before() {
                    self.is_after(&what);
                }
            }
            (Err(error), Some(left)) => {
                let journal = left.journal.to_string_lossy();
                assert!(error.to_string().contains(&*journal), "{what}");
                self.refused(&what);
                match good.is_multiple_of(2) && !left.redo.is_empty() {
                    true => self.resume(good, &what),
                    false => self.undo(good, &what),
                }
            }
        }
    }

    /// What is half changed is not opened.
    fn refused(&self, what: &str) {
        let subject = self.tree.subject(self.step).unwrap();
        for index in self.tree.model.family(subject) {
            let error = self.tree.open(index).map(drop).unwrap_err();
            // The journal is seen, or on the way to it a parent of another identity.
            let known = [ErrorKind::Conflict, ErrorKind::Reference].contains(&error.kind());
            assert!(known, "{what}: {error}");
        }
    }

    fn undo(&self, good: u64, what: &str) {
        let _guard = nobody_starts();
        // The way back can be cut short, too.
        let cut: Result<_, Error> =
            transaction::undo(&self.main, &[], &Faulty::new(Fault::Torn, good % 7));
        if cut.is_err() {
            transaction::undo(&self.main, &[], &Unflushed)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        assert!(self.is_before(), "{what}: not as before after undo");
    }

    fn resume(&self, good: u64, what: &str) {
        let _guard = nobody_starts();
        let (options, job) = (self.tree.options(), Job::default());
        let resume = |medium: &dyn Medium| redo::resume(&self.main, &[], &options, medium, &job);
        let cut = resume(&Faulty::new(Fault::Killed, good));
        match transaction::unfinished(&self.main).unwrap() {
            Some(_) => drop(resume(&Unflushed).unwrap_or_else(|e| panic!("{what}: {e}"))),
            // Killed between the two halves.
            None if cut.is_err() => return assert!(self.is_before(), "{what}"),
            None => {}
        }
        self.is_after(&format!("{what}, resumed"));
    }

    /// All files are as they were. A compaction may have written over gaps, which nothing refers to.
    fn is_before(&self) -> bool {
        let now = self.tree.files();
        if now == self.before {
            return true;
        }
        let outside = |files: &[(PathBuf, Vec<u8>)]| -> Vec<(PathBuf, usize)> {
            let files = files.iter();
            files.map(|(path, b)| (path.clone(), b.len())).collect()
        };
        let gaps = matches!(self.step, Step::Compact { .. });
        let same = gaps && outside(&now) == outside(&self.before);
        if !same || self.tree.differs(&self.tree.model).is_some() {
            return false;
        }
        self.tree.check();
        true
    }

    fn is_after(&self, what: &str) {
        if let Some(trouble) = self.tree.differs(&self.after) {
            panic!("{what}: {trouble}");
        }
    }
}

/// Makes `step` fail in all ways, from how the tree is; false if it has nothing to change.
fn fail(tree: &mut Tree, step: &Step) -> bool {
    let Fate::Make(after) = tree.expect(step) else {
        return false;
    };
    let main = tree.subject(step).unwrap();
    let (before, old) = (tree.files(), tree.model.clone());
    let counting = Counting::default();
    tree.perform(step, &counting).unwrap();
    let changed = tree.files() != before;
    tree.settle(*after);
    let after = std::mem::replace(&mut tree.model, old);
    let scene = Scene {
        main: tree.model.node(main).path.clone(),
        tree,
        step,
        before,
        after,
    };
    let operations = counting.0.into_inner();
    let stride = operations.div_ceil(TRIES).max(1) as usize;
    let faults = [
        Fault::Killed,
        Fault::Torn,
        Fault::PowerLoss(operations),
        Fault::Full,
    ];
    for fault in faults.into_iter().filter(|_| changed) {
        for good in (0..=operations).step_by(stride) {
            scene.fail(fault, good);
        }
    }
    scene.tree.restore(&scene.before);
    changed
}

#[test]
fn a_change_that_fails_is_made_whole_or_not_at_all() {
    let done: RefCell<BTreeSet<&str>> = RefCell::default();
    let verbs = ["write", "commit", "compact", "resize"];
    // Stories are random: go on until each verb had something to do.
    for _ in 0..20 {
        let told = runner(CASES).run(&(kinds(), stories()), |(kinds, (steps, last))| {
            let mut tree = Tree::new(kinds);
            for step in &steps {
                tree.make(step);
            }
            for alike in &last {
                // The first that changes anything.
                if let Some(step) = alike.iter().find(|step| fail(&mut tree, step)) {
                    done.borrow_mut().insert(step.verb());
                }
            }
            Ok::<(), TestCaseError>(())
        });
        told.unwrap_or_else(|e| panic!("{e}"));
        if verbs.iter().all(|verb| done.borrow().contains(verb)) {
            break;
        }
    }
    for verb in verbs {
        assert!(done.borrow().contains(verb), "no {verb} was made to fail");
    }
}
