//! Archives and descriptors, written by hand from POSIX (ustar) and DSP0243.

use flate2::{Compression, write::GzEncoder};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// One block of a ustar header, and the data filled up to whole blocks.
pub(crate) fn entry(name: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    header.extend(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// Sets the checksum of a header.
pub(crate) fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive of `members`, with the two empty blocks at its end.
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive: Vec<u8> = members
        .iter()
        .flat_map(|(name, data)| entry(name.as_bytes(), b'0', data))
        .collect();
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A disk of a descriptor, and the file that holds it.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) href: String,
    /// Further attributes of `File`.
    pub(crate) file: String,
    pub(crate) capacity: String,
    pub(crate) format: &'static str,
}

pub(crate) const VMDK: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
pub(crate) const RAW: &str = "http://example.org/disk/format#raw";

/// A disk of `capacity` bytes.
pub(crate) fn disk(href: &str, format: &'static str, capacity: usize) -> Disk {
    Disk {
        href: href.to_owned(),
        file: String::new(),
        capacity: capacity.to_string(),
        format,
    }
}

impl Disk {
    pub(crate) fn with(mut self, attributes: &str) -> Self {
        self.file = attributes.to_owned();
        self
    }
}

pub(crate) fn ovf(disks: &[Disk]) -> String {
    let mut text = String::from(
        "<?xml version='1.0' encoding='UTF-8'?>\n<!-- a comment -->\n\
         <ovf:Envelope xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/1'>\n<ovf:References>\n",
    );
    for (disk, number) in disks.iter().zip(1..) {
        text += &format!(
            "<ovf:File ovf:id=\"file{number}\" ovf:href=\"{}\" {}/>\n",
            disk.href, disk.file
        );
    }
    text += "<ovf:File ovf:id='iso' ovf:href='tools.iso'/></ovf:References>\n<ovf:DiskSection><ovf:Info>Disks &amp; such</ovf:Info>\n";
    for (disk, number) in disks.iter().zip(1..) {
        text += &format!(
            "<ovf:Disk ovf:diskId=\"disk{number}\" ovf:fileRef=\"file{number}\" ovf:capacity=\"{}\" ovf:format=\"{}\"/>\n",
            disk.capacity, disk.format
        );
    }
    text += "<ovf:Disk ovf:diskId='empty' ovf:capacity='1' ovf:capacityAllocationUnits='byte * 2^30' ovf:format='x'/>\n";
    text + "</ovf:DiskSection><ovf:VirtualSystem ovf:id='vm'><ovf:Info>A machine</ovf:Info></ovf:VirtualSystem></ovf:Envelope>\n"
}

/// An archive with a descriptor of `disks` first, and `members`.
pub(crate) fn ova(disks: &[Disk], members: &[(&str, &[u8])]) -> Vec<u8> {
    let text = ovf(disks);
    let mut all = vec![("vm.ovf", text.as_bytes())];
    all.extend(members);
    tar(&all)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What `sha1sum`, `sha256sum` or `sha512sum` prints for `bytes`.
pub(crate) fn sum(program: &str, bytes: &[u8]) -> String {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

/// A disk of whole sectors with zeros, patterns and noise.
pub(crate) fn contents(sectors: usize, salt: u8) -> Vec<u8> {
    (0..sectors * 512)
        .map(|i| match (i / 512) % 300 {
            s if s < 100 => 0,
            s if s < 200 => (i / 3) as u8 ^ salt,
            _ => (i.wrapping_mul(2_654_435_761) >> 11) as u8 ^ salt,
        })
        .collect()
}
