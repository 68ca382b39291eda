//! What images are called where there is little room: their paths without what all have in common.

use crate::verbs::dedup_report::report::ImageRow;
use vdisk_core::printable;

/// Cuts paths short.
pub(super) struct Names {
    /// Bytes of the folder that all paths start with.
    head: usize,
    /// Bytes that all paths end with, from a `/` or a `.`.
    tail: usize,
}

impl Names {
    pub(super) fn new(images: &[ImageRow]) -> Self {
        Self::of(images.iter().map(|i| i.path.as_str()))
    }

    fn of<'a>(mut paths: impl Iterator<Item = &'a str>) -> Self {
        let Some(first) = paths.next() else {
            return Self { head: 0, tail: 0 };
        };
        let mut head = first.len();
        let mut tail = first.len();
        let mut shortest = first.len();
        let same = |(a, b): &(u8, u8)| a == b;
        for path in paths {
            head = first
                .bytes()
                .zip(path.bytes())
                .take(head)
                .take_while(same)
                .count();
            let ends = first.bytes().rev().zip(path.bytes().rev());
            tail = ends.take(tail).take_while(same).count();
            shortest = shortest.min(path.len());
        }
        // Whole folders and whole endings only. A name keeps something of its own.
        let bytes = first.as_bytes();
        head = bytes[..head]
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |i| i + 1);
        let start = bytes.len() - tail.min(shortest.saturating_sub(head + 1));
        let end = bytes[start..].iter().position(|b| matches!(b, b'/' | b'.'));
        Self {
            head,
            tail: end.map_or(0, |i| bytes.len() - start - i),
        }
    }

    /// `path` without what all have in common, in `most` characters.
    pub(super) fn short(&self, path: &str, most: usize) -> String {
        let end = path.len().saturating_sub(self.tail);
        short(path.get(self.head..end).unwrap_or(path), most)
    }
}

/// `path`, of which nothing can deceive the reader, with its middle left out beyond `most`
/// characters.
pub(super) fn short(path: &str, most: usize) -> String {
    let path = printable(path);
    let length = path.chars().count();
    if length <= most {
        return path.into_owned();
    }
    // Names differ at their ends more than at their starts.
    let head = most / 3;
    let tail = most.saturating_sub(head + 1);
    let mut text: String = path.chars().take(head).collect();
    text.push('…');
    text.extend(path.chars().skip(length - tail));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_middle() {
        assert_eq!(short("desk.vmdk", 9), "desk.vmdk");
        assert_eq!(short("a-very-long-name.vmdk", 9), "a-v….vmdk");
        assert_eq!(short("a\u{202e}b\n", 40), "a\\u{202e}b\\n");
    }

    #[test]
    fn names_lose_what_all_have_in_common() {
        for (paths, names) in [
            (
                &["/farm/a/disk.vmdk", "/farm/b/disk.vmdk"][..],
                &["a", "b"][..],
            ),
            (&["/farm/a.vmdk", "/farm/b.vhdx"], &["a.vmdk", "b.vhdx"]),
            (&["desk-1.vmdk", "desk-2.vmdk"], &["desk-1", "desk-2"]),
            (&["/farm/one.vmdk"], &["one"]),
            (&["a", "b"], &["a", "b"]),
            (&["/farm/x/x", "/farm/x"], &["x/x", "x"]),
            (&["v1/x.raw", "x.raw"], &["v1/x", "x"]),
            (&[".vmdk", "a.vmdk"], &[".vmdk", "a.vmdk"]),
            (&["ä/d", "ö/d"], &["ä", "ö"]),
            (&["vm.ova::1", "vm.ova::2"], &["vm.ova::1", "vm.ova::2"]),
        ] {
            let all = Names::of(paths.iter().copied());
            let short: Vec<String> = paths.iter().map(|p| all.short(p, 40)).collect();
            assert_eq!(short, names);
        }
        assert_eq!(Names::of([].into_iter()).short("a/b", 9), "a/b");
    }
}
