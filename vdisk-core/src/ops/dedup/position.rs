//! What a node of a family records, as it is sorted by place.

use super::{Fingerprint, sorter::Record};

/// Units of one node, from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) group: u64,
    /// Of the node.
    pub(super) rank: u32,
    /// In the group.
    pub(super) unit: u16,
    pub(super) content: Units,
}

/// What lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Units {
    /// The disk below ends here, and this one goes on: so blocks across here are not the same.
    Seam,
    /// So many units of zeros, also beyond the group.
    Zeros(Length),
    /// One unit.
    Data(Fingerprint),
}

/// A number of units, in bytes, so that a position takes 32 and not 40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length([u8; 8]);

impl Length {
    pub(super) fn new(units: u64) -> Self {
        Self(units.to_le_bytes())
    }
    pub(super) fn get(self) -> u64 {
        u64::from_le_bytes(self.0)
    }
}

impl Record for Position {
    const LEN: usize = 31;
    type Key = (u64, u32, u16);

    fn key(&self) -> Self::Key {
        (self.group, self.rank, self.unit)
    }

    /// Nothing is recorded twice: at most a seam and something else lie at one place.
    fn combine(&mut self, next: &Self) {
        if self.content == Units::Seam {
            self.content = next.content;
        }
    }

    fn is_void(&self) -> bool {
        false
    }

    fn write(&self, bytes: &mut [u8]) {
        let (tag, value) = match self.content {
            Units::Seam => (0, [0; 16]),
            Units::Zeros(units) => (1, u128::from(units.get()).to_le_bytes()),
            Units::Data(print) => (2, print.bytes()),
        };
        bytes[..8].copy_from_slice(&self.group.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rank.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.unit.to_le_bytes());
        bytes[14] = tag;
        bytes[15..31].copy_from_slice(&value);
    }

    fn read(bytes: &[u8]) -> Self {
        let value = array(&bytes[15..31]);
        Self {
            group: u64::from_le_bytes(array(&bytes[..8])),
            rank: u32::from_le_bytes(array(&bytes[8..12])),
            unit: u16::from_le_bytes(array(&bytes[12..14])),
            content: match bytes[14] {
                0 => Units::Seam,
                1 => Units::Zeros(Length(array(&value[..8]))),
                _ => Units::Data(Fingerprint::from_bytes(value)),
            },
        }
    }
}

/// The first bytes of `bytes`, which has as many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_all_of_it() {
        assert_eq!(size_of::<Position>(), 32);
        let contents = [
            Units::Seam,
            Units::Zeros(Length::new(1 << 44)),
            Units::Data(Fingerprint::of(b"abc")),
        ];
        for content in contents {
            let position = Position {
                group: 0x0102_0304_0506_0708,
                rank: 0x1112_1314,
                unit: 32_767,
                content,
            };
            let mut bytes = [0xff; Position::LEN];
            position.write(&mut bytes);
            assert_eq!(Position::read(&bytes), position);
        }
    }
}
