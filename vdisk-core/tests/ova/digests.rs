//! Manifests, with digests by the system's own programs.

use crate::{
    assert_reads,
    builder::{RAW, contents, disk, ovf, sum, tar},
    fact,
};
use vdisk_core::{Deny, ErrorKind, Layer, OpenOptions, Result, open, storage::ImageFile};

/// A package whose manifest is `lines` of the digest program, algorithm and a change.
struct Sample {
    model: Vec<u8>,
    ovf: String,
}

impl Sample {
    fn new() -> Self {
        Self {
            model: contents(2000, 1),
            ovf: ovf(&[disk("a.bin", RAW, 2000 * 512)]),
        }
    }

    fn open(&self, manifest: &str, verify: bool) -> Result<Layer> {
        let archive = tar(&[
            ("vm.ovf", self.ovf.as_bytes()),
            ("vm.mf", manifest.as_bytes()),
            ("a.bin", &self.model),
        ]);
        let options = OpenOptions {
            verify,
            ..OpenOptions::new(&Deny)
        };
        open::open_file(ImageFile::from_storage("m.ova", archive)?, &options)
    }
}

#[test]
fn digests_of_each_kind_are_checked() {
    let sample = Sample::new();
    for (program, algorithm) in [
        ("sha1sum", "SHA1"),
        ("sha256sum", "SHA256"),
        ("sha512sum", "SHA512"),
        ("sha256sum", "SHA2-256"),
        ("sha1sum", "sha1"),
    ] {
        let ovf = sum(program, sample.ovf.as_bytes());
        let disk = sum(program, &sample.model);
        let good = format!(
            "{algorithm}(vm.ovf)= {ovf}\r\n{algorithm} (a.bin) = {}\n\n",
            disk.to_uppercase()
        );
        let layer = sample.open(&good, true).unwrap();
        assert_eq!(fact(&layer, "manifest"), Some("checked"));
        assert_eq!(layer.facts().warnings, [""; 0]);
        assert_reads(&layer, &sample.model, algorithm);
        for (wrong, name) in [(&ovf, "vm.ovf"), (&disk, "a.bin")] {
            let other = sum(program, b"something else");
            let bad = good.replace(wrong.as_str(), &other).replace(
                &disk.to_uppercase(),
                if name == "a.bin" { &other } else { &disk },
            );
            let error = sample.open(&bad, true).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let sentence = error.to_string();
            for part in [format!("member '{name}'").as_str(), wrong, &other] {
                assert!(sentence.contains(part), "{sentence} names {part}");
            }
            let layer = sample.open(&bad, false).unwrap();
            assert_eq!(fact(&layer, "manifest"), Some("not checked"));
        }
    }
}

#[test]
fn what_is_not_listed_is_told() {
    let sample = Sample::new();
    let ovf = sum("sha256sum", sample.ovf.as_bytes());
    for manifest in [
        format!("SHA256(vm.ovf)= {ovf}\n"),
        format!("SHA256(vm.ovf)= {ovf}\nMD5(a.bin)= 00112233445566778899aabbccddeeff\n"),
    ] {
        let layer = sample.open(&manifest, true).unwrap();
        let warnings = &layer.facts().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("no digest of 'a.bin'"), "{warnings:?}");
    }
}

#[test]
fn chunks_are_listed_for_themselves() {
    let model = contents(1000, 2);
    let text = ovf(&[disk("a.bin", RAW, model.len()).with("ovf:chunkSize='300000'")]);
    let chunks: Vec<&[u8]> = model.chunks(300_000).collect();
    let names: Vec<String> = (0..chunks.len()).map(|i| format!("a.bin.{i:09}")).collect();
    let build = |manifest: &str| {
        let mut members = vec![
            ("vm.ovf", text.as_bytes()),
            ("other.mf", manifest.as_bytes()),
        ];
        members.extend(names.iter().map(String::as_str).zip(chunks.iter().copied()));
        crate::only(tar(&members))
    };
    let mut manifest = format!("SHA1(vm.ovf)= {}\n", sum("sha1sum", text.as_bytes()));
    for (name, chunk) in names.iter().zip(&chunks) {
        manifest += &format!("SHA1({name})= {}\n", sum("sha1sum", chunk));
    }
    assert_reads(&build(&manifest).unwrap(), &model, "chunks");
    let second = sum("sha1sum", chunks[1]);
    let error = build(&manifest.replace(&second, &"0".repeat(40)))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.part(), "member 'a.bin.000000001'");
}

#[test]
fn a_manifest_that_cannot_be_read_is_an_error_only_where_it_is_used() {
    let sample = Sample::new();
    for manifest in [
        "nonsense\n",
        "SHA256(a.bin)= 12\n",
        "SHA1(a.bin)= zz\n",
        "SHA256 a.bin = 12",
    ] {
        let error = sample.open(manifest, true).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{manifest}");
        assert_eq!(error.part(), "manifest, line 1", "{manifest}");
        sample.open(manifest, false).unwrap();
    }
}
