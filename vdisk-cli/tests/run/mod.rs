//! Runs the real program in a folder of its own.
#![allow(dead_code)] // each test program uses a part of it

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How a run ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no '{text}' in {self:#?}");
        self
    }
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "no '{text}' in {self:#?}");
        self
    }
}

/// A temporary folder with images in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, ready to run `args` (separated by spaces) here, away from any terminal.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vdisk"));
        command
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("COLUMNS")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &str) -> Ran {
        ran(&mut self.command(args))
    }

    /// Starts `args`, sends `signal` when an output is under way, and returns the exit code.
    #[track_caller]
    pub(crate) fn interrupt(&self, args: &str, signal: &str) -> Option<i32> {
        let before = self.names().len();
        let mut child = self
            .command(args)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(30);
        while self.names().len() == before {
            assert!(Instant::now() < patience, "no output was begun");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        child.wait().unwrap().code()
    }

    /// Runs a shell line; `$V` is the program.
    pub(crate) fn shell(&self, line: &str) -> Ran {
        ran(Command::new("sh")
            .args(["-c", line])
            .env("V", env!("CARGO_BIN_EXE_vdisk"))
            .current_dir(self.0.path())
            .stdin(Stdio::null()))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// What the image reads as, through `convert` to raw.
    #[track_caller]
    pub(crate) fn contents(&self, image: &str) -> Vec<u8> {
        let args = format!("convert {image} -o -");
        let output = self.command(&args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// All file names, hidden ones too, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// The same of a folder in it.
    pub(crate) fn read_dir(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// `len` bytes that differ from sector to sector; another `seed` makes other bytes.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8))
        .flat_map(|_| next())
        .take(len)
        .collect()
}
