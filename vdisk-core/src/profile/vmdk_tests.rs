//! What several profiles ask of a VMDK. Each answers nothing for an image of another format.

use super::{Broken, Result, Verdict, subject::Subject};
use crate::vmdk::{
    stream_view::Stream,
    view::{ADAPTERS, Sparse, View},
};

/// Variants that ESXi runs: a descriptor, and a file that is the disk.
const VMFS: [&str; 5] = [
    "vmfs",
    "vmfspreallocated",
    "vmfseagerzeroedthick",
    "vmfsthick",
    "vmfsthin",
];

/// The type is one of `taken`, in lower case.
pub(super) fn create_type(subject: &Subject<'_>, taken: &[&str]) -> Result<Verdict> {
    let Some(vmdk) = &subject.vmdk else {
        return Ok(None);
    };
    let found = vmdk.create_type();
    if taken.contains(&found.as_str()) {
        return Ok(None);
    }
    Broken::new("type", format!("is {}", subject.layer.facts().subformat))
        .at(vmdk.at)
        .found()
}

/// The type is streamOptimized, or one that ESXi runs.
pub(super) fn esxi_type(subject: &Subject<'_>) -> Result<Verdict> {
    let mut taken = VMFS.to_vec();
    taken.push("streamoptimized");
    create_type(subject, &taken)
}

/// Extents of a disk that ESXi runs are called VMFS.
pub(super) fn vmfs_extents(subject: &Subject<'_>) -> Result<Verdict> {
    let vmdk = subject.vmdk.as_ref();
    let Some(vmdk) = vmdk.filter(|v| VMFS.contains(&v.create_type().as_str())) else {
        return Ok(None);
    };
    match vmdk.flat_extent() {
        Some(number) => {
            let detail = "is called FLAT, not VMFS";
            Broken::new(format!("extent {number}"), detail)
                .at(vmdk.at)
                .found()
        }
        None => Ok(None),
    }
}

/// True if `name` is an adapter that descriptors name.
pub(super) fn is_adapter(name: &str) -> bool {
    ADAPTERS.iter().any(|a| a.eq_ignore_ascii_case(name))
}

/// The adapter is a known one.
pub(super) fn adapter(subject: &Subject<'_>) -> Result<Verdict> {
    let Some(vmdk) = &subject.vmdk else {
        return Ok(None);
    };
    match vmdk.value("ddb.adaptertype") {
        Some(adapter) if is_adapter(adapter) => Ok(None),
        Some(adapter) => Broken::new("adapter type", format!("is '{adapter}'"))
            .at(vmdk.at)
            .found(),
        None => Broken::new("adapter type", "is not said")
            .at(vmdk.at)
            .found(),
    }
}

/// No parent is needed, in whatever format.
pub(super) fn stands_alone(subject: &Subject<'_>) -> Result<Verdict> {
    match subject.layer.facts().parent {
        Some(_) => Broken::new("image", "holds only what differs from its parent").found(),
        None => Ok(None),
    }
}

/// The image is one file.
pub(super) fn one_file(subject: &Subject<'_>) -> Result<Verdict> {
    match subject.layer.files().len() {
        1 => Ok(None),
        count => Broken::new("image", format!("consists of {count} files")).found(),
    }
}

/// The file was closed by the program that wrote it.
pub(super) fn clean(subject: &Subject<'_>) -> Result<Verdict> {
    header(subject, "is marked as not closed cleanly", |h| !h.unclean)
}

/// All sparse extents have a header of which `good` holds.
pub(super) fn header(
    subject: &Subject<'_>,
    detail: &str,
    good: impl Fn(&Sparse) -> bool,
) -> Result<Verdict> {
    let bad = |v: &View| v.sparse.iter().find(|(_, h)| !good(h)).map(|(n, _)| *n);
    match subject.vmdk.as_ref().and_then(bad) {
        Some(number) => Broken::new("header", detail).in_file(number).at(0).found(),
        None => Ok(None),
    }
}

/// The same for streams only.
pub(super) fn stream_header(
    subject: &Subject<'_>,
    detail: &str,
    good: impl Fn(&Sparse) -> bool,
) -> Result<Verdict> {
    header(subject, detail, |h| !h.compressed || good(h))
}

/// What a walk through a stream found, if the image is one.
pub(super) fn stream(subject: &Subject<'_>, judge: impl Fn(&Stream) -> Verdict) -> Result<Verdict> {
    Ok(subject.stream()?.and_then(judge))
}

/// Each part of a stream has its marker, and the stream its end.
///
/// Where directory and tables come before the grains, as open-vmdk writes them, they need none.
pub(super) fn markers(subject: &Subject<'_>) -> Result<Verdict> {
    let header = subject.vmdk.as_ref().and_then(|v| v.own_header());
    let after_grains = header.is_some_and(|h| h.directory_at_end);
    stream(subject, |stream| {
        if let Some((at, detail)) = &stream.broken {
            return Some(Broken::new("marker", detail.clone()).at(*at));
        }
        let missing = if after_grains && stream.grains > 0 && stream.tables == 0 {
            "grain tables have no markers"
        } else if after_grains && !stream.directory {
            "the grain directory has no marker"
        } else if !stream.ended {
            "the end marker is missing"
        } else {
            return None;
        };
        Some(Broken::new("stream", missing).at(stream.end))
    })
}
