//! Storage that holds only the pages that were written: images of terabytes in little memory.

use std::{collections::BTreeMap, io};
use vdisk_core::{Result, storage::Storage, target::Target};

const PAGE: u64 = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pages: BTreeMap<u64, Vec<u8>>,
    pub(crate) size: u64,
}

impl Sparse {
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let pos = at + done as u64;
            let inside = (pos % PAGE) as usize;
            let len = (PAGE as usize - inside).min(bytes.len() - done);
            let page = self
                .pages
                .entry(pos / PAGE)
                .or_insert_with(|| vec![0; PAGE as usize]);
            page[inside..][..len].copy_from_slice(&bytes[done..][..len]);
            done += len;
        }
        self.size = self.size.max(at + bytes.len() as u64);
    }

    pub(crate) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let pos = at + done as u64;
            let inside = (pos % PAGE) as usize;
            let part = (PAGE as usize - inside).min(len - done);
            if let Some(page) = self.pages.get(&(pos / PAGE)) {
                bytes[done..][..part].copy_from_slice(&page[inside..][..part]);
            }
            done += part;
        }
        bytes
    }

    pub(crate) fn u64_at(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }

    pub(crate) fn u32_at(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    /// Bytes that are held in memory.
    pub(crate) fn held(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.get(0, self.size as usize)
    }
}

impl Storage for Sparse {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
    fn read_at(&self, pos: u64, buf: &mut [u8]) -> io::Result<()> {
        if pos
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.size)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.copy_from_slice(&self.get(pos, buf.len()));
        Ok(())
    }
}

impl Target for Sparse {
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<()> {
        self.put(pos, bytes);
        Ok(())
    }
    fn set_size(&mut self, size: u64) -> Result<()> {
        self.size = size;
        Ok(())
    }
}
