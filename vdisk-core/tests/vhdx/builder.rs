//! Builds images by hand. It knows the format from its specification, not from the crate.

use crate::sparse::Sparse;
use proptest::prelude::*;
use std::sync::LazyLock;

pub(crate) const MIB: u64 = 1 << 20;
/// The data write GUID of every image built.
pub(crate) const DATA_WRITE: [u8; 16] = *b"who the image is";
/// The data write GUID that children expect of their parent, in the bytes of a file and as text.
pub(crate) const PARENT: [u8; 16] = [
    0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];
pub(crate) const PARENT_TEXT: &str = "{00112233-4455-6677-8899-aabbccddeeff}";

/// CRC-32C, byte by byte.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let bit = |s: u32, _| {
            if s & 1 == 1 {
                s >> 1 ^ 0x82f6_3b78
            } else {
                s >> 1
            }
        };
        (0..256).map(|byte| (0..8).fold(byte, bit)).collect()
    });
    let step = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize];
    !bytes.iter().fold(!0, step)
}

/// The 16 bytes that stand in a file for a GUID.
pub(crate) fn guid(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|d| (d as char).to_digit(16).unwrap() as u8)
        .collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.map(|i| bytes[i])
}

pub(crate) const BAT_ID: &str = "2DC27766-F623-4200-9D64-115E9BFD4A08";
pub(crate) const METADATA_ID: &str = "8B7CA206-4790-4B9A-B8FE-575F050F886E";
const ITEMS: [&str; 6] = [
    "CAA16737-FA36-4D43-B3B6-33F0AA44E76B",
    "2FA54224-CD1B-4876-B211-5DBED83BF4B8",
    "BECA12AB-B2E6-4523-93EF-C309E000C746",
    "8141BF1D-A96F-4709-BA47-F233A8FAAB5F",
    "CDA348C7-445D-4471-9CC9-E9885251C556",
    "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C",
];

/// What is known of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// The entry has this state and no place: 0, 1, 2, 3 or 5.
    Without(u64),
    /// State 6.
    Whole,
    /// State 7: the sectors from .. to of the block are here.
    Partial(Vec<(u64, u64)>),
}

/// An image to build by hand.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) child: bool,
    pub(crate) fixed: bool,
    pub(crate) sector: u64,
    pub(crate) block: u64,
    pub(crate) sectors: u64,
    /// Blocks not named are not present.
    pub(crate) blocks: Vec<(u64, Block)>,
    /// Blocks are placed in the order of these numbers, and bitmaps somewhere among them.
    pub(crate) order: Vec<u32>,
    /// MiB left free before each thing.
    pub(crate) gap: u64,
    /// In which order log, metadata and table follow each other.
    pub(crate) turn: usize,
    pub(crate) seed: u8,
    pub(crate) locator: Vec<(&'static str, String)>,
}

impl Shape {
    pub(crate) fn new(sector: u64, block: u64, sectors: u64, blocks: Vec<(u64, Block)>) -> Self {
        Self {
            child: false,
            fixed: false,
            sector,
            block,
            sectors,
            order: (0..blocks.len() as u32).collect(),
            blocks,
            gap: 0,
            turn: 0,
            seed: 9,
            locator: Vec::new(),
        }
    }

    pub(crate) fn into_child(mut self) -> Self {
        self.child = true;
        self.locator = vec![
            ("parent_linkage", PARENT_TEXT.into()),
            ("relative_path", r".\base.vhdx".into()),
        ];
        self
    }

    pub(crate) fn size(&self) -> u64 {
        self.sectors * self.sector
    }

    /// What the image holds as sector `number` of the disk.
    pub(crate) fn sector(&self, number: u64) -> Vec<u8> {
        (0..self.sector)
            .map(|i| (number * 7 + number / 251 + i * 13 + u64::from(self.seed)) as u8 | 1)
            .collect()
    }

    /// What sector `number` reads as: bytes, zero, or nothing where the image does not say.
    pub(crate) fn model(&self, number: u64) -> Option<Vec<u8>> {
        let per_block = self.block / self.sector;
        let (block, inside) = (number / per_block, number % per_block);
        let found = self.blocks.iter().find(|(n, _)| *n == block);
        match found.map(|(_, b)| b) {
            None | Some(Block::Without(0)) => None,
            Some(Block::Without(_)) => Some(vec![0; self.sector as usize]),
            Some(Block::Whole) => Some(self.sector(number)),
            Some(Block::Partial(ranges)) => ranges
                .iter()
                .any(|(a, b)| (*a..*b).contains(&inside))
                .then(|| self.sector(number)),
        }
    }

    pub(crate) fn build(&self) -> Built {
        let per_chunk = (1u64 << 23) * self.sector / self.block;
        let blocks = self.size().div_ceil(self.block);
        let entries = match (blocks, self.child) {
            (0, _) => 0,
            (n, true) => n.div_ceil(per_chunk) * (per_chunk + 1),
            (n, false) => n + (n - 1) / per_chunk,
        };
        let bat_len = (entries * 8).next_multiple_of(MIB).max(MIB);
        let mut end = MIB;
        let mut take = |len: u64| {
            end += self.gap * MIB;
            end += len;
            end - len
        };
        let mut places = [0; 3];
        for i in 0..3 {
            let which = (i + self.turn) % 3;
            places[which] = take([MIB, MIB, bat_len][which]);
        }
        let [log, metadata, bat] = places;
        let mut file = Sparse::default();
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        order.sort_by_key(|i| self.order[*i]);
        let mut bitmaps: Vec<(u64, u64)> = Vec::new();
        for i in order {
            let (number, block) = &self.blocks[i];
            let (chunk, in_chunk) = (number / per_chunk, number % per_chunk);
            let index = number + chunk;
            let state = match block {
                Block::Without(state) => {
                    file.put(bat + index * 8, &state.to_le_bytes());
                    continue;
                }
                Block::Whole => 6,
                Block::Partial(_) => 7,
            };
            let at = take(self.block);
            file.put(bat + index * 8, &(at | state).to_le_bytes());
            let per_block = self.block / self.sector;
            let used = per_block.min(self.sectors - number * per_block);
            for inside in 0..used {
                // Sectors that are not kept hold rubbish, which must not be seen.
                let bytes = match self.model(number * per_block + inside) {
                    Some(bytes) => bytes,
                    None => vec![0xdb; self.sector as usize],
                };
                file.put(at + inside * self.sector, &bytes);
            }
            let Block::Partial(ranges) = block else {
                continue;
            };
            let bitmap = match bitmaps.iter().find(|(c, _)| *c == chunk) {
                Some((_, at)) => *at,
                None => {
                    let at = take(MIB);
                    // Bits of blocks that are not partial mean nothing.
                    file.put(at, &[0xa5; MIB as usize]);
                    let index = (chunk + 1) * per_chunk + chunk;
                    file.put(bat + index * 8, &(at | 6).to_le_bytes());
                    bitmaps.push((chunk, at));
                    at
                }
            };
            let mut bits = vec![0u8; (per_block / 8) as usize];
            for sector in ranges.iter().flat_map(|(a, b)| *a..*b) {
                bits[(sector / 8) as usize] |= 1 << (sector % 8);
            }
            file.put(bitmap + in_chunk * per_block / 8, &bits);
        }
        file.size = take(0);
        let mut built = Built {
            file,
            log,
            metadata,
            bat,
        };
        built.file.put(0, b"vhdxfile");
        built.file.put(8, &utf16("by hand"));
        built.header(0, 7, [0; 16]);
        built.header(1, 8, [0; 16]);
        built.regions(&[
            (guid(BAT_ID), bat, bat_len as u32, 1),
            (guid(METADATA_ID), metadata, MIB as u32, 1),
        ]);
        built.items(self);
        built
    }

    /// The items of the metadata: GUID, flags, bytes.
    pub(crate) fn metadata(&self) -> Vec<([u8; 16], u32, Vec<u8>)> {
        let flags = u32::from(self.fixed) | u32::from(self.child) << 1;
        let parameters = [(self.block as u32).to_le_bytes(), flags.to_le_bytes()].concat();
        let mut items = vec![
            (guid(ITEMS[0]), 4, parameters),
            (guid(ITEMS[1]), 6, self.size().to_le_bytes().to_vec()),
            (guid(ITEMS[2]), 6, b"the virtual disk".to_vec()),
            (
                guid(ITEMS[3]),
                6,
                (self.sector as u32).to_le_bytes().to_vec(),
            ),
            (guid(ITEMS[4]), 6, 4096u32.to_le_bytes().to_vec()),
        ];
        if self.child {
            items.push((guid(ITEMS[5]), 4, locator(&self.locator)));
        }
        items
    }
}

/// A parent locator of these keys and values.
pub(crate) fn locator(pairs: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = guid("B04AEFB7-D19E-4A81-B789-25B8E9445913").to_vec();
    bytes.extend([0, 0]);
    bytes.extend((pairs.len() as u16).to_le_bytes());
    let mut texts = Vec::new();
    let start = 20 + 12 * pairs.len();
    for (key, value) in pairs {
        let (key, value) = (utf16(key), utf16(value));
        let at = (start + texts.len()) as u32;
        bytes.extend(at.to_le_bytes());
        bytes.extend((at + key.len() as u32).to_le_bytes());
        bytes.extend((key.len() as u16).to_le_bytes());
        bytes.extend((value.len() as u16).to_le_bytes());
        texts.extend(key);
        texts.extend(value);
    }
    bytes.extend(texts);
    bytes
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// An image, and where its parts are.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) file: Sparse,
    pub(crate) log: u64,
    pub(crate) metadata: u64,
    pub(crate) bat: u64,
}

impl Built {
    /// Writes a whole header into one of the two places.
    pub(crate) fn header(&mut self, slot: u64, sequence: u64, log: [u8; 16]) {
        let at = (slot + 1) << 16;
        let mut bytes = vec![0; 4096];
        put(&mut bytes, 0, b"head");
        put(&mut bytes, 8, &sequence.to_le_bytes());
        put(&mut bytes, 16, b"who wrote to it!");
        put(&mut bytes, 32, &DATA_WRITE);
        put(&mut bytes, 48, &log);
        put(&mut bytes, 66, &1u16.to_le_bytes());
        put(&mut bytes, 68, &(MIB as u32).to_le_bytes());
        put(&mut bytes, 72, &self.log.to_le_bytes());
        self.file.put(at, &sealed(bytes));
    }

    /// Changes bytes of a header, keeping its checksum right.
    pub(crate) fn in_header(&mut self, slot: u64, at: usize, what: &[u8]) {
        self.in_sealed((slot + 1) << 16, 4096, at, what);
    }

    /// Changes bytes of both headers.
    pub(crate) fn in_headers(&mut self, at: usize, what: &[u8]) {
        self.in_header(0, at, what);
        self.in_header(1, at, what);
    }

    /// Changes bytes of both region tables.
    pub(crate) fn in_regions(&mut self, at: usize, what: &[u8]) {
        self.in_sealed(192 << 10, 65536, at, what);
        self.in_sealed(256 << 10, 65536, at, what);
    }

    pub(crate) fn in_sealed(&mut self, start: u64, len: usize, at: usize, what: &[u8]) {
        let mut bytes = self.file.get(start, len);
        put(&mut bytes, at, what);
        self.file.put(start, &sealed(bytes));
    }

    /// Writes both region tables.
    pub(crate) fn regions(&mut self, regions: &[([u8; 16], u64, u32, u32)]) {
        let mut bytes = vec![0; 65536];
        put(&mut bytes, 0, b"regi");
        put(&mut bytes, 8, &(regions.len() as u32).to_le_bytes());
        for (i, (id, offset, length, required)) in regions.iter().enumerate() {
            let row = [
                &id[..],
                &offset.to_le_bytes(),
                &length.to_le_bytes(),
                &required.to_le_bytes(),
            ];
            put(&mut bytes, 16 + 32 * i, &row.concat());
        }
        let bytes = sealed(bytes);
        self.file.put(192 << 10, &bytes);
        self.file.put(256 << 10, &bytes);
    }

    fn items(&mut self, shape: &Shape) {
        self.metadata_of(&shape.metadata());
    }

    /// Writes the metadata region.
    pub(crate) fn metadata_of(&mut self, items: &[([u8; 16], u32, Vec<u8>)]) {
        let mut table = vec![0; 65536];
        put(&mut table, 0, b"metadata");
        put(&mut table, 10, &(items.len() as u16).to_le_bytes());
        let mut at = 65536u32;
        for (i, (id, flags, bytes)) in items.iter().enumerate() {
            let length = bytes.len() as u32;
            let row = [
                &id[..],
                &at.to_le_bytes(),
                &length.to_le_bytes(),
                &flags.to_le_bytes(),
            ];
            put(&mut table, 32 + 32 * i, &row.concat());
            self.file.put(self.metadata + u64::from(at), bytes);
            at += length;
        }
        self.file.put(self.metadata, &table);
    }

    /// Changes entry `index` of the block allocation table: the state, and the place or reserved bits.
    pub(crate) fn entry(&mut self, index: u64, state: u64, at: u64) {
        let entry = at | state;
        self.file.put(self.bat + index * 8, &entry.to_le_bytes());
    }

    /// Changes bytes of the metadata region.
    pub(crate) fn in_metadata(&mut self, at: u64, what: &[u8]) {
        self.file.put(self.metadata + at, what);
    }
}

/// What a log entry does to the file.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The page at this offset becomes these bytes.
    Page(u64, Vec<u8>),
    /// This many bytes at this offset become zero.
    Zero(u64, u64),
}

/// A log entry.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    pub(crate) log: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) tail: u32,
    pub(crate) flushed: u64,
    pub(crate) last: u64,
    pub(crate) steps: Vec<Step>,
}

impl LogEntry {
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        for step in &self.steps {
            match step {
                Step::Page(at, page) => {
                    bytes.extend(b"desc");
                    bytes.extend(&page[4092..]);
                    bytes.extend(&page[..8]);
                    bytes.extend(at.to_le_bytes());
                }
                Step::Zero(at, len) => {
                    bytes.extend(b"zero");
                    bytes.extend([0; 4]);
                    bytes.extend(len.to_le_bytes());
                    bytes.extend(at.to_le_bytes());
                }
            }
            bytes.extend(self.sequence.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        for step in &self.steps {
            let Step::Page(_, page) = step else { continue };
            bytes.extend(b"data");
            bytes.extend(((self.sequence >> 32) as u32).to_le_bytes());
            bytes.extend(&page[8..4092]);
            bytes.extend((self.sequence as u32).to_le_bytes());
        }
        put(&mut bytes, 0, b"loge");
        let len = bytes.len() as u32;
        put(&mut bytes, 8, &len.to_le_bytes());
        put(&mut bytes, 12, &self.tail.to_le_bytes());
        put(&mut bytes, 16, &self.sequence.to_le_bytes());
        let count = self.steps.len() as u32;
        put(&mut bytes, 24, &count.to_le_bytes());
        put(&mut bytes, 32, &self.log);
        put(&mut bytes, 48, &self.flushed.to_le_bytes());
        put(&mut bytes, 56, &self.last.to_le_bytes());
        sealed(bytes)
    }
}

pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..][..what.len()].copy_from_slice(what);
}

/// With the checksum in its field, after the signature.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    put(&mut bytes, 4, &[0; 4]);
    let sum = crc(&bytes);
    put(&mut bytes, 4, &sum.to_le_bytes());
    bytes
}

/// Small images: some blocks of 1 or 2 MiB in any state, any order, last block not whole.
pub(crate) fn shapes(child: bool) -> impl Strategy<Value = Shape> {
    (prop::bool::ANY, 20..22u32, 1..5u64, 1..300u64)
        .prop_flat_map(move |(small, log, count, last)| {
            let sector = if small { 512 } else { 4096 };
            let block = 1u64 << log;
            let per_block = block / sector;
            let partial = prop::collection::vec((0..per_block, 0..per_block), 0..5);
            let kinds = match child {
                true => prop_oneof![
                    prop::sample::select(vec![0, 1, 2, 3, 5]).prop_map(Block::Without),
                    Just(Block::Whole),
                    partial.clone().prop_map(Block::Partial),
                    partial.prop_map(Block::Partial),
                ]
                .boxed(),
                false => prop_oneof![
                    prop::sample::select(vec![0, 1, 2, 3, 5]).prop_map(Block::Without),
                    Just(Block::Whole),
                ]
                .boxed(),
            };
            let sectors = (count - 1) * per_block + last.min(per_block);
            (
                prop::collection::vec(kinds, count as usize),
                prop::collection::vec(any::<u32>(), count as usize),
                (0..3u64, 0..3usize, any::<u8>()),
                Just((sector, block, sectors)),
            )
        })
        .prop_map(
            move |(kinds, order, (gap, turn, seed), (sector, block, sectors))| {
                let shape = Shape {
                    order,
                    gap,
                    turn,
                    seed,
                    ..Shape::new(sector, block, sectors, (0..).zip(kinds).collect())
                };
                if child { shape.into_child() } else { shape }
            },
        )
}
