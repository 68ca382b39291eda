//! Mistakes that are easy to make, each with the case that shows it: wrong bytes without an error,
//! inputs lost, guests that lie.
#![allow(clippy::unwrap_used, clippy::panic)]

mod run;

use run::{Folder, noise};
use std::{fs, os::unix::fs::symlink, time::Duration};

const MIB: usize = 1 << 20;

fn edited(disk: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut disk = disk.to_vec();
    disk[at..at + 512].fill(byte);
    disk
}

#[test]
fn a_raw_parent_is_the_file_that_was_recorded_and_no_other_raw_file() {
    let folder = Folder::new();
    let base = noise(1, 4 * MIB);
    folder.write("base.raw", &base);
    folder.write("s1.raw", &edited(&base, 0, 7));
    folder.write("y.raw", &edited(&base, 0, 9));
    folder.run("diff base.raw y.raw -o s2.vhd").code(0);
    // In both orders s1 and s2 are siblings that collide.
    for layers in ["s1.raw s2.vhd", "s2.vhd s1.raw"] {
        let line = format!("compose base.raw {layers} -o out.raw");
        folder.run(&line).code(3).says("different ways");
    }
    assert!(!folder.path("out.raw").exists());
    folder.run("compose base.raw s2.vhd -o out.raw").code(0);
    assert!(folder.read("out.raw") == folder.read("y.raw"));
    // Named as the base, it may lie elsewhere.
    fs::create_dir(folder.path("gold")).unwrap();
    fs::rename(folder.path("base.raw"), folder.path("gold/base.raw")).unwrap();
    folder
        .run("compose gold/base.raw s2.vhd -o out.raw --force")
        .code(0);
    assert!(folder.read("out.raw") == folder.read("y.raw"));
    folder
        .run("compose s1.raw s2.vhd -o out.raw --force")
        .code(2);
}

#[test]
fn a_parent_given_for_another_image_is_not_taken_for_a_raw_parent() {
    let folder = Folder::new();
    fs::create_dir(folder.path("in")).unwrap();
    fs::create_dir(folder.path("out")).unwrap();
    folder.write("in/raw.raw", &noise(1, MIB));
    folder.write("x.raw", &noise(2, MIB));
    folder.run("convert x.raw -o out/base.vhd").code(0);
    folder.run("clone in/raw.raw -o in/kid.vhd").code(0);
    let right = folder.run("hash in/kid.vhd").code(0).out;
    let given = folder.run("hash in/kid.vhd --parent out/base.vhd").code(0);
    assert_eq!(given.out, right);
    fs::rename(folder.path("in/raw.raw"), folder.path("out/moved.raw")).unwrap();
    folder.run("hash in/kid.vhd --parent out/base.vhd").code(2);
    let given = folder.run("hash in/kid.vhd --parent out/base.vhd --parent out/moved.raw");
    assert_eq!(given.code(0).out, right);
}

#[test]
fn an_image_that_lost_its_end_is_corrupt() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    let right = folder.run("hash a.raw").out[..64].to_owned();
    for (name, subformat) in [
        ("cut.vmdk", "monolithicSparse"),
        ("cut.vmdk", "streamOptimized"),
        ("cut.vhd", "dynamic"),
    ] {
        folder
            .run(&format!(
                "convert a.raw -o {name} --force --subformat {subformat}"
            ))
            .code(0);
        let whole = folder.read(name);
        for cut in [1, 512, 30_000, 65_535, 65_536, 1_500_000] {
            folder.write(name, &whole[..whole.len().saturating_sub(cut)]);
            let ran = folder.run(&format!("hash {name}"));
            // The copy of a VHD's footer helps as long as no data are lost.
            let saved = ran.code == Some(0) && ran.out.starts_with(&right);
            let vhd = subformat == "dynamic";
            assert!(
                vhd && saved || ran.code != Some(0),
                "{subformat}, {cut}: {ran:?}"
            );
        }
    }
}

#[test]
fn one_compressed_grain_at_two_places_of_two_disks_is_compared() {
    let folder = Folder::new();
    folder.write("s.raw", &noise(1, 65_536));
    folder
        .run("convert s.raw -o s.vmdk --subformat streamOptimized")
        .code(0);
    let descriptor = |lines: &str| {
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n{lines}\n"
        )
    };
    let (sparse, zero) = ("RW 128 SPARSE \"s.vmdk\"", "RW 64 ZERO");
    folder.write(
        "a.vmdk",
        descriptor(&format!("{sparse}\n{zero}")).as_bytes(),
    );
    folder.write(
        "b.vmdk",
        descriptor(&format!("{zero}\n{sparse}")).as_bytes(),
    );
    let (a, b) = (folder.contents("a.vmdk"), folder.contents("b.vmdk"));
    let expected = a
        .chunks(512)
        .zip(b.chunks(512))
        .filter(|(a, b)| a != b)
        .count()
        * 512;
    let found = folder.run("diff a.vmdk b.vmdk --json").code(1).json();
    assert_eq!(found["differing_bytes"], expected);
}

#[test]
fn a_shorter_sibling_says_nothing_past_its_end() {
    let folder = Folder::new();
    let base = noise(1, 4 * MIB);
    folder.write("base.raw", &base);
    folder.write("short.raw", &base[..2 * MIB]);
    let longer = edited(&base, 3 * MIB, 5);
    folder.write("n.raw", &longer);
    folder
        .run("compose base.raw short.raw n.raw -o out.raw")
        .code(0);
    assert!(folder.read("out.raw") == longer);
}

#[test]
fn standard_output_may_not_be_an_input() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o a.vmdk").code(0);
    let before = folder.read("a.vmdk");
    folder
        .shell("$V convert a.vmdk -o - 1<>a.vmdk")
        .code(2)
        .says("also an input");
    assert!(folder.read("a.vmdk") == before);
}

#[test]
fn the_subformat_must_be_one_of_the_format_that_the_name_says() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    for (name, subformat) in [
        ("y.vmdk", "sparse"),
        ("y.vmdk", "fixed"),
        ("y.vhd", "streamOptimized"),
    ] {
        let line = format!("convert a.raw -o {name} --subformat {subformat}");
        folder.run(&line).code(2).says("has no subformat");
    }
    assert_eq!(folder.names(), ["a.raw"]);
}

#[test]
fn what_cannot_be_read_back_is_not_created() {
    let folder = Folder::new();
    for (name, size) in [
        ("h.vmdk", "600T"),
        ("h.vmdk", "63T"),
        ("h.vhd", "3T"),
        ("h.vmdk", "0"),
    ] {
        folder.run(&format!("create {name} --size {size}")).code(2);
    }
    assert_eq!(folder.names(), [""; 0]);
    folder.run("create h.vmdk --size 62T").code(0);
    folder.run("info h.vmdk").code(0);
}

#[test]
fn a_child_written_through_a_link_names_its_parent_from_where_it_is() {
    let folder = Folder::new();
    fs::create_dir(folder.path("real")).unwrap();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o a.vmdk").code(0);
    folder.write("real/child.vmdk", b"old");
    symlink("real/child.vmdk", folder.path("link.vmdk")).unwrap();
    folder.run("clone a.vmdk -o link.vmdk --force").code(0);
    let child = folder.run("hash real/child.vmdk --allow-path .").code(0);
    assert_eq!(child.out[..64], folder.run("hash a.raw").out[..64]);
}

#[test]
fn a_parent_name_that_readers_would_change_is_refused() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    for format in ["vmdk", "vhd"] {
        folder
            .run(&format!("convert a.raw -o b\\c.{format}"))
            .code(0);
        let line = format!("clone b\\c.{format} -o child.{format}");
        folder.run(&line).code(2);
        assert!(!folder.path(&format!("child.{format}")).exists());
    }
}

#[test]
fn many_extents_that_claim_much_do_not_take_memory() {
    let folder = Folder::new();
    let mut header = vec![0u8; 512];
    header[..4].copy_from_slice(b"KDMV");
    header[4] = 1;
    header[12..20].copy_from_slice(&(1u64 << 40).to_le_bytes()); // 512 TiB
    header[20..28].copy_from_slice(&128u64.to_le_bytes());
    header[44..48].copy_from_slice(&512u32.to_le_bytes());
    header[56..64].copy_from_slice(&1u64.to_le_bytes());
    folder.write("x.vmdk", &header);
    let file = fs::File::options()
        .write(true)
        .open(folder.path("x.vmdk"))
        .unwrap();
    file.set_len(100 << 20).unwrap();
    let lines = "RW 2048 SPARSE \"x.vmdk\"\n".repeat(500);
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n{lines}"
    );
    folder.write("d.vmdk", text.as_bytes());
    folder
        .shell("ulimit -v 600000; $V info d.vmdk")
        .code(2)
        .says("grain directory");
}

#[test]
fn a_gap_of_terabytes_in_a_pipe_can_be_stopped() {
    let folder = Folder::new();
    let mut child = folder
        .command("create - --size 2T --format raw")
        .stdout(fs::File::create("/dev/null").unwrap())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    folder.shell(&format!("kill -INT {}", child.id())).code(0);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_map_that_ends_in_an_error_is_still_json() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o a.vmdk").code(0);
    let mut bytes = folder.read("a.vmdk");
    // The first entry of the second half of the table, in both copies of it.
    let directory = usize::from(u16::from_le_bytes([bytes[56], bytes[57]])) * 512;
    let table = usize::from(u16::from_le_bytes([bytes[directory], bytes[directory + 1]])) * 512;
    bytes[table + 32..table + 36].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    folder.write("bad.vmdk", &bytes);
    let ran = folder.run("map bad.vmdk --json").code(4).says("entry 8");
    assert_eq!(ran.json().as_array().unwrap().len(), 1);
    assert!(
        ran.err.contains(&format!("{:#x}", table + 32)),
        "the place of the entry: {}",
        ran.err
    );
}

#[test]
fn reproducible_children_do_not_depend_on_the_time_of_the_parent() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o a.vhd").code(0);
    folder.run("clone a.vhd -o c.vhd --reproducible").code(0);
    let first = folder.read("c.vhd");
    folder.shell("touch -d 2001-01-01 a.vhd").code(0);
    folder
        .run("clone a.vhd -o c.vhd --reproducible --force")
        .code(0);
    assert!(folder.read("c.vhd") == first);
}

#[test]
fn a_guest_cannot_make_its_raw_disk_name_a_neighbour() {
    let folder = Folder::new();
    folder.write("tenant2.img", &noise(2, MIB));
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\nRW 2048 FLAT \"tenant2.img\" 0\n";
    let mut guest = text.as_bytes().to_vec();
    guest.resize(65_536, 0);
    folder.write("tenant1.img", &guest);
    folder.run("convert tenant1.img -o out.raw").code(3);
    assert!(!folder.path("out.raw").exists());
    // Named, it is what its owner says.
    folder
        .run("convert tenant1.img --input-format raw -o out.raw")
        .code(0);
    assert!(folder.read("out.raw") == guest);
}

#[test]
fn a_guest_cannot_make_its_parent_unreadable() {
    let folder = Folder::new();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o a.vmdk").code(0);
    folder.run("clone a.vmdk -o c.vmdk").code(0);
    let mut bytes = folder.read("a.vmdk");
    let end = bytes.len() - 512;
    bytes[end..end + 8].copy_from_slice(b"conectix"); // the guest's last sector
    folder.write("a.vmdk", &bytes);
    folder.run("hash c.vmdk").code(0);
    folder
        .run("hash a.vmdk")
        .code(2)
        .says("name the input format");
    folder.run("hash a.vmdk --input-format vmdk").code(0);
}

#[test]
fn a_parent_given_for_one_layer_is_no_loop_for_the_next() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).unwrap();
    folder.write("a.raw", &noise(1, MIB));
    folder.run("convert a.raw -o base.vmdk").code(0);
    folder.run("clone base.vmdk -o apps.vmdk").code(0);
    folder.run("clone apps.vmdk -o user.vmdk").code(0);
    fs::rename(folder.path("apps.vmdk"), folder.path("sub/apps.vmdk")).unwrap();
    folder
        .run("hash user.vmdk --parent sub/apps.vmdk")
        .code(2)
        .says("'base.vmdk' was not found");
    folder
        .run("hash user.vmdk --parent sub/apps.vmdk --parent base.vmdk")
        .code(0);
}

/// A disk of three extents, of which one is not to be read.
const CUSTOM: &str = "# Disk DescriptorFile
version=1
encoding=\"windows-1252\"
CID=12345678
parentCID=ffffffff
createType=\"custom\"
RW 2048 FLAT \"a-flat.vmdk\" 0
NOACCESS 2048 FLAT \"secret.vmdk\" 0
RW 2048 ZERO
ddb.adapterType = \"pvscsi\"
ddb.virtualHWVersion = \"19\"
ddb.thinProvisioned = \"1\"
";

#[test]
fn an_extent_that_may_not_be_read_is_shown_and_mapped_but_not_read() {
    let folder = Folder::new();
    folder.write("a.vmdk", CUSTOM.as_bytes());
    folder.write("a-flat.vmdk", &noise(1, MIB));
    let info = folder.run("info a.vmdk --json").code(0).json();
    assert_eq!(info["virtual_size"], 3 * MIB);
    for (name, value) in [
        (
            "extents",
            "RW 2048 FLAT a-flat.vmdk; NOACCESS 2048 FLAT secret.vmdk; RW 2048 ZERO",
        ),
        ("adapter type", "pvscsi"),
        ("hardware version", "19"),
        ("thin provisioned", "1"),
        ("encoding", "windows-1252"),
    ] {
        assert_eq!(info["details"][name], value);
    }
    folder.run("info a.vmdk").code(0).prints("secret.vmdk");
    let map = folder.run("map a.vmdk --json").code(0).json();
    let last = map.as_array().unwrap().last().unwrap();
    assert_eq!(last["start"].as_u64(), Some(2 * MIB as u64));
    assert_eq!(last["zero"], true);
    for line in ["hash a.vmdk", "convert a.vmdk -o b.raw"] {
        folder
            .run(line)
            .code(2)
            .says("extent 2: is marked NOACCESS");
    }
    assert!(!folder.path("b.raw").exists());
}

#[test]
fn a_device_that_an_image_names_needs_leave() {
    let folder = Folder::new();
    let text = CUSTOM.replace("a-flat.vmdk", "/dev/null");
    folder.write("a.vmdk", text.as_bytes());
    let refused = folder.run("info a.vmdk").code(3).says("/dev/null");
    refused.says("--allow-devices");
    let let_in = folder.run("info a.vmdk --allow-devices").code(2);
    let_in.says("is not a block device");
}
