//! Who gets the blocks of a segment, and who is to blame when they do not arrive.

use crate::ui::Ui;
use vdisk_core::{
    Chain, Disk, Error, ErrorKind, Job, Result, Watch,
    ops::dedup::{self, Block, Count, Padded},
};
use vdisk_fingerprints::Writer;

/// Why a segment was not read to its end.
pub(super) enum Failure {
    /// It cannot be read, and is left out.
    Segment(Error),
    /// The run cannot go on.
    Run(Error),
}

/// Scans what the first `layers` layers of `disk` record, or all. `place` says how far the run is.
pub(super) fn scan(
    disk: &Chain,
    layers: usize,
    pad: u64,
    unit: u64,
    bits: u32,
    place: String,
    taker: &mut Taker<'_>,
) -> Result<()> {
    let above = disk.above(layers);
    let recorded: &dyn Disk = if layers == usize::MAX { disk } else { &above };
    let numbered = Numbered {
        watch: taker.ui.job().watch,
        place,
    };
    let job = Job {
        watch: &numbered,
        ..taker.ui.job()
    };
    let mut sink = |blocks: &[Block]| taker.take(blocks);
    if pad == 0 {
        return dedup::scan(recorded, disk, unit, bits, &job, &mut sink);
    }
    let (recorded, disk) = (Padded::new(recorded, pad), Padded::new(disk, pad));
    dedup::scan(&recorded, &disk, unit, bits, &job, &mut sink)
}

/// Adds to the name of a phase which of many it is.
struct Numbered<'a> {
    watch: &'a dyn Watch,
    place: String,
}

impl Watch for Numbered<'_> {
    fn phase(&self, name: &str, total: u64) {
        self.watch.phase(&format!("{name} {}", self.place), total);
    }

    fn advance(&self, bytes: u64) {
        self.watch.advance(bytes);
    }
}

/// Who gets the blocks of a segment.
pub(super) struct Taker<'a> {
    node: usize,
    pub(super) count: Option<&'a mut Count>,
    writer: Option<&'a mut Writer>,
    ui: &'a Ui,
    /// Why they do not want any more: that is no fault of the image.
    refused: Option<Error>,
}

impl<'a> Taker<'a> {
    pub(super) fn new(
        node: usize,
        count: Option<&'a mut Count>,
        writer: Option<&'a mut Writer>,
        ui: &'a Ui,
    ) -> Self {
        Self {
            node,
            count,
            writer,
            ui,
            refused: None,
        }
    }

    pub(super) fn take(&mut self, blocks: &[Block]) -> Result<()> {
        let job = self.ui.job();
        let counted = match &mut self.count {
            Some(count) => count.add(self.node, blocks, &job),
            None => job.advance(0),
        };
        let written = counted.and_then(|()| match &mut self.writer {
            Some(writer) => writer.add(blocks),
            None => Ok(()),
        });
        written.map_err(|error| refuse(&mut self.refused, error))
    }

    /// Tells what failed from who did not want any more.
    pub(super) fn outcome(self, read: Result<()>) -> Result<(), Failure> {
        match (read, self.refused) {
            (_, Some(error)) => Err(Failure::Run(error)),
            (Err(error), None) => Err(Failure::Segment(error)),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Keeps `error`, and gives another one to those who only have to end.
pub(super) fn refuse(refused: &mut Option<Error>, error: Error) -> Error {
    *refused = Some(error);
    Error::new(ErrorKind::Cancelled, "blocks", "are not wanted any more")
}
