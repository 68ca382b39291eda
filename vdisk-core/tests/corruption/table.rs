//! What a row of the table is, and the files of an image.

use std::{fs, path::Path};
use vdisk_core::check::Severity;

/// The files of one image, in memory. The first is the one that is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// An image that is one file.
    pub(crate) fn one(name: &str, bytes: Vec<u8>) -> Self {
        Self(vec![(name.to_owned(), bytes)])
    }

    /// Adds a file.
    pub(crate) fn and(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.0.push((name.to_owned(), bytes));
        self
    }

    /// The name of the file that is opened.
    pub(crate) fn first(&self) -> &str {
        &self.0[0].0
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The bytes of the file that is opened.
    pub(crate) fn main(&mut self) -> &mut Vec<u8> {
        &mut self.0[0].1
    }

    /// The bytes of the file `name`.
    pub(crate) fn file(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.0.iter_mut().find(|(n, _)| n == name);
        &mut found.unwrap_or_else(|| panic!("no file {name}")).1
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// Writes all files to a new folder.
    pub(crate) fn write(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.0 {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    /// All files of `folder`, by name.
    pub(crate) fn read(folder: &Path) -> Self {
        let files = fs::read_dir(folder).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        Self(files.collect()).sorted()
    }

    pub(crate) fn sorted(&self) -> Self {
        let mut files = self.0.clone();
        files.sort();
        Self(files)
    }
}

/// An undamaged image and the ways to damage it.
pub(crate) struct Image {
    /// For messages; each once.
    pub(crate) name: &'static str,
    /// Small (some 100 KiB), the same each time, written without the crate's own structures.
    pub(crate) build: fn() -> Files,
    pub(crate) rows: Vec<Row>,
}

/// One way to damage an image, and what must be said of it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) damage: fn(&mut Files),
    /// Rule of the finding.
    pub(crate) rule: &'static str,
    /// What its part must contain.
    pub(crate) part: &'static str,
    pub(crate) severity: Severity,
    /// The file that the finding names, if not the one that is opened.
    pub(crate) file: Option<&'static str>,
    /// Found only when all data are read.
    pub(crate) deep: bool,
    /// Can be repaired, so that the contents are as before.
    pub(crate) repairs: bool,
}

/// A row that is an error without a repair.
pub(crate) fn row(
    name: &'static str,
    damage: fn(&mut Files),
    rule: &'static str,
    part: &'static str,
) -> Row {
    Row {
        name,
        damage,
        rule,
        part,
        severity: Severity::Error,
        file: None,
        deep: false,
        repairs: false,
    }
}

#[allow(dead_code, reason = "not every format needs each of them")]
impl Row {
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
    pub(crate) fn note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }
    pub(crate) fn in_file(mut self, name: &'static str) -> Self {
        self.file = Some(name);
        self
    }
    pub(crate) fn deep(mut self) -> Self {
        self.deep = true;
        self
    }
    pub(crate) fn repairs(mut self) -> Self {
        self.repairs = true;
        self
    }
}

/// Overwrites what is at `at`.
pub(crate) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, &value.to_le_bytes());
}
