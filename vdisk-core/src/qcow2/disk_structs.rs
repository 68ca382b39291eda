//! The header of a qcow2 file and its extensions, byte for byte, so that no other file knows an
//! offset.
//!
//! Field meanings: "QCow2 image file format", `docs/interop/qcow2` of qemu. All numbers are
//! big-endian.

use crate::{
    Error, ErrorKind, Result, limits,
    storage::ImageFile,
    units::{FileOffset, SECTOR, round_up},
};
use binrw::BinRead;
use std::io::Cursor;

/// First bytes of the file.
pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes that hold every header; the smallest cluster, so each image has them.
const HEADER: u64 = 512;
/// Bytes of the header of version 2, and the least of version 3.
const HEADER_V2: u32 = 72;
const HEADER_V3: u32 = 104;

/// Incompatible feature: was not closed cleanly.
pub(super) const DIRTY: u64 = 1;
/// Incompatible feature: a program found the tables damaged.
pub(super) const CORRUPT: u64 = 1 << 1;
/// Incompatible feature: the clusters are in a file of their own.
pub(super) const EXTERNAL_DATA: u64 = 1 << 2;
/// Incompatible feature: the header says how clusters are compressed.
pub(super) const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature: entries of L2 tables tell of 32 subclusters.
pub(super) const EXTENDED_L2: u64 = 1 << 4;
/// The incompatible features that are read here.
pub(super) const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;
/// Autoclear feature: the external data file is by itself the disk.
pub(super) const RAW_DATA: u64 = 1 << 1;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

/// The header. What version 2 lacks has the value that the specification gives it.
#[derive(BinRead, Clone, Debug)]
#[br(big, magic = b"QFI\xfb")]
pub(super) struct Header {
    pub(super) version: u32,
    /// Where the name of the backing file is; 0 without one.
    pub(super) backing_at: u64,
    pub(super) backing_len: u32,
    pub(super) cluster_bits: u32,
    /// The virtual size in bytes.
    pub(super) size: u64,
    pub(super) crypt_method: u32,
    pub(super) l1_entries: u32,
    pub(super) l1_at: u64,
    pub(super) refcounts_at: u64,
    pub(super) refcount_clusters: u32,
    pub(super) snapshots: u32,
    #[br(pad_before = 8, if(version >= 3))]
    pub(super) incompatible: u64,
    #[br(if(version >= 3), pad_before = 8)]
    pub(super) autoclear: u64,
    /// Bits of a refcount are 2 to this power.
    #[br(if(version >= 3, 4))]
    pub(super) refcount_order: u32,
    #[br(if(version >= 3, HEADER_V2))]
    pub(super) length: u32,
    #[br(if(length > HEADER_V3))]
    pub(super) compression: u8,
}

impl Header {
    /// Reads the header of `file`.
    pub(super) fn read(file: &ImageFile) -> Result<Self> {
        let bytes = file.read_part("header", 0, HEADER)?;
        if !bytes.starts_with(MAGIC) {
            let detail = "has no qcow2 signature";
            return Err(Error::new(ErrorKind::WrongFormat, "format", detail));
        }
        let header = <Self as BinRead>::read(&mut Cursor::new(&bytes))
            .map_err(|e| Error::corrupt("header", "cannot be read").because(e))?;
        if !matches!(header.version, 2 | 3) {
            let detail = format!("has version {}; versions 2 and 3 are read", header.version);
            return Err(Error::new(ErrorKind::Unsupported, "header", detail).at(4));
        }
        if header.cluster_bits > limits::CLUSTER_BITS {
            let detail = format!(
                "has clusters of 2^{} bytes; at most 2^{} are accepted",
                header.cluster_bits,
                limits::CLUSTER_BITS
            );
            return Err(Error::new(ErrorKind::Limit, "header", detail).at(20));
        }
        if header.cluster() < SECTOR {
            let detail = format!("has clusters of 2^{} bytes", header.cluster_bits);
            return Err(Error::corrupt("header", detail).at(20));
        }
        let least = if header.version == 2 {
            HEADER_V2
        } else {
            HEADER_V3
        };
        if header.length < least || u64::from(header.length) > header.cluster() {
            let detail = format!("claims {} bytes for itself", header.length);
            return Err(Error::corrupt("header", detail).at(100));
        }
        Ok(header)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1u64.checked_shl(self.cluster_bits).unwrap_or(0)
    }

    /// True if that incompatible feature is used.
    pub(super) fn has(&self, feature: u64) -> bool {
        self.incompatible & feature != 0
    }
}

/// What the extensions behind the header say, as far as it is needed for reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    /// The name of the backing file's format.
    pub(super) backing_format: Option<Vec<u8>>,
    /// The name of the external data file.
    pub(super) data_file: Option<Vec<u8>>,
    /// Type and bit of features, and their names.
    feature_names: Vec<(u8, u8, String)>,
}

impl Extensions {
    /// Reads the extensions, which end where the backing file's name or the first cluster does.
    pub(super) fn read(file: &ImageFile, header: &Header) -> Result<Self> {
        let start = u64::from(header.length);
        let end = match header.backing_at {
            0 => header.cluster(),
            at => at.min(header.cluster()),
        };
        let len = end
            .min(file.size)
            .saturating_sub(start)
            .min(limits::HEADER_EXTENSIONS);
        let bytes = file.read_part("header extensions", start, len)?;
        let mut found = Self::default();
        let mut rest = bytes.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let (kind, len) = head.split_at(4);
            let number = |b: &[u8]| b.iter().fold(0u32, |n, b| (n << 8) | u32::from(*b));
            let (kind, len) = (number(kind), number(len));
            if kind == EXTENSION_END {
                return Ok(found);
            }
            let at = FileOffset(start).plus(bytes.len().saturating_sub(rest.len()) as u64)?;
            let padded = usize::try_from(round_up(len.into(), 8)).unwrap_or(usize::MAX);
            let data = tail.get(..usize::try_from(len).unwrap_or(usize::MAX));
            let (Some(data), Some(next)) = (data, tail.get(padded.min(tail.len())..)) else {
                let detail = format!("{kind:#010x} of {len} bytes does not fit into the header");
                return Err(Error::corrupt("header extension", detail).at(at.0));
            };
            match kind {
                EXTENSION_BACKING_FORMAT => found.backing_format = Some(data.to_vec()),
                EXTENSION_DATA_FILE => found.data_file = Some(data.to_vec()),
                EXTENSION_FEATURE_NAMES => found.feature_names = names(data),
                _ => {} // all others can be left unread
            }
            rest = next;
        }
        if len == limits::HEADER_EXTENSIONS {
            let detail = format!("are longer than {} bytes", limits::HEADER_EXTENSIONS);
            return Err(Error::new(ErrorKind::Limit, "header extensions", detail).at(start));
        }
        Ok(found)
    }

    /// The incompatible features in `bits`, by the names that the image gives them.
    pub(super) fn name_features(&self, bits: u64) -> String {
        let name = |bit: u8| {
            let named = self
                .feature_names
                .iter()
                .find(|(kind, b, _)| (*kind, *b) == (0, bit));
            named.map_or(format!("bit {bit}"), |(_, _, name)| {
                format!("'{name}' (bit {bit})")
            })
        };
        let names: Vec<String> = (0..64u8)
            .filter(|bit| bits.checked_shr(u32::from(*bit)).unwrap_or(0) & 1 == 1)
            .map(name)
            .collect();
        names.join(", ")
    }
}

/// Parses the table of feature names: type, bit, and 46 bytes of name.
fn names(data: &[u8]) -> Vec<(u8, u8, String)> {
    let entries = data.as_chunks::<48>().0.iter();
    entries
        .map(|entry| {
            let [kind, bit, name @ ..] = entry;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let name = name.get(..end).unwrap_or_default();
            (*kind, *bit, String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}
