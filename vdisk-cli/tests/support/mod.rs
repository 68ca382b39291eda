//! Runs the program and its peers, and makes up contents: for the tests beside this folder.

pub(crate) mod peers;

use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

/// Says that something was not tested, past the capture of the test harness: a skipped test must
/// not look like one that passed.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What it printed, if it ended well.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }
}

/// Runs `program` in `folder` without input.
pub(crate) fn run(program: impl AsRef<Path>, folder: &Path, arguments: &[&str]) -> Said {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    Said {
        command: format!("{} {}", program.display(), arguments.join(" ")),
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `vdisk` in `folder`, with 256 MiB of memory and no more: a run that asks for more ends.
pub(crate) fn vdisk(folder: &Path, arguments: &[&str]) -> Said {
    let limited = "ulimit -d 262144 && exec \"$@\"";
    let mut all = vec!["-c", limited, "bash", env!("CARGO_BIN_EXE_vdisk")];
    all.extend(arguments);
    run("bash", folder, &all)
}

/// Runs `vdisk` with `--json` and returns what it printed.
pub(crate) fn vdisk_json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let text = vdisk(folder, &all).good();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{all:?}: {e}: {text}"))
}

/// The digest that `vdisk hash` prints for `image`.
pub(crate) fn vdisk_hash(folder: &Path, image: &str) -> String {
    let json = vdisk_json(folder, &["hash", image]);
    let digest = json["sha256"].as_str().unwrap_or_default().to_owned();
    assert_eq!(json["schema"], 1, "{json}");
    assert_eq!(digest.len(), 64, "{json}");
    digest
}

/// Checks that a refusal is one: an exit code that says so, one sentence, no panic.
pub(crate) fn assert_refused(said: &Said) {
    assert!(matches!(said.code, Some(2..=4)), "{said:#?}");
    let errors: Vec<&str> = said
        .err
        .lines()
        .filter(|l| l.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "one sentence says why: {said:#?}");
    for word in ["panicked", "RUST_BACKTRACE", "unwrap"] {
        assert!(!said.err.contains(word), "{said:#?}");
    }
}

/// SHA-256 of a file's bytes, without holding them.
pub(crate) fn file_sha256(path: &Path) -> String {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = io::Read::read(&mut file, &mut buffer).unwrap();
        if len == 0 {
            return vdisk_core::ops::hash::hex(&hasher.finalize());
        }
        hasher.update(&buffer[..len]);
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    vdisk_core::ops::hash::hex(&Sha256::digest(bytes))
}

/// One line of a table, by the names of its columns.
pub(crate) type Row = HashMap<String, String>;

/// Reads a file of lines with tabs between the columns; the first line names them.
pub(crate) fn table(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let split = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines().filter(|l| !l.is_empty()).map(split);
    let columns = lines.next().unwrap_or_default();
    lines
        .map(|row| columns.iter().cloned().zip(row).collect())
        .collect()
}

/// Numbers that look random and are the same in each run (SplitMix64, public domain, S. Vigna).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// `size` bytes as disks have them: runs of zeros, of one byte, of a pattern and of noise, cut at
/// sectors, some of them longer than a VHD block.
pub(crate) fn contents(dice: &mut Dice, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let sectors = dice.pick(&[1, 3, 8, 100, 128, 129, 1000, 5000]);
        let len = (512 * (1 + dice.below(sectors))).min((size - bytes.len()) as u64);
        let len = usize::try_from(len).unwrap();
        let byte = dice.roll().to_le_bytes()[0];
        match dice.below(5) {
            0 | 1 => bytes.resize(bytes.len() + len, 0),
            2 => bytes.resize(bytes.len() + len, byte),
            3 => bytes.extend((0..len).map(|i| byte ^ (i / 7).to_le_bytes()[0])),
            _ => bytes.extend((0..len).map(|_| dice.roll().to_le_bytes()[3])),
        }
    }
    bytes
}
