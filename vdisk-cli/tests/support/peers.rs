//! Other programs that read and write the same formats, and what each cannot do.
//!
//! A peer that is not installed is said and skipped, unless `VDISK_REQUIRE_PEERS=1` makes that a
//! failure. `VDISK_PEER_PYTHON` names the Python that has the readers; otherwise it is `python3`.

use super::{Said, file_sha256, run, skipped};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The first of `names` on the search path.
pub(crate) fn program(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path)
        // Where Debian keeps e2fsck, and users have no path to.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

/// `found`, or `None` after saying that `name` is missing; a failure where peers are required.
pub(crate) fn need<T>(name: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let required = env::var_os("VDISK_REQUIRE_PEERS").is_some_and(|v| v == "1");
        assert!(!required, "{name} is not installed, and peers are required");
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// qemu-img and qemu-io.
pub(crate) struct Qemu {
    img: PathBuf,
    io: PathBuf,
    /// False before version 10, which sizes a VHD by its geometry unless it knows the creator.
    pub(crate) sizes_vhd_exactly: bool,
}

impl Qemu {
    pub(crate) fn find() -> Option<Self> {
        let img = need("qemu-img", program(&["qemu-img"]))?;
        let io = need("qemu-io", program(&["qemu-io"]))?;
        let version = run(&img, Path::new("."), &["--version"]).good();
        let major: u32 = version
            .split_whitespace()
            .find_map(|word| word.split('.').next()?.parse().ok())
            .unwrap_or(0);
        Some(Self {
            img,
            io,
            sizes_vhd_exactly: major >= 10,
        })
    }

    /// Runs qemu-img, which must succeed.
    pub(crate) fn img(&self, folder: &Path, arguments: &[&str]) -> String {
        run(&self.img, folder, arguments).good()
    }

    /// Runs commands of qemu-io on `image`. qemu-io reports some failures only in words.
    pub(crate) fn io(&self, folder: &Path, format: &str, image: &str, commands: &[String]) {
        let mut arguments = vec!["-f", format];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        arguments.push(image);
        let said: Said = run(&self.io, folder, &arguments);
        let words = format!("{}{}", said.out, said.err);
        let failed = ["failed", "rror", "nvalid"]
            .iter()
            .any(|word| words.contains(word));
        assert!(said.code == Some(0) && !failed, "{said:#?}");
    }

    /// Writes what `image` reads as to the raw file `to`.
    pub(crate) fn raw(&self, folder: &Path, format: &str, image: &str, to: &str) {
        let exactly = format!("driver=vpc,force_size_calc=current_size,file.filename={image}");
        if format == "vpc" && !self.sizes_vhd_exactly {
            self.img(
                folder,
                &["convert", "-O", "raw", "--image-opts", &exactly, to],
            );
        } else {
            self.img(folder, &["convert", "-f", format, "-O", "raw", image, to]);
        }
    }

    /// SHA-256 of what `image` reads as.
    pub(crate) fn sha256(&self, folder: &Path, format: &str, image: &str) -> String {
        let raw = format!("{image}.by-qemu.raw");
        self.raw(folder, format, image, &raw);
        let digest = file_sha256(&folder.join(&raw));
        fs::remove_file(folder.join(&raw)).unwrap();
        digest
    }
}

/// The readers that `read_peer.py` knows.
pub(crate) struct Readers {
    python: PathBuf,
    script: String,
}

impl Readers {
    pub(crate) fn find() -> Option<Self> {
        let python = match env::var_os("VDISK_PEER_PYTHON") {
            Some(path) => Some(PathBuf::from(path)),
            None => program(&["python3"]),
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/read_peer.py");
        Some(Self {
            python: need("python3", python)?,
            script: script.to_owned(),
        })
    }

    /// Says whether `reader` is installed, or fails where it must be.
    pub(crate) fn has(&self, reader: &str) -> bool {
        let here = Path::new(".");
        let found = run(&self.python, here, &[&self.script, "--has", reader]);
        need(reader, (found.code == Some(0)).then_some(())).is_some()
    }

    /// Checks that `reader` reads `files` (the image, then its parents from the nearest) as
    /// contents with the digest `expected`. Nothing if the reader is missing.
    pub(crate) fn check(&self, folder: &Path, reader: &str, files: &[&str], expected: &str) {
        if !self.has(reader) {
            return;
        }
        let arguments: Vec<&str> = [self.script.as_str(), reader]
            .into_iter()
            .chain(files.iter().copied())
            .collect();
        let said = run(&self.python, folder, &arguments);
        assert_eq!(
            (said.code, said.out.trim()),
            (Some(0), expected),
            "{said:#?}"
        );
    }
}
