//! Commits against byte arrays: every base and child that can be made, whatever fails and when.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod stage;

use proptest::prelude::*;
use stage::{Shape, Stage, pairs};
use std::{collections::BTreeSet, path::PathBuf};
use vdisk_core::{
    Error, ErrorKind, FileResolver, Job, OpenOptions, Result,
    ops::{
        commit::{self, Committed, Plan, Wish},
        redo,
    },
    testing::{Fault, Faulty},
    transaction::{self, Files, Medium},
};

/// True for images that are not written to in place: what they pack cannot be replaced.
fn refused(shape: Shape) -> bool {
    shape.1.name == "streamOptimized"
}

/// A stretch of a disk: first sector, sectors, and the byte they repeat.
type Edit = (u16, u16, u8);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let sectors = prop_oneof![1..9u16, 100..300u16, 2000..4200u16];
    let byte = prop_oneof![Just(0u8), any::<u8>()];
    prop::collection::vec((0..8000u16, sectors, byte), 1..4)
}

fn overwrite(disk: &mut [u8], edits: &[Edit]) {
    for &(at, sectors, byte) in edits {
        let start = usize::from(at) * 512 % disk.len();
        let end = disk.len().min(start + usize::from(sectors) * 512);
        for (i, b) in (start..end).zip(&mut disk[start..end]) {
            // Not one byte only, so that misplaced sectors are seen.
            *b = if byte == 0 {
                0
            } else {
                byte ^ (i / 512) as u8 | 1
            };
        }
    }
}

/// What each layer reads as: `size` bytes, changed by each list in turn.
fn models(size: usize, states: &[Vec<Edit>]) -> Vec<Vec<u8>> {
    let mut disk = vec![0; size];
    states
        .iter()
        .map(|edits| {
            overwrite(&mut disk, edits);
            disk.clone()
        })
        .collect()
}

struct Case {
    stage: Stage,
    resolver: FileResolver,
}

impl Case {
    fn new(base: Shape, child: Shape, models: &[Vec<u8>]) -> Self {
        Self {
            stage: Stage::new(base, child, models),
            resolver: FileResolver::default(),
        }
    }

    fn options(&self) -> OpenOptions<'_> {
        OpenOptions::new(&self.resolver)
    }

    /// Plans to commit layer `from` into layer `into`.
    fn plan(&self, from: usize, into: usize) -> Result<Plan> {
        self.plan_as(from, into, Wish::default())
    }

    fn plan_as(&self, from: usize, into: usize, wish: Wish<'_>) -> Result<Plan> {
        let into = self.stage.path(into);
        let wish = Wish {
            into: Some(&into),
            ..wish
        };
        commit::plan(&self.stage.path(from), &wish, &self.options())
    }

    fn apply(&self, plan: &Plan, medium: &dyn Medium) -> Result<Committed> {
        plan.apply(&self.options(), medium, &Job::default())
    }

    /// Commits as `apply` does, after comparing with a rehearsal; false if the target takes none.
    fn commit(&self, from: usize, into: usize) -> bool {
        let before = self.stage.files();
        let plan = self.plan(from, into).unwrap();
        let would = match plan.rehearse(&self.options(), &Job::default()) {
            Ok(would) => would,
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                let error = self.apply(&plan, &Files).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(self.stage.files() == before, "a refused commit wrote");
                return false;
            }
            Err(e) => panic!("{e}"),
        };
        assert!(self.stage.files() == before, "a rehearsal wrote");
        let done = self.apply(&plan, &Files).unwrap();
        assert_eq!(done, would);
        self.holds(from, into);
        true
    }

    /// Layer `from` reads as before, and so does `into`; nothing is left over, nothing is wrong.
    fn holds(&self, from: usize, into: usize) {
        let model = &self.stage.models[from];
        for number in [from, into] {
            let mut found = self.stage.read(&self.stage.path(number)).unwrap();
            found.truncate(model.len());
            assert!(found == *model, "layer {number} reads as something else");
            self.stage.check(number);
        }
        for number in 0..into {
            let found = self.stage.read(&self.stage.path(number)).unwrap();
            assert!(found == self.stage.models[number], "layer {number} changed");
        }
        let journal = |path: &PathBuf| path.to_string_lossy().ends_with("journal");
        assert!(!self.stage.files().iter().any(|(path, _)| journal(path)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn the_target_reads_as_the_child_and_the_child_as_before(
        states in prop::collection::vec(edits(), 3..4),
        sectors in 2000..9000usize,
        depths in prop_oneof![Just((1, 0)), Just((2, 1)), Just((2, 0))],
    ) {
        let models = models(sectors * 512, &states);
        for (base, child) in pairs() {
            let case = Case::new(base, child, &models);
            let (from, into) = depths;
            let target = if into == 0 { base } else { child };
            let done = case.commit(from, into);
            prop_assert_eq!(done, !refused(target), "{}", target.1.name);
        }
    }
}

/// A disk of a few blocks, and two states of it.
fn small() -> Vec<Vec<u8>> {
    let states = [
        vec![(0, 300, 7), (4500, 20, 9)],
        vec![(10, 5, 1), (200, 200, 2), (4505, 3, 0), (2000, 8, 4)],
        vec![(12, 1, 6), (250, 300, 0), (5000, 8, 5)],
    ];
    models(5200 * 512, &states)
}

/// Every base that can be written to in place, with the first child that can be made of it.
fn updatable() -> Vec<(Shape, Shape)> {
    let mut found = pairs();
    found.retain(|(base, _)| !refused(*base));
    found.dedup_by_key(|(base, _)| (base.0.name(), base.1.name));
    found
}

#[test]
fn a_commit_is_made_whole_or_taken_back_at_every_operation() {
    for (base, child) in updatable() {
        let case = Case::new(base, child, &small());
        let old = case.stage.files();
        let target = case.stage.path(0);
        for fault in [Fault::Killed, Fault::PowerLoss(5)] {
            for good in 0.. {
                case.stage.restore(&old);
                let medium = Faulty::new(fault, good);
                let plan = case.plan(2, 0).unwrap();
                let done = case.apply(&plan, &medium);
                let what = format!("{}: {fault:?} after {good}: {done:?}", base.1.name);
                match done {
                    Ok(_) => case.holds(2, 0),
                    Err(_) => match transaction::undo(&target, &Files) {
                        Ok(_) => assert!(same(&case, &old), "{what}"),
                        // The journal was not there yet, or is gone already.
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::Usage, "{what}: {e}");
                            if !same(&case, &old) {
                                case.holds(2, 0);
                            }
                        }
                    },
                }
                if !medium.failed() {
                    break;
                }
            }
        }
    }
}

/// The images hold what they held; a file that never got its name may be left.
fn same(case: &Case, old: &[(PathBuf, Vec<u8>)]) -> bool {
    let mut now = case.stage.files();
    now.retain(|(path, _)| !path.to_string_lossy().ends_with(".partial"));
    now == old
}

#[test]
fn a_commit_that_was_killed_is_resumed() {
    for (base, child) in updatable() {
        let case = Case::new(base, child, &small());
        let old = case.stage.files();
        let target = case.stage.path(0);
        let mut resumed = 0;
        for good in 0.. {
            case.stage.restore(&old);
            let medium = Faulty::new(Fault::Torn, good);
            let plan = case.plan(2, 0).unwrap();
            let done = case.apply(&plan, &medium);
            if transaction::unfinished(&target).unwrap().is_some() {
                // Nobody opens what is half changed, and everybody is told of the journal, also where
                // the layer between has its new identity already.
                for number in [0, 1, 2] {
                    let error = case.stage.read(&case.stage.path(number)).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Conflict, "layer {number}: {error}");
                    assert!(error.to_string().contains("vdisk-journal"), "{error}");
                }
                redo::resume(&target, &case.options(), &Files, &Job::default()).unwrap();
                case.holds(2, 0);
                resumed += 1;
            }
            if done.is_ok() && !medium.failed() {
                break;
            }
        }
        assert!(resumed > 3, "{} was resumed {resumed} times", base.1.name);
    }
}

#[test]
fn children_that_would_suffer_stop_a_commit() {
    for (base, child) in updatable().into_iter().filter(|(b, _)| b.0.name() != "raw") {
        let case = Case::new(base, child, &small());
        let ending = child.0.extensions()[0];
        let model = case.stage.models[1].clone();
        // A child of the target, and one of the layer between.
        let low = case.stage.named(&format!("low.{ending}"));
        let high = case.stage.named(&format!("high.{ending}"));
        case.stage
            .write(child, &low, &model, Some(&case.stage.path(0)));
        case.stage
            .write(child, &high, &model, Some(&case.stage.path(1)));
        let before = case.stage.files();
        let plan = case.plan(2, 0).unwrap();
        let found: BTreeSet<PathBuf> = plan.siblings.iter().cloned().collect();
        assert_eq!(found, BTreeSet::from([low.clone(), high.clone()]));
        let error = case.apply(&plan, &Files).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("low."), "{error}");
        assert!(case.stage.files() == before);
        // The layer between stays as it is, if only the low layer changes.
        let plan = case.plan(1, 0).unwrap();
        assert_eq!(plan.siblings, [low.as_path()]);

        let wish = Wish {
            orphan: true,
            ..Wish::default()
        };
        let plan = case.plan_as(2, 0, wish).unwrap();
        case.apply(&plan, &Files).unwrap();
        case.holds(2, 0);
        for path in [low, high] {
            let error = case.stage.read(&path).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Reference,
                "never wrong data: {error}"
            );
        }
    }
}

#[test]
fn a_changed_file_stops_a_planned_commit() {
    let (base, child) = updatable()[0];
    let case = Case::new(base, child, &small());
    let plan = case.plan(2, 0).unwrap();
    let target = case.stage.path(0);
    let bytes = std::fs::read(&target).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    std::fs::write(&target, &bytes).unwrap();
    let error = case.apply(&plan, &Files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // Of restored files only the length must be the same.
    case.apply(&plan.again(), &Files).unwrap();
    case.holds(2, 0);
}

#[test]
fn disks_of_other_sizes() {
    for (base, child) in updatable() {
        let models = small();
        let longer = {
            let mut disk = models[1].clone();
            disk.resize(6000 * 512, 3);
            disk
        };
        let case = Case::new(base, child, &[models[0].clone(), longer]);
        let error = case.plan(1, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");

        // A shorter child, and one that is longer again: what lies between reads as zero. The last
        // sectors of the child share a block with what the target keeps.
        let cut = 4501 * 512;
        let shorter = models[1][..cut].to_vec();
        let mut top = models[2].clone();
        top[cut..].fill(0);
        let stages = [models[0].clone(), shorter.clone(), top];
        let case = Case::new(base, child, &stages[..2]);
        let plan = case.plan(1, 0).unwrap();
        case.apply(&plan, &Files).unwrap();
        let whole = case.stage.read(&case.stage.path(0)).unwrap();
        assert_eq!(case.stage.size(0) as usize, models[0].len());
        assert!(whole[..cut] == shorter && whole[cut..] == models[0][cut..]);
        assert!(case.stage.read(&case.stage.path(1)).unwrap() == shorter);

        let case = Case::new(base, child, &stages);
        let plan = case.plan(2, 0).unwrap();
        case.apply(&plan, &Files).unwrap();
        case.holds(2, 0);
    }
}

#[test]
fn only_a_vhd_keeps_its_identity() {
    for (base, child) in updatable() {
        let case = Case::new(base, child, &small());
        let wish = Wish {
            keep_identity: true,
            ..Wish::default()
        };
        let refused = |e: Error| assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
        match case.plan_as(2, 0, wish) {
            Err(e) => {
                assert!(!["vhd", "raw"].contains(&base.0.name()));
                refused(e);
            }
            Ok(plan) => {
                assert!(case.stage.is_raw(0) || base.0.name() == "vhd");
                case.apply(&plan, &Files).unwrap();
                case.holds(2, 0);
            }
        }
    }
}
