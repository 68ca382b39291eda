//! A descriptor as lines, of which single ones change.
//!
//! Programs keep their own keys and comments in descriptors, and some read only their own order
//! (VirtualBox: header, extents, disk data base), so nothing is written anew.

use crate::{Error, Result};

/// A descriptor as lines, each with its end.
pub(super) struct Text {
    lines: Vec<Vec<u8>>,
}

impl Text {
    pub(super) fn new(text: &[u8]) -> Self {
        let lines = text.split_inclusive(|&b| b == b'\n');
        Self {
            lines: lines.map(<[u8]>::to_vec).collect(),
        }
    }

    /// The text as it is now.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }

    /// Gives `key` the value wherever it stands, or adds it where it belongs.
    pub(super) fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let mut found = false;
        for line in &mut self.lines {
            let Some(equals) = equals(line, key) else {
                continue;
            };
            found = true;
            let (name, rest) = line.split_at(equals.saturating_add(1));
            let before = rest
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t'))
                .count();
            let after = rest.trim_ascii_end().len().max(before);
            let quote = quote(key);
            let new = [
                name,
                rest.get(..before).unwrap_or_default(),
                quote,
                value,
                quote,
                rest.get(after..).unwrap_or_default(),
            ];
            *line = new.concat();
        }
        if !found {
            self.add(key, value)?;
        }
        Ok(())
    }

    /// Says of extent line number `number`, from 0, that it has so many sectors.
    pub(super) fn set_sectors(&mut self, number: usize, sectors: u64) {
        let mut extents = self.lines.iter_mut().filter(|line| is_extent(line));
        let Some(line) = extents.nth(number) else {
            return;
        };
        // Access, blanks, and then the size.
        let blanks = |line: &[u8], from: usize, blank: bool| {
            let rest = line.get(from..).unwrap_or_default();
            let len = rest.iter().take_while(|b| b.is_ascii_whitespace() == blank);
            from.saturating_add(len.count())
        };
        let access = blanks(line, blanks(line, 0, true), false);
        let start = blanks(line, access, true);
        let end = blanks(line, start, false);
        line.splice(start..end, sectors.to_string().into_bytes());
    }

    fn add(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let end: &[u8] = match self.lines.first() {
            Some(first) if first.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        let is_ddb = |line: &Vec<u8>| is_setting(line) && starts_with(line, b"ddb.");
        let (at, equals): (usize, &[u8]) = if key.starts_with("ddb.") {
            let last = self.lines.iter().rposition(is_ddb);
            let at = last.map_or(self.lines.len(), |last| last.saturating_add(1));
            (at, b" = ")
        } else {
            // Among the first settings: after the extents, VirtualBox would not look for it.
            let extents = self.lines.iter().position(|line| is_extent(line));
            let header = self.lines.get(..extents.unwrap_or(self.lines.len()));
            let last = header
                .unwrap_or_default()
                .iter()
                .rposition(|line| is_setting(line) && !is_ddb(line));
            let last = last.ok_or_else(|| Error::corrupt("descriptor", "has no settings"))?;
            (last.saturating_add(1), b"=")
        };
        if let Some(before) = at.checked_sub(1).and_then(|i| self.lines.get_mut(i))
            && !before.ends_with(b"\n")
        {
            before.extend(end);
        }
        let quote = quote(key);
        let line = [key.as_bytes(), equals, quote, value, quote, end].concat();
        self.lines.insert(at, line);
        Ok(())
    }
}

/// What stands around a value. Content IDs are numbers, and qemu takes none in quotes.
fn quote(key: &str) -> &'static [u8] {
    match key {
        "CID" | "parentCID" => b"",
        _ => b"\"",
    }
}

/// Where the `=` of the line stands, if it sets `key`.
fn equals(line: &[u8], key: &str) -> Option<usize> {
    let equals = line.iter().position(|&b| b == b'=')?;
    let name = line.get(..equals)?.trim_ascii();
    (is_setting(line) && name.eq_ignore_ascii_case(key.as_bytes())).then_some(equals)
}

fn is_setting(line: &[u8]) -> bool {
    !starts_with(line, b"#") && !is_extent(line) && line.contains(&b'=')
}

fn is_extent(line: &[u8]) -> bool {
    let first = line
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    [&b"RW"[..], b"RDONLY", b"NOACCESS"]
        .iter()
        .any(|access| first.eq_ignore_ascii_case(access))
}

/// Says whether the line begins so, whatever the case and the blanks before.
fn starts_with(line: &[u8], what: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.get(..what.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(what))
}
