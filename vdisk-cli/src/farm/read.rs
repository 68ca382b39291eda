//! Reading all segments of a farm: what does not work is left out, and the rest goes on.

use super::{
    Farm,
    chains::{Found, changed},
    left_out::{leave_out, over},
    source::{Segment, Source},
    stamps::Stamps,
    taker::{Failure, Taker, refuse, scan},
};
use crate::{args::InputArgs, ui::Ui};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};
use vdisk_core::{
    Error, ErrorKind, Result,
    ops::dedup::{self, Count},
};
use vdisk_fingerprints::{FileStamp, Folder, Header, Reader, Writer};

/// At least so many blocks are deflated to estimate compression, if there are so many, and up to twice
/// as many, unless the farm is so large that [`BITS`] makes them more: the ratio is then off by some
/// percent.
const SAMPLES: u64 = 400;
/// One in 2 to the power of this many blocks is deflated at least, so that there are some in each image.
const BITS: u32 = 10;

/// A file of fingerprints that is in the folder now.
pub(crate) struct Kept {
    pub(crate) header: Header,
    pub(crate) file: PathBuf,
    pub(crate) action: Action,
}

/// How it came to be there.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// The image was read.
    Read,
    /// It was there: the image had not changed.
    Unchanged,
}

/// What of the reading is the same for all segments.
struct Run<'a> {
    count: Option<&'a mut Count>,
    folder: Option<Folder>,
    chunks: Option<u32>,
    input: &'a InputArgs,
    ui: &'a Ui,
    kept: &'a mut dyn FnMut(Kept),
    deflate_bits: u32,
    /// Segments that were begun, with this one.
    begun: usize,
    /// By node: the id of its fingerprints, once they are read.
    ids: Vec<Option<String>>,
    /// By node: its files, and those below it, when it was read.
    stamps: HashMap<usize, Vec<FileStamp>>,
}

/// Reads all segments of `farm`: into `count`, and into `folder` unless they are there already.
pub(super) fn read(
    farm: &mut Farm,
    count: Option<&mut Count>,
    folder: Option<Folder>,
    chunks: Option<u32>,
    input: &InputArgs,
    ui: &Ui,
    kept: &mut dyn FnMut(Kept),
) -> Result<()> {
    let blocks = farm.allocated.checked_div(farm.unit * SAMPLES).unwrap_or(0);
    let mut run = Run {
        count,
        folder,
        chunks,
        input,
        ui,
        kept,
        deflate_bits: blocks.checked_ilog2().unwrap_or(0).min(BITS),
        begun: 0,
        ids: vec![None; farm.nodes.len()],
        stamps: HashMap::new(),
    };
    let mut seen = vec![false; farm.nodes.len()];
    for image in 0..farm.images.len() {
        let mut path = Vec::new();
        let mut next = Some(farm.images[image].node);
        while let Some(node) = next.filter(|node| !seen[*node]) {
            seen[node] = true;
            path.push(node);
            next = farm.nodes[node].parent;
        }
        for node in path.into_iter().rev() {
            ui.check_stop()?;
            run.begun += 1;
            match run.node(farm, node) {
                Ok(()) => {}
                Err(Failure::Segment(error)) if error.kind() != ErrorKind::Cancelled => {
                    if let Some(count) = &mut run.count {
                        count.fail(node);
                    }
                    leave_out(farm, node, &error, ui);
                }
                Err(Failure::Segment(error) | Failure::Run(error)) => return Err(error),
            }
        }
        let node = farm.images[image].node;
        let (before, now) = (farm.stamps.get(image), run.stamps.get(&node));
        if let (Some(Some(before)), Some(now)) = (before, now)
            && let Some(path) = differs(before, now)
        {
            let error = changed(path.as_ref());
            if let Some(count) = &mut run.count {
                count.fail(node);
            }
            leave_out(farm, node, &error, ui);
        }
    }
    let stamps = farm.images.iter().map(|i| run.stamps.get(&i.node).cloned());
    farm.stamps = stamps.collect();
    if !farm.errors.is_empty() && farm.left_out.iter().all(|left_out| *left_out) {
        ui.warn("none of the images could be read");
    }
    Ok(())
}

/// The first file that was in another state when it was read for another count.
fn differs<'a>(before: &[FileStamp], now: &'a [FileStamp]) -> Option<&'a str> {
    let mut pairs = before.iter().zip(now);
    let changed = pairs.find(|(before, now)| !before.same(now));
    changed.map(|(_, now)| now.path.as_str())
}

impl Run<'_> {
    /// Reads the segment `node`, unless one below it failed.
    fn node(&mut self, farm: &Farm, node: usize) -> Result<(), Failure> {
        let (chain, top, layers) = match &farm.sources[node] {
            Source::File(path, id) => return self.file(node, path, id),
            Source::Image { chain, top, layers } => (*chain, *top, *layers),
        };
        let parent = farm.nodes[node].parent;
        if parent.is_some_and(|parent| self.ids[parent].is_none()) {
            return Ok(());
        }
        let segment = Segment::new(farm, chain, top, layers);
        let stamps = segment.stamps().map_err(Failure::Segment)?;
        let of_parent = parent.and_then(|parent| self.stamps.get(&parent));
        if let Some(path) = of_parent.and_then(|below| stamps.differs(below)) {
            return Err(Failure::Segment(changed(path)));
        }
        let id = parent.and_then(|parent| self.ids[parent].clone());
        let header = Header {
            deflate_bits: self.deflate_bits,
            ..segment.header(&farm.nodes[node], id.as_ref(), farm.unit, &stamps)
        };
        let id = header.id.clone();
        // Behind other zeros, all blocks are others.
        let keep = segment.chain.pad == 0;
        if !(keep && stamps.tell && self.known(node, &header)?) {
            self.scan(farm, node, &segment, header, &stamps, keep)?;
        }
        self.ids[node] = Some(id);
        if let Some(average) = self.chunks.filter(|_| farm.nodes[node].image) {
            self.cut(node, segment.chain, average)?;
            let now = segment.stamps().map_err(Failure::Segment)?;
            if let Some(path) = now.differs(&stamps.files) {
                return Err(Failure::Segment(changed(path)));
            }
        }
        self.stamps.insert(node, stamps.files);
        Ok(())
    }

    /// Takes the blocks of `node` from the folder. False if they are not there, or damaged.
    fn known(&mut self, node: usize, header: &Header) -> Result<bool, Failure> {
        let Some(folder) = &mut self.folder else {
            return Ok(false);
        };
        // Who hears that nothing changed relies on the file: its rows are looked at, too.
        let found = folder.find(&header.id).and_then(|mut found| {
            found.as_mut().map_or(Ok(()), Reader::verify)?;
            Ok(found)
        });
        let mut reader = match found {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(false),
            Err(error) => {
                self.ui.warn(&format!("read again: {error}"));
                return Ok(false);
            }
        };
        let known = reader.header().clone();
        // So far only others lay over it; now it is an image, too.
        let mut writer = None;
        if header.image && !known.image {
            let header = Header {
                image: true,
                partitions: header.partitions.clone(),
                ..known.clone()
            };
            writer = Some(Writer::create(folder, header).map_err(Failure::Run)?);
        }
        if let Some(count) = &mut self.count {
            count.deflate_bits(known.deflate_bits);
        }
        let file = reader.path().to_owned();
        if self.count.is_some() || writer.is_some() {
            let count = self.count.as_deref_mut();
            let mut taker = Taker::new(node, count, writer.as_mut(), self.ui);
            let read = reader.blocks(&mut |blocks| taker.take(blocks));
            taker.outcome(read)?;
        }
        if let Some(writer) = writer {
            writer.finish(folder).map_err(Failure::Run)?;
        }
        (self.kept)(Kept {
            header: Header {
                image: known.image || header.image,
                ..known
            },
            file,
            action: Action::Unchanged,
        });
        Ok(true)
    }

    /// Reads the blocks of `node` from its image.
    fn scan(
        &mut self,
        farm: &Farm,
        node: usize,
        segment: &Segment<'_>,
        header: Header,
        stamps: &Stamps,
        keep: bool,
    ) -> Result<(), Failure> {
        let images = farm.images.iter().zip(&farm.chains);
        let others = images.filter(|(image, _)| over(farm, image.node, node));
        let opened = segment.open(others.map(|(_, chain)| chain), self.input);
        let disk = opened.map_err(Failure::Segment)?;
        let mut writer = match &self.folder {
            Some(folder) if keep => Some(Writer::create(folder, header).map_err(Failure::Run)?),
            _ => None,
        };
        if let Some(count) = &mut self.count {
            count.deflate_bits(self.deflate_bits);
        }
        let place = format!("{} of {}", self.begun, farm.nodes.len());
        let count = self.count.as_deref_mut();
        let mut taker = Taker::new(node, count, writer.as_mut(), self.ui);
        let parent = farm.nodes[node].parent.is_some();
        let layers = if parent { segment.layers } else { usize::MAX };
        let read = scan(
            &disk,
            layers,
            segment.chain.pad,
            farm.unit,
            self.deflate_bits,
            place,
            &mut taker,
        );
        taker.outcome(read)?;
        let now = segment.stamps().map_err(Failure::Segment)?;
        if let Some(path) = now.differs(&stamps.files) {
            return Err(Failure::Segment(changed(path)));
        }
        if let (Some(writer), Some(folder)) = (writer, &mut self.folder) {
            let (header, file) = writer.finish(folder).map_err(Failure::Run)?;
            (self.kept)(Kept {
                header,
                file,
                action: Action::Read,
            });
        }
        Ok(())
    }

    /// Takes the blocks of `node` from the file at `path`.
    fn file(&mut self, node: usize, path: &Path, id: &str) -> Result<(), Failure> {
        if self.chunks.is_some() {
            let detail = "need the images: fingerprints say nothing of them";
            return Err(Failure::Run(Error::new(ErrorKind::Usage, "chunks", detail)));
        }
        let mut reader = Reader::open(path).map_err(Failure::Segment)?;
        if reader.header().id != id {
            return Err(Failure::Segment(changed(path)));
        }
        let count = self.count.as_deref_mut();
        let mut taker = Taker::new(node, count, None, self.ui);
        if let Some(count) = &mut taker.count {
            count.deflate_bits(reader.header().deflate_bits);
        }
        let read = reader.blocks(&mut |blocks| taker.take(blocks));
        taker.outcome(read)
    }

    /// Reads all of an image once more, for its chunks.
    fn cut(&mut self, node: usize, image: &Found, average: u32) -> Result<(), Failure> {
        let Some(count) = self.count.as_deref_mut() else {
            return Ok(());
        };
        let chain = image.open(self.input).map_err(Failure::Segment)?;
        let job = self.ui.job();
        let mut refused = None;
        let cut = dedup::chunks(&chain, average, &job, &mut |chunks| {
            count
                .add_chunks(node, chunks, &job)
                .map_err(|error| refuse(&mut refused, error))
        });
        match (cut, refused) {
            (_, Some(error)) => Err(Failure::Run(error)),
            (Err(error), None) => Err(Failure::Segment(error)),
            (Ok(()), None) => Ok(()),
        }
    }
}
