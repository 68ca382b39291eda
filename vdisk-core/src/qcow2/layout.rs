//! The tables as the layout of a disk: runs of clusters that are kept alike.

use super::{
    compressed::WORK,
    entry::Unit,
    tables::{Page, Tables},
};
use crate::{
    Error, Layout, Place, Result, Run,
    units::{FileOffset, buffer_len},
};
use std::sync::Arc;

impl Tables {
    /// The page that tells of `cluster` and what it says of subcluster `sub`; or, for a cluster
    /// without a table, the cluster after those without one.
    fn lookup(
        &self,
        cluster: u64,
        sub: u64,
    ) -> Result<std::result::Result<(Arc<Page>, Unit), u64>> {
        let table = cluster / self.table_len;
        let (at, alike) = self.l2_table(table)?;
        if at == 0 {
            let next = table.saturating_add(alike);
            return Ok(Err(next.saturating_mul(self.table_len.get())));
        }
        let page = self.page(table, at, cluster)?;
        match self.unit(&page, cluster, sub)? {
            Some(unit) => Ok(Ok((page, unit))),
            None => Err(Error::corrupt("L2 table", format!("{table} is too short"))),
        }
    }

    /// The first disk position after the run of `first`, which begins with subcluster `sub` of
    /// `cluster`, as far as `page` tells.
    fn run_end(&self, page: &Page, first: Unit, cluster: u64, sub: u64) -> u64 {
        let per_cluster = self.cluster.get() / self.unit;
        let (mut cluster, mut sub, mut last) = (cluster, sub, first);
        loop {
            sub = sub.saturating_add(1);
            if sub == per_cluster {
                (cluster, sub) = (cluster.saturating_add(1), 0);
            }
            let expected = match last {
                Unit::At(at) => Unit::At(at.saturating_add(self.unit.get())),
                other => other,
            };
            // What is wrong with a later entry is said when it is read.
            if !matches!(self.unit(page, cluster, sub), Ok(Some(found)) if found == expected) {
                let inside = sub.saturating_mul(self.unit.get());
                return self.start_of(cluster).saturating_add(inside);
            }
            last = expected;
        }
    }

    /// The run at `pos`, kept from `at` on, cut where the file ends.
    pub(super) fn stored(&self, pos: u64, end: u64, at: u64) -> Result<Run> {
        let used = end.min(self.size).saturating_sub(pos);
        let in_file = self.data.size.saturating_sub(at);
        let run = |end| Run {
            end,
            place: Place::Stored {
                file: self.data_index,
                at: FileOffset(at),
            },
        };
        if used <= in_file {
            return Ok(run(end));
        }
        let whole = (pos.saturating_add(in_file) / self.unit).saturating_mul(self.unit.get());
        if whole > pos {
            return Ok(run(whole));
        }
        let cluster = pos / self.cluster;
        let part = format!(
            "L2 table {}, entry {}",
            cluster / self.table_len,
            cluster % self.table_len
        );
        let detail = format!("points to {at:#x}, past the end of the file that keeps the clusters");
        Err(Error::corrupt(part, detail).path(self.data.path()))
    }

    /// Unpacks all of `cluster` into `out`, which has the size of one.
    fn unpack_cluster(&self, cluster: u64, out: &mut [u8]) -> Result<()> {
        let Ok((_, Unit::Packed { at, len })) = self.lookup(cluster, 0)? else {
            return Err(Error::corrupt("cluster", "is not compressed"));
        };
        WORK.with_borrow_mut(|work| {
            work.packed.resize(buffer_len(len)?, 0);
            self.file.read_at(at, &mut work.packed)?;
            work.unpack(self.compression, out)
                .map_err(|detail| Error::corrupt(format!("cluster {cluster}"), detail).at(at))
        })
    }
}

impl Layout for Tables {
    fn size(&self) -> u64 {
        self.size
    }

    fn locate(&self, pos: u64) -> Result<Run> {
        let cluster = pos / self.cluster;
        let inside = pos % self.cluster;
        let (page, unit) = match self.lookup(cluster, inside / self.unit)? {
            Ok(found) => found,
            Err(next) => {
                return Ok(Run {
                    end: self.start_of(next),
                    place: self.hole,
                });
            }
        };
        if let Unit::Packed { at, .. } = unit {
            return Ok(Run {
                end: self.start_of(cluster.saturating_add(1)),
                place: Place::Packed {
                    file: 0,
                    at: FileOffset(at),
                    inside,
                },
            });
        }
        let end = self.run_end(&page, unit, cluster, inside / self.unit);
        let place = match unit {
            Unit::At(at) => return self.stored(pos, end, at.saturating_add(pos % self.unit)),
            Unit::Zero => Place::Zero,
            _ => self.hole,
        };
        Ok(Run { end, place })
    }

    fn unpack(&self, pos: u64, buf: &mut [u8]) -> Result<()> {
        let cluster = pos / self.cluster;
        if buf.len() as u64 == self.cluster.get() {
            return self.unpack_cluster(cluster, buf);
        }
        let bytes = self.clusters.get(cluster, || {
            let mut bytes = vec![0; buffer_len(self.cluster.get())?];
            self.unpack_cluster(cluster, &mut bytes)?;
            Ok(bytes)
        })?;
        let at = buffer_len(pos % self.cluster)?;
        let found = bytes
            .get(at..at.saturating_add(buf.len()))
            .ok_or_else(|| Error::corrupt("cluster", "is too short"))?;
        buf.copy_from_slice(found);
        Ok(())
    }
}
