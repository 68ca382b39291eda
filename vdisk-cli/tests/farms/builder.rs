//! Makes images with other programs, and keeps what each of them must read as.

use crate::{
    contents::Change,
    run::{Folder, Ran},
    support::peers::{Qemu, need, program},
    vhd,
};
use serde_json::Value;
use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A farm under construction, and afterwards.
pub(crate) struct Farm {
    pub(crate) folder: Folder,
    /// Bytes to write, and raw disks: nothing that a report is about.
    pub(crate) scratch: Folder,
    qemu: Qemu,
    pub(crate) python: PathBuf,
    pub(crate) images: Vec<Image>,
    /// The image that reports start with, if not the first.
    pub(crate) first: Option<usize>,
}

pub(crate) struct Image {
    /// With its folder.
    pub(crate) name: String,
    /// What it reads as.
    pub(crate) bytes: Vec<u8>,
    /// Its own files.
    pub(crate) files: Vec<String>,
    pub(crate) parent: Option<usize>,
    /// The report is about it.
    pub(crate) listed: bool,
}

impl Image {
    /// Its folder and its name there.
    fn split(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap()
    }

    /// qemu's name for its format.
    fn driver(&self) -> &'static str {
        match self.name.rsplit('.').next().unwrap() {
            "vmdk" => "vmdk",
            "vhd" => "vpc",
            "vhdx" => "vhdx",
            "qcow2" => "qcow2",
            "vdi" => "vdi",
            _ => "raw",
        }
    }

    pub(crate) fn allocated(&self, farm: &Farm) -> u64 {
        let on_medium =
            |file: &String| fs::metadata(farm.folder.path(file)).unwrap().blocks() * 512;
        self.files.iter().map(on_medium).sum()
    }
}

impl Farm {
    /// None if qemu or Python is missing.
    pub(crate) fn new() -> Option<Self> {
        let python = match env::var_os("VDISK_PEER_PYTHON") {
            Some(path) => Some(PathBuf::from(path)),
            None => program(&["python3"]),
        };
        Some(Self {
            folder: Folder::new(),
            scratch: Folder::new(),
            qemu: Qemu::find()?,
            python: need("python3", python)?,
            images: Vec::new(),
            first: None,
        })
    }

    pub(crate) fn find(&self, name: &str) -> usize {
        let found = self.images.iter().position(|i| i.name == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.images[self.find(name)].bytes.clone()
    }

    /// Adds `name`, which `make` makes.
    fn add(
        &mut self,
        name: &str,
        parent: Option<usize>,
        bytes: Vec<u8>,
        make: impl FnOnce(&Self, &Image),
    ) -> usize {
        let mut image = Image {
            name: name.to_owned(),
            bytes,
            files: Vec::new(),
            parent,
            listed: true,
        };
        let folder = image.split().0.to_owned();
        fs::create_dir_all(self.folder.path(&folder)).unwrap();
        let files = || -> Vec<String> {
            let names = fs::read_dir(self.folder.path(&folder)).unwrap();
            let name = |n: fs::DirEntry| n.file_name().into_string().unwrap();
            names
                .map(|n| format!("{folder}/{}", name(n.unwrap())))
                .collect()
        };
        let before = files();
        make(self, &image);
        image.files = files();
        image.files.retain(|f| !before.contains(f));
        assert!(image.files.contains(&image.name), "{:?}", image.files);
        self.images.push(image);
        self.images.len() - 1
    }

    /// A full image in qemu's format of that ending with `options`, such as `subformat=streamOptimized`.
    pub(crate) fn full(&mut self, name: &str, options: &str, bytes: Vec<u8>) -> usize {
        self.add(name, None, bytes, |farm, image| {
            farm.scratch.write("in.raw", &image.bytes);
            let from = farm.scratch.path("in.raw");
            farm.convert(&from, image.driver(), options, name);
        })
    }

    /// Has qemu-img make `name` of the raw disk `from`.
    pub(crate) fn convert(&self, from: &Path, driver: &str, options: &str, name: &str) {
        let to = self.folder.path(name);
        let mut arguments = vec!["convert", "-f", "raw", "-O", driver];
        for option in options.split_whitespace() {
            match option {
                "-c" => arguments.push("-c"),
                _ => arguments.extend(["-o", option]),
            }
        }
        arguments.extend([from.to_str().unwrap(), to.to_str().unwrap()]);
        self.qemu.img(&self.folder.path(""), &arguments);
    }

    /// A child of `parent` in the same folder, made by qemu-img; `size` bytes, or those of the parent.
    pub(crate) fn child(&mut self, name: &str, parent: &str, size: usize, options: &str) -> usize {
        let below = self.find(parent);
        let mut bytes = self.images[below].bytes.clone();
        bytes.resize(bytes.len().max(size), 0);
        self.add(name, Some(below), bytes, |farm, image| {
            let base = &farm.images[below];
            let mut arguments = vec!["create", "-q", "-f", image.driver()];
            for option in options.split_whitespace() {
                arguments.extend(["-o", option]);
            }
            let size = image.bytes.len().to_string();
            arguments.extend(["-b", base.split().1, "-F", base.driver()]);
            arguments.extend([image.split().1, &size]);
            farm.qemu
                .img(&farm.folder.path(image.split().0), &arguments);
        })
    }

    /// A child of `parent` made by `vdisk clone`.
    pub(crate) fn clone_of(&mut self, name: &str, parent: &str) -> usize {
        let below = self.find(parent);
        let bytes = self.images[below].bytes.clone();
        self.add(name, Some(below), bytes, |farm, _| {
            let args = format!("clone {parent} -o {name} --no-sync");
            farm.folder.run(&args).code(0);
        })
    }

    /// A child of `parent` made by `vdisk diff`, with `changes`.
    pub(crate) fn diff_of(&mut self, name: &str, parent: &str, changes: &[Change]) -> usize {
        let below = self.find(parent);
        let mut bytes = self.images[below].bytes.clone();
        changes.iter().for_each(|c| c.apply(&mut bytes));
        self.add(name, Some(below), bytes, |farm, image| {
            farm.scratch.write("in.raw", &image.bytes);
            let raw = farm.scratch.path("in.raw");
            let args = format!("diff {parent} {} -o {name} --no-sync", raw.display());
            farm.folder.run(&args).code(0);
        })
    }

    /// Writes to `name`: with qemu-io, or as the specification of VHD says it.
    pub(crate) fn write(&mut self, name: &str, changes: &[Change]) {
        let number = self.find(name);
        let mut bytes = std::mem::take(&mut self.images[number].bytes);
        let image = &self.images[number];
        let by_qemu = !(image.driver() == "vpc" && image.parent.is_some());
        let mut commands = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            change.apply(&mut bytes);
            match change {
                Change::Bytes(at, new) if by_qemu => {
                    let file = format!("new-{index}");
                    self.scratch.write(&file, new);
                    let file = self.scratch.path(&file);
                    let len = new.len();
                    commands.push(format!("write -q -s {} {at} {len}", file.display()));
                }
                Change::Zeros(at, len) if by_qemu => {
                    commands.push(format!("write -q -z {at} {len}"));
                }
                Change::Bytes(at, new) => vhd::write(&self.folder.path(name), *at, new),
                Change::Zeros(at, len) => {
                    vhd::write(&self.folder.path(name), *at, &vec![0; *len]);
                }
            }
        }
        if by_qemu {
            let folder = self.folder.path("");
            self.qemu.io(&folder, image.driver(), name, &commands);
        }
        self.now_reads(name, bytes);
    }

    /// `name` reads as `bytes` from now on.
    pub(crate) fn now_reads(&mut self, name: &str, bytes: Vec<u8>) {
        let _ = fs::remove_file(self.scratch.path(&name.replace('/', "-")));
        let number = self.find(name);
        self.images[number].bytes = bytes;
    }

    /// Leaves `name` out of the reports; images over it still need it.
    pub(crate) fn unlist(&mut self, name: &str) {
        let number = self.find(name);
        self.images[number].listed = false;
    }

    /// Names of the images that reports are about, in their order.
    pub(crate) fn listed(&self) -> Vec<&str> {
        let first = self.first.map(|f| &self.images[f]);
        let others = (0..self.images.len()).filter(|n| Some(*n) != self.first);
        let all = first.into_iter().chain(others.map(|n| &self.images[n]));
        all.filter(|i| i.listed).map(|i| i.name.as_str()).collect()
    }

    /// Has qemu read `image` as a raw disk, which must be what is kept of it; what qemu cannot read (a VHD
    /// or VHDX with a parent) is written from that. Returns the raw disk.
    pub(crate) fn flat(&self, image: &Image) -> PathBuf {
        let raw = self.scratch.path(&image.name.replace('/', "-"));
        if raw.exists() {
            return raw;
        }
        let readable = image.parent.is_none() || !["vpc", "vhdx"].contains(&image.driver());
        if readable {
            let to = raw.to_str().unwrap();
            let folder = self.folder.path("");
            self.qemu.raw(&folder, image.driver(), &image.name, to);
            let read = fs::read(&raw).unwrap();
            assert!(read == image.bytes, "qemu reads {} otherwise", image.name);
        } else {
            fs::write(&raw, &image.bytes).unwrap();
        }
        raw
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Bytes read by system calls.
    pub(crate) read: u64,
    /// Most bytes of memory at one time.
    pub(crate) peak: u64,
}

impl Farm {
    /// Runs the program, and says what it took.
    #[track_caller]
    pub(crate) fn measured(&self, args: &str) -> (Ran, Taken) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/measured.py");
        let file = self.scratch.path("taken.json");
        let line = format!(
            "exec {} {script} {} \"$V\" {args}",
            self.python.display(),
            file.display()
        );
        let ran = self.folder.shell(&line);
        let json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let taken = Taken {
            read: json["read_bytes"].as_u64().unwrap(),
            peak: json["peak_bytes"].as_u64().unwrap(),
        };
        (ran, taken)
    }
}
