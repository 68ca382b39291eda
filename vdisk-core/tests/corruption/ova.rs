//! A package: archive, descriptor, manifest, and a fixed VHD inside.

use super::table::{Files, Image, put, row};
use sha2::{Digest, Sha256};

/// Bytes of the disk.
const DISK: usize = 64 << 10;
/// Where the VHD begins in the archive: two headers, one block of descriptor, one of manifest, one
/// more header.
const VHD: usize = 512 + 1024 + 512 + 512 + 512;

fn entry(name: &str, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 100, b"0000644\0");
    put(&mut block, 124, format!("{:011o}\0", data.len()).as_bytes());
    put(&mut block, 136, b"00000000000\0");
    block[156] = b'0';
    put(&mut block, 257, b"ustar\x0000");
    sum(&mut block);
    block.extend(data);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Sets the checksum of the header at the start of `block`.
fn sum(block: &mut [u8]) {
    put(block, 148, b"        ");
    let sum: u32 = block[..512].iter().map(|b| u32::from(*b)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

/// A disk of bytes that differ, with a VHD footer as Microsoft describes it.
fn vhd() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..DISK).map(|i| (i / 512 + 1) as u8).collect();
    let mut footer = vec![0u8; 512];
    put(&mut footer, 0, b"conectix");
    put(&mut footer, 8, &2u32.to_be_bytes());
    put(&mut footer, 12, &0x1_0000u32.to_be_bytes());
    put(&mut footer, 16, &u64::MAX.to_be_bytes());
    put(&mut footer, 28, b"win ");
    put(&mut footer, 32, &0x6_0001u32.to_be_bytes());
    put(&mut footer, 36, b"Wi2k");
    put(&mut footer, 40, &(DISK as u64).to_be_bytes());
    put(&mut footer, 48, &(DISK as u64).to_be_bytes());
    put(&mut footer, 56, &[0, 1, 4, 17]);
    put(&mut footer, 60, &2u32.to_be_bytes());
    put(&mut footer, 68, &[7; 16]);
    let sum: u32 = footer.iter().map(|b| u32::from(*b)).sum();
    put(&mut footer, 64, &(!sum).to_be_bytes());
    bytes.extend(footer);
    bytes
}

fn text(capacity: usize, size: usize) -> Vec<u8> {
    let mut text = format!(
        "<?xml version=\"1.0\"?>\n<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\">\n\
         <References><File ovf:id=\"f\" ovf:href=\"a.vhd\" ovf:size=\"{size}\"/></References>\n\
         <DiskSection><Info/><Disk ovf:diskId=\"d\" ovf:fileRef=\"f\" ovf:capacity=\"{capacity}\" ovf:format=\"vhd\"/></DiskSection>\n\
         </Envelope>"
    )
    .into_bytes();
    text.resize(1024, b'\n');
    text
}

fn line(name: &str, bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("SHA256({name})= {digits}\n")
}

fn package(text: &[u8], manifest: &str) -> Vec<u8> {
    let mut archive = entry("vm.ovf", text);
    archive.extend(entry("vm.mf", manifest.as_bytes()));
    archive.extend(entry("a.vhd", &vhd()));
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn manifest(text: &[u8]) -> String {
    line("vm.ovf", text) + &line("a.vhd", &vhd())
}

fn build() -> Files {
    let text = text(DISK, DISK + 512);
    let bytes = package(&text, &manifest(&text));
    assert_eq!(bytes[VHD..VHD + 2], [1, 1]);
    Files::one("vm.ova", bytes)
}

/// The package with another descriptor, whose digest is right.
fn retold(files: &mut Files, text: Vec<u8>) {
    *files.main() = package(&text, &manifest(&text));
}

fn relisted(files: &mut Files, manifest: &str) {
    *files.main() = package(&text(DISK, DISK + 512), manifest);
}

pub(crate) fn images() -> Vec<Image> {
    vec![Image {
        name: "ova",
        build,
        rows: vec![
            row(
                "a changed byte of the disk",
                |f| f.main()[VHD + 77] ^= 1,
                "digest",
                "member 'a.vhd'",
            )
            .deep(),
            row(
                "a changed byte of the descriptor",
                |f| f.main()[1535] = b' ',
                "digest",
                "member 'vm.ovf'",
            ),
            row(
                "a header that is damaged",
                |f| f.main()[512 + 1024] = b'V',
                "unreadable",
                "tar header 2",
            ),
            row(
                "cut short",
                |f| f.main().truncate(VHD + 5000),
                "unreadable",
                "tar header 3",
            ),
            row(
                "no end",
                |f| {
                    // Behind the disk: its last bytes are the footer of a VHD.
                    let end = f.main().len() - 1024;
                    f.main().truncate(end);
                    f.main().extend(entry("readme", b"hello"));
                },
                "archive-end",
                "archive",
            )
            .warning(),
            row(
                "half an end",
                |f| f.main().truncate(VHD + DISK + 1024),
                "archive-end",
                "archive",
            )
            .warning(),
            row(
                "the descriptor is not first",
                |f| {
                    let mut front = entry("readme", b"hello");
                    front.extend_from_slice(f.main());
                    *f.main() = front;
                },
                "descriptor-not-first",
                "archive",
            )
            .warning(),
            row(
                "a member twice",
                |f| {
                    let end = f.main().len() - 1024;
                    let again = [entry("a.vhd", b"x"), vec![0; 1024]].concat();
                    f.main().truncate(end);
                    f.main().extend(again);
                },
                "member-twice",
                "member 'a.vhd'",
            ),
            row(
                "no manifest",
                |f| {
                    put(f.main(), 1536, b"vm.xx");
                    sum(&mut f.main()[1536..2048]);
                },
                "manifest-missing",
                "manifest",
            )
            .note(),
            row(
                "a manifest that is none",
                |f| relisted(f, "hello\n"),
                "unreadable",
                "manifest, line 1",
            ),
            row(
                "a manifest that lists the disk twice",
                |f| {
                    let more = manifest(&text(DISK, DISK + 512)) + &line("./a.vhd", &vhd());
                    relisted(f, &more);
                },
                "unreadable",
                "manifest, line 3",
            ),
            row(
                "no digest of the disk",
                |f| {
                    let one = line("vm.ovf", &text(DISK, DISK + 512));
                    relisted(f, &one);
                },
                "digest-missing",
                "manifest",
            )
            .warning(),
            row(
                "a digest of nothing",
                |f| {
                    let more = manifest(&text(DISK, DISK + 512)) + &line("gone.iso", b"");
                    relisted(f, &more);
                },
                "digest-without-file",
                "manifest",
            )
            .warning(),
            row(
                "another capacity",
                |f| retold(f, text(2 * DISK, DISK + 512)),
                "capacity",
                "OVF descriptor",
            )
            .warning(),
            row(
                "another file size",
                |f| retold(f, text(DISK, 12_345)),
                "file-size",
                "OVF descriptor",
            )
            .warning(),
            row(
                "a file that is missing",
                |f| {
                    let more = String::from_utf8(text(DISK, DISK + 512)).unwrap();
                    let more = more.replace(
                        "</References>",
                        "<File ovf:id=\"g\" ovf:href=\"b.iso\"/></References>",
                    );
                    retold(f, more.as_bytes()[..1024].to_vec());
                },
                "file-missing",
                "OVF descriptor",
            )
            .warning(),
            row(
                "the disk is missing",
                |f| {
                    let other = String::from_utf8(text(DISK, DISK + 512))
                        .unwrap()
                        .replace("a.vhd", "b.vhd");
                    retold(f, other.into_bytes());
                },
                "unreadable",
                "archive",
            ),
            row(
                "XML cut short",
                |f| {
                    let mut half = text(DISK, DISK + 512);
                    half[300..].fill(b' ');
                    retold(f, half);
                },
                "unreadable",
                "OVF descriptor",
            ),
            row(
                "a disk that is none",
                |f| {
                    let footer = VHD + DISK;
                    f.main()[footer..footer + 8].fill(b'x');
                },
                "unreadable",
                "format",
            )
            .in_file("vm.ova::a.vhd"),
        ],
    }]
}
