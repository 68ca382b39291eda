//! A disk behind some zeros, so that blocks are cut at other places of it.

/// `disk` with zeros before it.
pub struct Padded<'a> {
    _disk: &'a dyn crate::Disk,
}
