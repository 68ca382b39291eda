//! Every cap on what an image or a caller may ask for, in one place, each with its reason.

/// Layers in a chain. VMware stops at 32 snapshots, Hyper-V at 64; more than this is a mistake or an attack.
pub const CHAIN_DEPTH: usize = 256;

/// Bytes of a VMDK descriptor. Real ones are below 20 KiB; VirtualBox accepts 10 MiB.
pub const DESCRIPTOR: u64 = 1 << 20;

/// Extent lines of a VMDK descriptor. 64 TiB in 2 GiB pieces need 32,768.
pub const EXTENTS: usize = 65_536;

/// Bytes of all grain directories of an image: 128 TiB of 64 KiB grains need 16 MiB.
pub const GRAIN_DIRECTORY: u64 = 64 << 20;

/// Bytes of a VMDK grain. qemu accepts 1 GiB; nothing larger than 1 MiB has been seen.
pub const GRAIN: u64 = 4 << 20;

/// Entries of a VHD block allocation table: 2040 GiB in blocks of 512 KiB need 4.2 million.
pub const BAT_ENTRIES: u32 = 8 << 20;

/// Places for grains or blocks that a file has, or MiB of a VHDX, when it is changed: each takes some
/// bits of memory, 128 MiB a bit. 62 TiB of 64 KiB grains are just below it.
pub const SLOTS: u64 = 1 << 30;

/// Bytes of a VHD or VDI block. The defaults are 2 MiB and 1 MiB.
pub const BLOCK: u32 = 256 << 20;

/// Bytes of a VHD parent locator. Windows reserves 64 KiB.
pub const LOCATOR: u32 = 64 << 10;

/// Bytes of a VHDX log that must be replayed, which is held in memory. Everybody writes 1 MiB.
pub const LOG: u64 = 16 << 20;

/// Bytes of a VHDX metadata item: the specification's own limit.
pub const METADATA_ITEM: u32 = 1 << 20;

/// Keys of a VHDX parent locator. Windows writes five.
pub const LOCATOR_KEYS: u16 = 256;

/// Bytes of a VHDX disk: the specification's own limit, 64 TiB.
pub const VHDX_SIZE: u64 = 64 << 40;

/// Clusters of qcow2 have at most 2 to this power of bytes: what qemu accepts.
pub const CLUSTER_BITS: u32 = 21;

/// Bytes of a qcow2 L1 table: what qemu accepts. 2 PiB of 64 KiB clusters need as much.
pub const L1: u64 = 32 << 20;

/// Bytes of the extensions behind a qcow2 header. Real ones are below 1 KiB.
pub const HEADER_EXTENSIONS: u64 = 64 << 10;

/// Bytes of the name of a qcow2 backing file: the specification's limit.
pub const BACKING_NAME: u32 = 1023;

/// Bytes of a Zstandard window: what RFC 8878 asks every decoder to support. A cluster has 2 MiB.
pub const ZSTD_WINDOW: u64 = 8 << 20;

/// Entries of a VDI block map: 64 TiB of blocks of 1 MiB.
pub const VDI_BLOCKS: u32 = 64 << 20;

/// Bytes at the end of a file in which the footer of a VHD is looked for that others follow: tools
/// fill files up to a MiB.
pub const AFTER_FOOTER: u64 = 1 << 20;
/// Bytes of any virtual disk. VMDK stops at 62 TiB in products, VHDX at 64 TiB.
pub const DISK_SIZE: u64 = 1 << 53;

/// Threads of a job. More cannot help, and each costs memory for what it has in hand.
pub const THREADS: usize = 256;

/// Images that a search keeps, about 1 KiB each. Farms of clones have some thousand.
pub const FAMILY: usize = 200_000;

/// Findings of one rule that a check keeps; the others are counted. Nobody reads more.
pub const FINDINGS: u64 = 100;

/// Pieces of a file that a check tells apart: about 64 MiB. A disk written in order needs a few,
/// one in random order as many as it has grains; then it is forgotten which grain took which.
pub const CLAIMS: usize = 1 << 20;

/// Headers of an OVA archive. Real ones hold some ten members; chunks of 1 GiB of a 4 TiB disk need 4096.
pub const ARCHIVE_MEMBERS: usize = 8192;

/// Bytes of an extension header in an archive: a name of 4096 bytes, and some attributes.
pub const ARCHIVE_EXTENSION: u64 = 64 << 10;

/// Bytes of an OVF descriptor. Real ones are below 100 KiB; those of vApps with licences reach some more.
pub const OVF: u64 = 4 << 20;

/// Elements of an OVF descriptor inside each other. Real ones reach 8.
pub const OVF_DEPTH: usize = 64;

/// Files, or disks, of an OVF descriptor. A virtual machine has 256 disks at most.
pub const OVF_ENTRIES: usize = 4096;

/// Bytes of an OVA manifest: as many lines as there may be members, with some names.
pub const MANIFEST: u64 = 2 << 20;

/// Bytes of the entries of a GUID partition table. Everybody writes 16 KiB.
pub const GPT_ENTRIES: u64 = 1 << 20;
