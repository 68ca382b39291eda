//! Packages with one thing wrong: the right kind of error, about the right part.

use crate::{
    builder::{RAW, VMDK, contents, disk, entry, gzip, ova, ovf, seal, tar},
    image, only,
};
use vdisk_core::ErrorKind::{self, Corrupt, Limit, Unsupported, WrongFormat};

fn model() -> Vec<u8> {
    contents(600, 1)
}

/// A package with a raw disk of 600 sectors.
fn sample() -> Vec<u8> {
    with_href("a.bin", "")
}

fn with_href(href: &str, attributes: &str) -> Vec<u8> {
    ova(
        &[disk(href, RAW, 600 * 512).with(attributes)],
        &[("a.bin", &model())],
    )
}

/// The sample with another descriptor.
fn with_text(text: &str) -> Vec<u8> {
    tar(&[("vm.ovf", text.as_bytes()), ("a.bin", &model())])
}

fn good_text() -> String {
    ovf(&[disk("a.bin", RAW, 600 * 512)])
}

/// The sample with `from` in its descriptor replaced.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    let text = good_text();
    assert!(text.contains(from), "{from}");
    with_text(&text.replacen(from, to, 1))
}

/// The sample with a field of the disk's header changed.
fn in_header(at: usize, what: &[u8], sealed: bool) -> Vec<u8> {
    let mut archive = sample();
    let header = archive.len() - 1024 - 600 * 512 - 512;
    assert_eq!(&archive[header..header + 5], b"a.bin");
    archive[header + at..header + at + what.len()].copy_from_slice(what);
    if sealed {
        seal(&mut archive[header..header + 512]);
    }
    archive
}

fn before_disk(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut archive = entry(b"vm.ovf", b'0', good_text().as_bytes());
    archive.extend(entry(b"x", kind, data));
    archive.extend(entry(b"a.bin", b'0', &model()));
    archive
}

fn chunked(sizes: &[(usize, usize)], attributes: &str) -> Vec<u8> {
    let chunks: Vec<(String, Vec<u8>)> = sizes
        .iter()
        .map(|(number, size)| (format!("a.bin.{number:09}"), vec![1; *size]))
        .collect();
    let members: Vec<(&str, &[u8])> = chunks.iter().map(|(n, b)| (n.as_str(), &**b)).collect();
    ova(&[disk("a.bin", RAW, 4096).with(attributes)], &members)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let one = disk("a.bin", RAW, 600 * 512).with("ovf:compression='gzip'");
    ova(&[one], &[("a.bin", bytes)])
}

fn bent(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x5a;
    bytes
}

#[test]
fn every_rule_has_an_error() {
    let gz = gzip(&model());
    let end = gz.len();
    let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    let many = "<ovf:Disk ovf:diskId='d'/>".repeat(5000);
    let child = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=87654321\n\
         parentFileNameHint=\"base.vmdk\"\ncreateType=\"monolithicFlat\"\nRW 600 FLAT \"a.bin\" 0\n";
    let inner = sample();
    let mut huge = b"<ovf:Envelope>".to_vec();
    huge.resize(5 << 20, b' ');
    let rows: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        ("an empty file", Vec::new(), WrongFormat, "is empty"),
        (
            "an empty archive",
            vec![0; 10_240],
            WrongFormat,
            "neither a tar header nor",
        ),
        (
            "no descriptor",
            tar(&[("a.bin", &model())]),
            WrongFormat,
            "without an OVF descriptor",
        ),
        (
            "several descriptors",
            tar(&[
                ("a.ovf", good_text().as_bytes()),
                ("b.ovf", good_text().as_bytes()),
            ]),
            Corrupt,
            "holds 2 OVF descriptors: a.ovf, b.ovf",
        ),
        (
            "cut in a member",
            sample()[..200_000].to_vec(),
            Corrupt,
            "tar header 2: is of 307200 bytes",
        ),
        (
            "cut in a header",
            sample()[..sample().len() - 1024 - 600 * 512 - 100].to_vec(),
            Corrupt,
            "tar header: needs 512 bytes",
        ),
        (
            "checksum",
            in_header(3, b"X", false),
            Corrupt,
            "tar header 2: does not match its checksum",
        ),
        (
            "huge size",
            in_header(124, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", true),
            Corrupt,
            "tar header 2",
        ),
        (
            "size that is none",
            in_header(124, b"99999999999\0", true),
            Corrupt,
            "tar header 2: has no readable size",
        ),
        (
            "a long name of 1 MiB",
            before_disk(b'L', &vec![b'a'; 1 << 20]),
            Limit,
            "tar extension header",
        ),
        (
            "a pax record too long",
            before_disk(b'x', b"99 path=a\n"),
            Corrupt,
            "tar header 2: has a damaged pax record",
        ),
        (
            "a pax record without length",
            before_disk(b'x', b"path=a\n"),
            Corrupt,
            "damaged pax record",
        ),
        (
            "a pax size that is none",
            before_disk(b'x', b"13 size=12x4\n"),
            Corrupt,
            "damaged pax record",
        ),
        (
            "a pax size too large",
            before_disk(b'x', b"19 size=9999999999\n"),
            Corrupt,
            "tar header 3: is of 9999999999 bytes",
        ),
        (
            "a sparse member",
            before_disk(b'x', b"22 GNU.sparse.major=1\n"),
            Unsupported,
            "sparse file",
        ),
        (
            "too many members",
            tar(&vec![("x", b"".as_slice()); 9000]),
            Limit,
            "tar headers: has more than",
        ),
        (
            "the disk twice",
            ova(
                &[disk("a.bin", RAW, 512)],
                &[("a.bin", &model()), ("a.bin", &model())],
            ),
            Corrupt,
            "member 'a.bin': is in the archive more than once",
        ),
        (
            "no such member",
            with_href("b.bin", ""),
            Corrupt,
            "archive: the file 'b.bin'",
        ),
        (
            "a file not listed",
            replaced("fileRef=\"file1\"", "fileRef=\"file7\""),
            Corrupt,
            "'disk1' in file 'file7'",
        ),
        (
            "no disk",
            replaced("fileRef=\"file1\"", "fileRef=\"\""),
            Unsupported,
            "describes no disk that is in a file",
        ),
        (
            "two files of one ID",
            replaced("ovf:id='iso'", "ovf:id='file1'"),
            Corrupt,
            "two files with the ID 'file1'",
        ),
        (
            "a file without href",
            replaced("ovf:href='tools.iso'", ""),
            Corrupt,
            "without id or href",
        ),
        (
            "not XML",
            with_text("hello"),
            Corrupt,
            "OVF descriptor: ends too early",
        ),
        (
            "half the XML",
            with_text(&good_text()[..good_text().len() / 2]),
            Corrupt,
            "OVF descriptor",
        ),
        (
            "crossed elements",
            replaced("</ovf:References>", "</ovf:Other>"),
            Corrupt,
            "not well-formed",
        ),
        (
            "another root",
            with_text("<Other/>"),
            Corrupt,
            "begins with the element 'Other'",
        ),
        (
            "two roots",
            with_text(&good_text().replace("</ovf:Envelope>", "</ovf:Envelope><b/>")),
            Corrupt,
            "element 'b'",
        ),
        (
            "not UTF-8",
            tar(&[("vm.ovf", b"\xff\xfe<\0"), ("a.bin", &model())]),
            Unsupported,
            "not UTF-8",
        ),
        (
            "entities that grow",
            with_text(&format!(
                "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>{}",
                good_text().split_once("-->").unwrap().1
            )),
            Corrupt,
            "document type declaration",
        ),
        (
            "an entity of its own",
            replaced("ovf:href=\"a.bin\"", "ovf:href=\"&a;\""),
            Corrupt,
            "not well-formed",
        ),
        (
            "an attribute without quotes",
            replaced("ovf:href=\"a.bin\"", "ovf:href=a.bin"),
            Corrupt,
            "not well-formed",
        ),
        (
            "too deep",
            replaced("<ovf:Info>A machine</ovf:Info>", &deep),
            Limit,
            "nested deeper than 64",
        ),
        (
            "too many disks",
            replaced("<ovf:Info>A machine</ovf:Info>", &many),
            Limit,
            "names more than",
        ),
        (
            "a huge descriptor",
            tar(&[("vm.ovf", &huge), ("a.bin", &model())]),
            Limit,
            "OVF descriptor: has 5242880 bytes",
        ),
        (
            "a size that is none",
            with_href("a.bin", "ovf:size='many'"),
            Corrupt,
            "size 'many' is no number",
        ),
        (
            "bzip2",
            with_href("a.bin", "ovf:compression='bzip2'"),
            Unsupported,
            "compression 'bzip2'",
        ),
        (
            "a parent",
            replaced("ovf:fileRef=", "ovf:parentRef='disk0' ovf:fileRef="),
            Unsupported,
            "disk 'a.bin': holds only what differs from disk 'disk0'",
        ),
        (
            "a child of another file",
            ova(
                &[disk("c.vmdk", VMDK, 600 * 512)],
                &[("c.vmdk", child.as_bytes()), ("a.bin", &model())],
            ),
            Unsupported,
            "must stand alone",
        ),
        (
            "a package in a package",
            ova(&[disk("b.ova", VMDK, 512)], &[("b.ova", &inner)]),
            Unsupported,
            "is a package itself",
        ),
        (
            "4 bytes",
            ova(&[disk("a.vmdk", VMDK, 512)], &[("a.vmdk", b"abc\n")]),
            WrongFormat,
            "no VMDK signature",
        ),
        (
            "half a VMDK",
            ova(
                &[disk("a.vmdk", VMDK, 512)],
                &[(
                    "a.vmdk",
                    &image("vmdk", "streamOptimized", &model())[..70_000],
                )],
            ),
            Corrupt,
            "test.ova::a.vmdk: ",
        ),
        (
            "chunk 0 missing",
            chunked(&[(1, 512)], "ovf:chunkSize='512'"),
            Corrupt,
            "chunk 0 'a.bin.000000000'",
        ),
        (
            "a chunk missing",
            chunked(&[(0, 512), (2, 512)], "ovf:chunkSize='512'"),
            Corrupt,
            "chunk 1 'a.bin.000000001'",
        ),
        (
            "the last chunk missing",
            chunked(&[(0, 512), (1, 512)], "ovf:chunkSize='512' ovf:size='1100'"),
            Corrupt,
            "chunk 2 'a.bin.000000002'",
        ),
        (
            "a chunk too short",
            chunked(&[(0, 500), (1, 512)], "ovf:chunkSize='512'"),
            Corrupt,
            "chunk 0: ('a.bin.000000000') has 500 bytes",
        ),
        (
            "a chunk too long",
            chunked(&[(0, 512), (1, 513)], "ovf:chunkSize='512'"),
            Corrupt,
            "chunk 1: ",
        ),
        (
            "the last chunk cut",
            chunked(&[(0, 512), (1, 100)], "ovf:chunkSize='512' ovf:size='800'"),
            Corrupt,
            "chunk 1: ",
        ),
        (
            "no chunk at all",
            ova(
                &[disk("b.bin", RAW, 512).with("ovf:chunkSize='512'")],
                &[("a.bin", &model())],
            ),
            Corrupt,
            "chunk 0 'b.bin.000000000'",
        ),
        (
            "not gzip",
            packed(&model()),
            Corrupt,
            "gzip: has no gzip signature",
        ),
        (
            "half a gzip",
            packed(&gz[..end / 2]),
            Corrupt,
            "gzip: ends too early",
        ),
        (
            "gzip CRC",
            packed(&bent(gz.clone(), end - 6)),
            Corrupt,
            "gzip: does not match its CRC-32",
        ),
        (
            "gzip length",
            packed(&bent(gz.clone(), end - 1)),
            Corrupt,
            "recorded length",
        ),
        (
            "gzip data",
            packed(&bent(gz.clone(), end / 2)),
            Corrupt,
            "gzip: ",
        ),
        (
            "a gzip bomb",
            packed(&gzip(&vec![0; 80 << 20])),
            Limit,
            "gzip: unpacks to more than",
        ),
    ];
    for (what, bytes, kind, sentence) in rows {
        let error = only(bytes)
            .err()
            .unwrap_or_else(|| panic!("{what}: was read"));
        let said = error.to_string();
        assert_eq!(error.kind(), kind, "{what}: {said}");
        assert!(said.contains(sentence), "{what}: {said}");
        assert!(
            said.starts_with("test.ova"),
            "{what} names the file: {said}"
        );
    }
    only(sample()).unwrap(); // what all of them were before
}

/// No byte of the metadata can make it panic or hang.
#[test]
fn any_byte_may_be_wrong() {
    let model = contents(8, 1);
    let archive = ova(&[disk("a.bin", RAW, model.len())], &[("a.bin", &model)]);
    let metadata = archive.len() - 1024 - model.len();
    for at in (0..metadata).chain(archive.len() - 1024..archive.len()) {
        for value in [0, 0xff, archive[at] ^ 1, b'9'] {
            let mut bytes = archive.clone();
            bytes[at] = value;
            if let Ok(layer) = only(bytes) {
                let mut first = [0; 512];
                let _ = vdisk_core::Disk::read_at(&layer, 0, &mut first);
            }
        }
    }
}

#[test]
fn archives_of_other_kinds_are_refused_by_name() {
    let open = |name: &str, bytes: Vec<u8>| {
        let file = vdisk_core::storage::ImageFile::from_storage(name, bytes).unwrap();
        let options = vdisk_core::OpenOptions::new(&vdisk_core::Deny);
        vdisk_core::open::open_file(file, &options).err().unwrap()
    };
    let error = open("vm.box", gzip(&sample()));
    assert_eq!(error.kind(), Unsupported);
    assert!(error.to_string().contains("Vagrant box"), "{error}");
    assert!(
        open("vm.ova", gzip(&sample()))
            .to_string()
            .contains("gzip-compressed")
    );
    // A guest can write a package into its raw disk.
    let error = open("disk.raw", sample());
    assert!(
        error.to_string().contains("name the input format"),
        "{error}"
    );
}
