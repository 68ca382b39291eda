//! Writes an archive: OVF descriptor, streamOptimized disk, manifest.
//!
//! In one pass over the source. The descriptor comes first, as DSP0243 wants it, but says how long
//! the disk's file is: so its place is kept, and filled at the end. The manifest then follows the
//! disk, which DSP0243 allows ("at the end of the archive").

use super::descriptor_text::{Machine, Names, descriptor};
use crate::{
    Error, ErrorKind, ImageWriter, Packing, Result,
    format::{Spec, subformat},
    ops::hash::hex,
    target::Target,
    units::{SECTOR, round_up},
    vmdk::{StreamWriter, Vmdk},
};
use sha2::{Digest, Sha256};
use std::ops::Range;
use tar::{EntryType, Header};

/// Bytes of a header, and the unit of everything in an archive.
const BLOCK: u64 = SECTOR;

/// See the module.
pub(super) struct OvaWriter<'a> {
    disk: StreamWriter<Member<'a>>,
    names: Names,
    machine: Machine,
    capacity: u64,
    /// Bytes kept for the descriptor.
    text: u64,
    modified: u64,
}

impl<'a> OvaWriter<'a> {
    pub(super) fn new(target: &'a mut dyn Target, spec: &Spec<'_>) -> Result<Self> {
        if spec.name.to_ascii_lowercase().ends_with(".ovf") {
            let detail =
                "is written only inside an archive: give the output a name that ends in .ova";
            return Err(Error::new(ErrorKind::Usage, "OVF descriptor", detail));
        }
        let names = Names::of(spec.name);
        let machine = Machine::of(&spec.options);
        let text = descriptor(&names, &machine, spec.size, u64::MAX).len() as u64;
        let disk_name = names.disk();
        let inner = Spec {
            name: &disk_name,
            // The disk's descriptor says what it is itself, not what it lies in.
            subformat: subformat(&Vmdk, Some("streamOptimized"))?,
            ..spec.clone()
        };
        let member = Member {
            target,
            // Header and text of the descriptor, and the header of the disk.
            at: round_up(text, BLOCK).saturating_add(2 * BLOCK),
            len: 0,
            digest: Sha256::new(),
        };
        Ok(Self {
            disk: StreamWriter::new(member, &inner)?,
            names,
            machine,
            capacity: spec.size,
            text,
            modified: spec.ids.created,
        })
    }
}

impl ImageWriter for OvaWriter<'_> {
    fn unit(&self) -> u64 {
        self.disk.unit()
    }

    fn packing(&self) -> Packing {
        self.disk.packing()
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<()> {
        self.disk.data(range, bytes)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        self.disk.zero(range)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self {
            disk,
            names,
            machine,
            capacity,
            text,
            modified,
        } = *self;
        let Member {
            target,
            at,
            len,
            digest,
        } = disk.complete()?;
        let mut xml = descriptor(&names, &machine, capacity, len).into_bytes();
        // White space may follow the root element.
        xml.resize(crate::units::buffer_len(text)?, b'\n');
        let manifest = format!(
            "SHA256({})= {}\nSHA256({})= {}\n",
            names.descriptor(),
            hex(&Sha256::digest(&xml)),
            names.disk(),
            hex(&digest.finalize())
        );
        let header = |name: &str, size| header(name, size, modified);
        target.write_at(0, &header(&names.descriptor(), text)?)?;
        target.write_at(BLOCK, &xml)?;
        target.write_at(at.saturating_sub(BLOCK), &header(&names.disk(), len)?)?;
        let mut end = at.saturating_add(round_up(len, BLOCK));
        let size = manifest.len() as u64;
        target.write_at(end, &header(&names.manifest(), size)?)?;
        end = end.saturating_add(BLOCK);
        target.write_at(end, manifest.as_bytes())?;
        // Two empty blocks end an archive.
        end = end
            .saturating_add(round_up(size, BLOCK))
            .saturating_add(2 * BLOCK);
        target.set_size(end)
    }
}

/// A ustar header; sizes of 8 GiB and more are in base 256, as GNU tar writes them.
fn header(name: &str, size: u64, modified: u64) -> Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header
        .set_path(name)
        .map_err(|e| Error::new(ErrorKind::Usage, "member", format!("'{name}': {e}")))?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

/// The disk inside the archive: its bytes go to their place, and into the digest.
struct Member<'a> {
    target: &'a mut dyn Target,
    /// Where it begins in the archive.
    at: u64,
    /// Bytes so far.
    len: u64,
    digest: Sha256,
}

impl Target for Member<'_> {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        if pos != self.len {
            // The digest is made as the bytes pass.
            let detail = format!("{pos:#x} is written after {:#x}", self.len);
            return Err(Error::new(ErrorKind::Usage, "archive member", detail));
        }
        self.digest.update(bytes);
        self.target.write_at(self.at.saturating_add(pos), bytes)?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn set_size(&mut self, size: u64) -> Result<()> {
        static ZEROS: [u8; 4096] = [0; 4096];
        while self.len < size {
            let len = crate::disk::part_len(ZEROS.len(), self.len, size);
            self.write_at(self.len, ZEROS.get(..len).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    /// By the description in the manual of GNU tar: the first bit set, then the number.
    #[test]
    fn sizes_beyond_eleven_octal_digits_are_binary() {
        let largest = header("a", (8 << 30) - 1, 0).unwrap();
        assert_eq!(&largest[124..135], b"77777777777");
        for size in [8 << 30, 70_000_000_000, 1 << 53] {
            let block = header("a", size, 0).unwrap();
            assert_eq!(block[124..128], [0x80, 0, 0, 0]);
            assert_eq!(block[128..136], size.to_be_bytes());
            assert!(super::super::archive::is_header(&block));
        }
    }

    #[test]
    fn a_disk_that_is_not_written_in_order_has_no_digest() {
        let mut archive: Vec<u8> = Vec::new();
        let mut member = Member {
            target: &mut archive,
            at: 512,
            len: 0,
            digest: Sha256::new(),
        };
        member.write_at(0, b"abc").unwrap();
        assert!(member.write_at(0, b"x").is_err());
        assert!(member.write_at(4, b"x").is_err());
        member.set_size(5).unwrap();
        // printf 'abc\0\0' | sha256sum
        assert_eq!(
            hex(&member.digest.finalize()),
            "0616290e0a45001015ac04f49716fbec564e5bd3301a9e8871c422ef5a691fc1"
        );
        assert_eq!(archive[512..], *b"abc\0\0");
    }
}
