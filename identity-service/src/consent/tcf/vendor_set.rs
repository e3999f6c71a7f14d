//! A set of vendors in a TCF string: a bit for each vendor, or ranges of their IDs. It is never spelled out, as the ranges of
//! 8 KiB can name a hundred million; the one thing asked is whether it holds a vendor.

use super::super::bits::Bits;

/// The place of a set in its string, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VendorSet {
    /// A bit for each vendor from 1 to the highest.
    Field {
        /// The first vendor's bit.
        at: usize,
        /// Highest ID that has a bit.
        max: u16,
    },
    /// Ranges of IDs, of which one has the vendor.
    Ranges(Ranges),
}

/// The place of ranges in their string, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// The first bit of the first range.
    at: usize,
    /// Number of the ranges.
    count: u16,
}

impl VendorSet {
    /// Reads to the end of a set; none where it is cut short, or a range is none or beyond the highest ID.
    pub fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let max = bits.take_short(16)?;
        if bits.flag()? {
            return Ranges::read(bits, max).map(Self::Ranges);
        }
        let at = bits.at();
        bits.skip(max.into())?;
        Some(Self::Field { at, max })
    }

    /// True where the set, which stands in `text`, has the vendor.
    pub fn contains(self, text: &str, vendor: u16) -> bool {
        match self {
            Self::Ranges(ranges) => ranges.contains(text, vendor),
            Self::Field { at, max } if (1..=max).contains(&vendor) => {
                Bits::from(text, at + usize::from(vendor) - 1).flag() == Some(true)
            }
            Self::Field { .. } => false,
        }
    }
}

impl Ranges {
    /// Reads to the end of ranges; none where they are cut short, or one is none or goes beyond `max`.
    pub fn read(bits: &mut Bits<'_>, max: u16) -> Option<Self> {
        let count = bits.take_short(12)?;
        let ranges = Self { at: bits.at(), count };
        for _ in 0..count {
            let (start, end) = range(bits)?;
            if start == 0 || start > end || end > max {
                return None;
            }
        }
        Some(ranges)
    }

    /// True where one of the ranges, which stand in `text`, has the vendor.
    pub fn contains(self, text: &str, vendor: u16) -> bool {
        let mut bits = Bits::from(text, self.at);
        (0..self.count).map_while(|_| range(&mut bits)).any(|(start, end)| (start..=end).contains(&vendor))
    }
}

/// Takes a range: its first and its last vendor, which may be the same.
fn range(bits: &mut Bits<'_>) -> Option<(u16, u16)> {
    let is_range = bits.flag()?;
    let start = bits.take_short(16)?;
    Some((start, if is_range { bits.take_short(16)? } else { start }))
}
