//! The part of a sector bitmap that belongs to one block: which sectors a child keeps itself.

/// The first sector is the lowest bit of the first byte, other than in VHD.
pub(crate) struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// `bytes` are a multiple of 32: blocks are of at least 1 MiB, sectors of at most 4 KiB.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let words = bytes.as_chunks().0.iter();
        Self {
            words: words.map(|w| u64::from_le_bytes(*w)).collect(),
        }
    }

    /// The bit of `sector`, and the first sector after it whose bit differs, or the end.
    pub(crate) fn run(&self, sector: u64) -> (bool, u64) {
        let first = usize::try_from(sector / 64).unwrap_or(usize::MAX);
        let inside = sector % 64;
        let word = self.words.get(first).copied().unwrap_or(0);
        let bit = word
            .checked_shr(u32::try_from(inside).unwrap_or(0))
            .unwrap_or(0)
            & 1
            == 1;
        // Where bits differ from the first, ones.
        let turned = |word: u64| if bit { !word } else { word };
        let from_here = u64::MAX
            .checked_shl(u32::try_from(inside).unwrap_or(0))
            .unwrap_or(0);
        let mut start = sector.saturating_sub(inside);
        let mut differ = turned(word) & from_here;
        for word in self.words.iter().skip(first).skip(1) {
            if differ != 0 {
                break;
            }
            start = start.saturating_add(64);
            differ = turned(*word);
        }
        let end = start.saturating_add(differ.trailing_zeros().into());
        (bit, end)
    }
}

/// Sets the bits from `start` to before `end`, lowest bit of each byte first.
pub(crate) fn set(bytes: &mut [u8], start: u64, end: u64) {
    masks(bytes, start, end, |byte, mask| *byte |= mask);
}

/// Clears the bits from `start` to before `end`.
pub(crate) fn clear(bytes: &mut [u8], start: u64, end: u64) {
    masks(bytes, start, end, |byte, mask| *byte &= !mask);
}

/// Gives `change` each byte that has bits from `start` to before `end`, and a mask of these.
fn masks(bytes: &mut [u8], start: u64, end: u64, change: impl Fn(&mut u8, u8)) {
    let first = start / 8;
    let skipped = usize::try_from(first).unwrap_or(usize::MAX);
    for (number, byte) in (first..).zip(bytes.iter_mut().skip(skipped)) {
        let base = number.saturating_mul(8);
        if base >= end {
            break;
        }
        let from = start.saturating_sub(base).min(8);
        let to = end.saturating_sub(base).min(8);
        let mask = u8::try_from((0xff_u32 << from) & !(0xff_u32 << to) & 0xff).unwrap_or(0);
        change(byte, mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_sector_is_the_lowest_bit() {
        let mut bytes = [0; 32];
        bytes[0] = 0b0000_0011;
        bytes[31] = 0x80;
        let bitmap = Bitmap::new(&bytes);
        assert_eq!(bitmap.run(0), (true, 2));
        assert_eq!(bitmap.run(1), (true, 2));
        assert_eq!(bitmap.run(2), (false, 255));
        assert_eq!(bitmap.run(255), (true, 256));
        let mut set_one = [0; 2];
        set(&mut set_one, 0, 1);
        assert_eq!(set_one, [1, 0]);
        let mut ones = [0xff; 2];
        clear(&mut ones, 3, 9);
        assert_eq!(ones, [0b0000_0111, 0b1111_1110]);
    }

    proptest! {
        #[test]
        fn runs_are_maximal_and_equal(
            ranges in prop::collection::vec((0u64..512, 0u64..512), 0..6), sector in 0u64..512,
        ) {
            let (mut bytes, mut bits) = ([0; 64], vec![false; 512]);
            for (start, end) in ranges {
                set(&mut bytes, start, end);
                for at in start..end {
                    bits[usize::try_from(at).unwrap()] = true;
                }
            }
            let at = usize::try_from(sector).unwrap();
            let alike = bits[at..].iter().take_while(|b| **b == bits[at]).count() as u64;
            prop_assert_eq!(Bitmap::new(&bytes).run(sector), (bits[at], sector + alike));
        }
    }
}
