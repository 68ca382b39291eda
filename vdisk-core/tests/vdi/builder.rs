//! Builds images by hand. It knows the format from the headers of VirtualBox, not from the crate.

pub(crate) const SECTOR: usize = 512;
pub(crate) const UUID: [u8; 16] = *b"the image itself";
pub(crate) const MODIFIED: [u8; 16] = *b"its latest state";

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Hole,
    Zero,
    Data,
}

/// An image to build by hand.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: u32,
    pub(crate) sectors: usize,
    pub(crate) block: usize,
    /// Bytes before the data of each block.
    pub(crate) extra: usize,
    pub(crate) blocks: Vec<Is>,
    /// Blocks are placed in the order of these numbers.
    pub(crate) order: Vec<u32>,
    /// Blocks of rubbish between those that are used.
    pub(crate) gap: usize,
    /// Map entries more than needed.
    pub(crate) spare: usize,
    /// Sectors between header, map and data.
    pub(crate) pad: usize,
    /// UUID and state of the parent.
    pub(crate) parent: Option<([u8; 16], [u8; 16])>,
    pub(crate) uuid: [u8; 16],
    pub(crate) seed: u8,
}

impl Shape {
    /// Four blocks of a sector: data, zero, absent, data. The map is at 512, the data at 1024.
    pub(crate) fn sample() -> Self {
        Self {
            kind: 1,
            sectors: 4,
            block: 512,
            extra: 0,
            blocks: vec![Is::Data, Is::Zero, Is::Hole, Is::Data],
            order: vec![],
            gap: 0,
            spare: 0,
            pad: 0,
            parent: None,
            uuid: UUID,
            seed: 5,
        }
    }

    fn sector(&self, number: usize) -> Vec<u8> {
        (0..SECTOR)
            .map(|i| (number * 7 + i * 13 + usize::from(self.seed)) as u8 | 1)
            .collect()
    }

    /// What each sector of the disk is, and holds.
    pub(crate) fn model(&self) -> Vec<(Is, Vec<u8>)> {
        (0..self.sectors)
            .map(|s| match self.blocks[s * SECTOR / self.block] {
                Is::Data => (Is::Data, self.sector(s)),
                is => (is, vec![0; SECTOR]),
            })
            .collect()
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let map_at = 512 + self.pad * SECTOR;
        let map_len = (self.blocks.len() + self.spare) * 4;
        let data_at = (map_at + map_len).next_multiple_of(SECTOR) + self.pad * SECTOR;
        let mut file = vec![0u8; data_at];
        put4(&mut file, 64, 0xbeda_107f);
        put4(&mut file, 68, 0x0001_0001);
        put4(&mut file, 72, 400);
        put4(&mut file, 76, self.kind);
        put(&mut file, 0, b"<<< Somebody's Disk Image >>>\n");
        put(&mut file, 84, b"made by hand\0not shown");
        put4(&mut file, 340, map_at as u32);
        put4(&mut file, 344, data_at as u32);
        put(&mut file, 368, &(self.sectors as u64 * 512).to_le_bytes());
        put4(&mut file, 376, self.block as u32);
        put4(&mut file, 380, self.extra as u32);
        put4(&mut file, 384, (self.blocks.len() + self.spare) as u32);
        put(&mut file, 392, &self.uuid);
        put(&mut file, 408, &MODIFIED);
        if let Some((uuid, modified)) = self.parent {
            put(&mut file, 424, &uuid);
            put(&mut file, 440, &modified);
        }
        file[map_at..][..map_len].fill(0xff);
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        order.sort_by_key(|b| self.order.get(*b).copied().unwrap_or(0));
        let mut entry = 0u32;
        for number in order {
            let at = map_at + number * 4;
            match self.blocks[number] {
                Is::Hole => {}
                Is::Zero => put4(&mut file, at, 0xffff_fffe),
                Is::Data => {
                    for _ in 0..self.gap {
                        file.resize(file.len() + self.block + self.extra, 0xdb);
                        entry += 1;
                    }
                    put4(&mut file, at, entry);
                    entry += 1;
                    file.resize(file.len() + self.extra, 0xdb);
                    let per_block = self.block / SECTOR;
                    for s in number * per_block..(number + 1) * per_block {
                        file.extend(self.sector(s));
                    }
                }
            }
        }
        put4(&mut file, 388, entry);
        file
    }
}

pub(crate) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..][..what.len()].copy_from_slice(what);
}

pub(crate) fn put4(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}
