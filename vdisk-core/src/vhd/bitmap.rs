//! The bitmap before the data of a block: which of its sectors the block keeps.
//!
//! Almost all bitmaps are all ones or all zeros, so that is found out once.

use std::ops::Range;

/// Which sectors of a block it keeps; the first sector is the highest bit of the first byte.
pub(crate) struct Bitmap {
    bytes: Vec<u8>,
    sectors: u64,
    /// Set if all bits are equal, as is usual.
    uniform: Option<bool>,
}

impl Bitmap {
    /// The bitmap of a block of `sectors`.
    pub(crate) fn new(bytes: Vec<u8>, sectors: u64) -> Self {
        let mut bitmap = Self {
            bytes,
            sectors,
            uniform: None,
        };
        let (first, end) = bitmap.run(0);
        bitmap.uniform = (end == sectors).then_some(first);
        bitmap
    }

    /// As [`new`](Self::new), of XenServer's first driver: it kept the first sector of each byte in
    /// the lowest bit.
    pub(crate) fn reversed(mut bytes: Vec<u8>, sectors: u64) -> Self {
        for byte in &mut bytes {
            *byte = byte.reverse_bits();
        }
        Self::new(bytes, sectors)
    }

    fn byte(&self, sector: u64) -> u8 {
        let at = usize::try_from(sector / 8).unwrap_or(usize::MAX);
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn bit(&self, sector: u64) -> bool {
        self.byte(sector) & (0x80 >> (sector % 8)) != 0
    }

    /// The bit of `sector`, and the first sector after it whose bit differs.
    pub(crate) fn run(&self, sector: u64) -> (bool, u64) {
        if let Some(bit) = self.uniform {
            return (bit, self.sectors);
        }
        let bit = self.bit(sector);
        let full = if bit { 0xff } else { 0 };
        let mut end = sector.saturating_add(1);
        while end < self.sectors {
            if end.is_multiple_of(8) && self.byte(end) == full {
                end = end.saturating_add(8);
            } else if self.bit(end) == bit {
                end = end.saturating_add(1);
            } else {
                break;
            }
        }
        (bit, end.min(self.sectors))
    }
}

/// Sets the bits of `sectors`, highest bit of each byte first.
pub(crate) fn set_bits(bitmap: &mut [u8], sectors: Range<u64>) {
    change_bits(bitmap, &sectors, |byte, mask| *byte |= mask);
}

/// Clears the bits of `sectors`.
pub(crate) fn clear_bits(bitmap: &mut [u8], sectors: Range<u64>) {
    change_bits(bitmap, &sectors, |byte, mask| *byte &= !mask);
}

/// Calls `change` with each byte of `bitmap` that has bits of `sectors`, and with these bits.
fn change_bits(bitmap: &mut [u8], sectors: &Range<u64>, change: impl Fn(&mut u8, u8)) {
    let first = sectors.start / 8;
    let skipped = usize::try_from(first).unwrap_or(usize::MAX);
    let bytes = (first..).zip(bitmap.iter_mut().skip(skipped));
    for (number, byte) in bytes.take_while(|(number, _)| number.saturating_mul(8) < sectors.end) {
        let start = number.saturating_mul(8);
        let from = sectors.start.saturating_sub(start).min(8);
        let to = sectors.end.saturating_sub(start).min(8);
        // Bits `from..to`, counted from the highest.
        change(
            byte,
            u8::try_from((0xff_u32 >> from) & !(0xff_u32 >> to)).unwrap_or(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_sector_is_the_highest_bit() {
        let bitmap = Bitmap::new(vec![0b1100_0000, 0xff, 0xff, 0b0111_1111], 32);
        assert_eq!(bitmap.run(0), (true, 2));
        assert_eq!(bitmap.run(1), (true, 2));
        assert_eq!(bitmap.run(2), (false, 8));
        assert_eq!(bitmap.run(8), (true, 24));
        assert_eq!(bitmap.run(24), (false, 25));
        assert_eq!(bitmap.run(31), (true, 32));
    }

    #[test]
    fn bits_are_set_from_the_highest() {
        let mut bitmap = [0; 4];
        set_bits(&mut bitmap, 0..1);
        assert_eq!(bitmap, [0x80, 0, 0, 0]);
        set_bits(&mut bitmap, 6..17);
        assert_eq!(bitmap, [0x83, 0xff, 0x80, 0]);
        set_bits(&mut bitmap, 31..32);
        assert_eq!(bitmap, [0x83, 0xff, 0x80, 1]);
        set_bits(&mut bitmap, 9..9);
        set_bits(&mut bitmap, 18..20);
        assert_eq!(bitmap, [0x83, 0xff, 0xb0, 1]);
        clear_bits(&mut bitmap, 7..9);
        assert_eq!(bitmap, [0x82, 0x7f, 0xb0, 1]);
        clear_bits(&mut bitmap, 0..32);
        assert_eq!(bitmap, [0; 4]);
    }

    proptest! {
        #[test]
        fn runs_are_maximal_and_equal(bytes in prop::collection::vec(
            prop_oneof![Just(0u8), Just(255), any::<u8>()], 1..40), sector in 0u64..320)
        {
            let sectors = bytes.len() as u64 * 8;
            prop_assume!(sector < sectors);
            let bits: Vec<bool> =
                (0..bytes.len() * 8).map(|i| bytes[i / 8] >> (7 - i % 8) & 1 == 1).collect();
            let (bit, end) = Bitmap::new(bytes, sectors).run(sector);
            let at = usize::try_from(sector).unwrap();
            let expected = bits[at..].iter().take_while(|b| **b == bits[at]).count() as u64;
            prop_assert_eq!((bit, end), (bits[at], sector + expected));
        }
    }
}
