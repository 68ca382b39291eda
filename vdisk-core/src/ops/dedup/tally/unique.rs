//! Sums over distinct blocks, and how far off they are if they come from a sample.

/// Sums over distinct blocks. In 128 bits they cannot overflow.
#[derive(Clone, Copy, Default)]
pub(super) struct Unique {
    pub(super) blocks: u128,
    /// Each counted once.
    pub(super) bytes: u128,
    /// How often they occur.
    pub(super) refs: u128,
    /// Each as often as it occurs.
    pub(super) data: u128,
    /// Of those that occur once.
    pub(super) once: u128,
}

impl Unique {
    /// A block of `len` bytes that occurs `refs` times.
    pub(super) fn add(&mut self, len: u32, refs: u64) {
        let (len, refs) = (u128::from(len), u128::from(refs));
        self.blocks += 1;
        self.bytes += len;
        self.refs += refs;
        self.data += len * refs;
        if refs == 1 {
            self.once += len;
        }
    }
}

/// Half of the 95 % confidence interval of a sum of lengths, if one in 2 to the power of `bits` of
/// them was seen, and these have the sum `squares` of squares.
///
/// Each is seen with probability p on its own, so the variance of the estimate (their sum / p) is
/// estimated as squares * (1 - p) / p^2 (Horvitz and Thompson).
pub(super) fn error(squares: u128, bits: u32) -> u64 {
    let inverse = 1u128 << bits;
    let variance = squares.saturating_mul(inverse * (inverse - 1));
    let interval = variance.isqrt().saturating_mul(196).div_ceil(100);
    u64::try_from(interval).unwrap_or(u64::MAX)
}
