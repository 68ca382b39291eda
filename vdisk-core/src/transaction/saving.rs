//! Saves before writing: no byte of a file changes before the journal has what it was.

use super::journal::PAGE;
use super::{Opened, Pending, State, Transaction};
use crate::{Error, Result, is_zero, storage::Storage};
use std::ops::Range;

impl Transaction<'_> {
    /// Saves the pages of `range` that are not safe yet.
    pub(super) fn save(&self, state: &mut State, number: usize, range: Range<u64>) -> Result<()> {
        let Some(member) = self.members.get(number) else {
            return Ok(());
        };
        let end = range.end.min(member.size);
        if range.start >= end {
            return Ok(());
        }
        for page in range.start / PAGE..end.div_ceil(PAGE) {
            let Some(progress) = state.members.get_mut(number) else {
                continue;
            };
            if !progress.safe.insert(page) {
                continue;
            }
            let at = page.saturating_mul(PAGE);
            let len = PAGE.min(member.size.saturating_sub(at));
            state.totals.saved += len;
            if let Some(journal) = &mut state.journal {
                let mut bytes = vec![0; crate::units::buffer_len(len)?];
                let file: &dyn Storage = match &member.file {
                    Some(file) => file,
                    None => &*member.image.storage,
                };
                file.read_at(at, &mut bytes)
                    .map_err(|e| Error::io("read", e).at(at).path(&member.path))?;
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                journal.old(self.medium, number, at, &bytes)?;
            }
        }
        Ok(())
    }

    /// Cuts the file itself, if that was put off.
    pub(super) fn cut(&self, state: &mut State, number: usize) -> Result<()> {
        let (Some(member), Some(progress)) =
            (self.members.get(number), state.members.get_mut(number))
        else {
            return Ok(());
        };
        if !std::mem::take(&mut progress.uncut) {
            return Ok(());
        }
        let len = progress.len;
        self.write_pending(state)?;
        self.set_file_len(member, len)
    }

    pub(super) fn set_file_len(&self, member: &Opened, len: u64) -> Result<()> {
        match &member.file {
            Some(file) => self
                .medium
                .set_len(file, len)
                .map_err(|e| Error::io("resize", e).path(&member.path)),
            None => Ok(()),
        }
    }

    /// Saves what the file has behind `len`; not what is zero.
    pub(super) fn save_cut(&self, state: &mut State, number: usize, len: u64) -> Result<()> {
        let Some(member) = self.members.get(number) else {
            return Ok(());
        };
        if len >= member.size {
            return Ok(());
        }
        // A page that is cut in the middle.
        self.save(
            state,
            number,
            len..len.next_multiple_of(PAGE).min(member.size),
        )?;
        let mut at = len.next_multiple_of(PAGE);
        while at < member.size {
            let span = member.image.storage.span_at(at);
            let span = span.map_err(|e| Error::io("read", e).path(&member.path))?;
            // Whole pages of holes; the page with the hole's end is read.
            let hole_end = if span.hole {
                span.end / PAGE * PAGE
            } else {
                at
            };
            if span.end >= member.size && span.hole {
                break;
            }
            if hole_end > at {
                at = hole_end;
                continue;
            }
            self.save_unless_zero(state, number, at)?;
            at += PAGE;
        }
        // After the pages: whoever finds it, has them.
        match &mut state.journal {
            Some(journal) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                journal.cut(self.medium, number, len)
            }
            None => Ok(()),
        }
    }

    /// Saves the page at `at`, which will be cut off.
    fn save_unless_zero(&self, state: &mut State, number: usize, at: u64) -> Result<()> {
        let Some(member) = self.members.get(number) else {
            return Ok(());
        };
        let len = PAGE.min(member.size.saturating_sub(at));
        let mut bytes = vec![0; crate::units::buffer_len(len)?];
        let page = at / PAGE;
        let unsaved = {
            let safe = state.members.get(number).map(|m| m.safe.has(page));
            safe == Some(false)
        };
        if unsaved {
            // Not changed yet, so what was opened for reading has it.
            member.image.read_at(at, &mut bytes)?;
            if !is_zero(&bytes) {
                self.save(state, number, at..at + len)?;
            }
        }
        Ok(())
    }

    pub(super) fn flush_journal(&self, state: &mut State) -> Result<()> {
        match &mut state.journal {
            Some(journal) => journal.flush(self.medium),
            None => Ok(()),
        }
    }

    /// Notes that a file may become as long as `end`.
    pub(super) fn note_growth(&self, state: &mut State, number: usize, end: u64) -> Result<()> {
        let (Some(journal), Some(progress)) = (&mut state.journal, state.members.get_mut(number))
        else {
            return Ok(());
        };
        if end > progress.longest {
            progress.longest = end;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            journal.grown(self.medium, number, end)?;
        }
        Ok(())
    }

    pub(super) fn write_pending(&self, state: &mut State) -> Result<()> {
        if let Some(journal) = &mut state.journal {
            for Pending { member, at, bytes } in &state.pending {
                let size = self.members.get(*member).map_or(0, |m| m.size);
                let old = crate::disk::part_len(bytes.len(), *at, size.max(*at));
                let bytes = bytes.get(..old).unwrap_or_default();
                let member = u32::try_from(*member).unwrap_or(u32::MAX);
                journal.new_bytes(self.medium, member, *at, bytes)?;
            }
        }
        let ends: Vec<(usize, u64)> = state
            .pending
            .iter()
            .map(|p| (p.member, p.at.saturating_add(p.bytes.len() as u64)))
            .collect();
        for (number, end) in ends {
            self.note_growth(state, number, end)?;
        }
        self.flush_journal(state)?;
        for pending in &state.pending {
            let Some((path, Some(file))) = self
                .members
                .get(pending.member)
                .map(|m| (&m.path, m.file.as_ref()))
            else {
                continue;
            };
            self.medium
                .write_at(file, pending.at, &pending.bytes)
                .map_err(|e| Error::io("write", e).at(pending.at).path(path))?;
        }
        state.pending.clear();
        state.pending_bytes = 0;
        Ok(())
    }

    /// Writes what is held back and flushes all files.
    pub(super) fn flush_files(&self) -> Result<()> {
        let mut state = self.state();
        self.write_pending(&mut state)?;
        for member in &self.members {
            if let Some(file) = &member.file {
                self.medium
                    .sync(file)
                    .map_err(|e| Error::io("flush", e).path(&member.path))?;
            }
        }
        Ok(())
    }

    /// Makes the cuts that were put off.
    pub(super) fn cut_files(&self) -> Result<()> {
        let mut state = self.state();
        if state.members.iter().all(|m| !m.uncut) {
            return Ok(());
        }
        for number in 0..self.members.len() {
            self.cut(&mut state, number)?;
        }
        drop(state);
        self.flush_files()
    }
}
