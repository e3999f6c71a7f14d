//! Bits of a base64url text: six a character, the first of them the highest. They are read where they stand, as writers pad
//! such texts to lengths that a decoder to bytes refuses or cuts.

/// Values of the bytes as characters of the alphabet; 64 where they are none.
#[expect(clippy::indexing_slicing, reason = "the compiler has run it, within bounds")]
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut values = [64; 256];
    let mut value = 0;
    while value < 64 {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Bits in a character of the text.
const PER_CHARACTER: usize = 6;
/// Most bits that are taken at once: seven characters, of which not all of the first and the last count.
const MAX_TAKEN: usize = 36;

/// A reader of the bits of one segment of a text.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    /// The whole text up to the end of the segment.
    text: &'a [u8],
    /// The next bit, counted from the beginning of the text.
    at: usize,
}

impl<'a> Bits<'a> {
    /// Reads the segment from byte `start` to byte `end` of a text; none where it is empty, or has another character than
    /// base64url's.
    pub fn of(text: &'a str, start: usize, end: usize) -> Option<Self> {
        let segment = text.as_bytes().get(start..end).filter(|segment| !segment.is_empty())?;
        let is_well_formed = segment.iter().all(|c| value(*c).is_some());
        is_well_formed.then_some(Self { text: text.as_bytes().get(..end)?, at: start * PER_CHARACTER })
    }

    /// Reads on from a bit, counted from the beginning of the text.
    pub fn from(text: &'a str, at: usize) -> Self {
        Self { text: text.as_bytes(), at }
    }

    /// The next bit, counted from the beginning of the text.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Takes the next `count` bits, at most 36, as a number; none where there are fewer.
    pub fn take(&mut self, count: usize) -> Option<u64> {
        let end = self.at.checked_add(count.min(MAX_TAKEN))?;
        let characters = self.text.get(self.at / PER_CHARACTER..end.div_ceil(PER_CHARACTER))?;
        let mut taken = 0;
        for character in characters {
            taken = taken << PER_CHARACTER | u64::from(value(*character)?);
        }
        let behind = end.next_multiple_of(PER_CHARACTER) - end;
        self.at = end;
        Some(taken >> behind & ((1 << count.min(MAX_TAKEN)) - 1))
    }

    /// Takes the next `count` bits, at most 16, as a number; none where there are fewer.
    pub fn take_short(&mut self, count: usize) -> Option<u16> {
        self.take(count).and_then(|taken| u16::try_from(taken).ok())
    }

    /// Takes the next bit; none at the end.
    pub fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    /// Leaves out the next `count` bits; none where there are fewer.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count)?;
        (at <= self.text.len() * PER_CHARACTER).then(|| self.at = at)
    }

    /// True where none of the bits that are left is set.
    pub fn is_rest_zero(mut self) -> bool {
        std::iter::from_fn(|| self.flag()).all(|bit| !bit)
    }
}

/// The number that a character stands for; none where it is not of the alphabet.
fn value(character: u8) -> Option<u8> {
    VALUES.get(usize::from(character)).copied().filter(|value| *value < 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_alphabet_is_read() {
        for text in ["", " A", "A=", "A+", "A/", "A.", "é", "A\n"] {
            assert!(Bits::of(text, 0, text.len()).is_none(), "{text:?}");
        }
        assert!(Bits::of("A", 0, 2).is_none() && Bits::of("A", 2, 1).is_none());
        let mut bits = Bits::of("?._-", 2, 4).unwrap();
        assert_eq!((bits.take(6), bits.take(6), bits.take(1)), (Some(63), Some(62), None));
    }

    #[test]
    fn what_is_not_there_is_not_taken() {
        let mut bits = Bits::of("AA", 0, 1).unwrap();
        assert_eq!(bits.take(7), None, "the next segment's are not this one's");
        assert_eq!(bits.skip(7), None);
        assert_eq!((bits.skip(6), bits.flag()), (Some(()), None));
        assert_eq!(Bits::from("A", usize::MAX).take(2), None);
        assert!(
            Bits::of("AAA", 0, 3).unwrap().is_rest_zero() && !Bits::of("AAB", 0, 3).unwrap().is_rest_zero()
        );
    }

    proptest! {
        #[test]
        fn bits_are_taken_as_they_stand_in_the_text(
            text in "[A-Za-z0-9_-]{1,20}",
            counts in prop::collection::vec(0usize..=36, 0..12),
        ) {
            let all: Vec<String> = text.bytes().map(|c| format!("{:06b}", value(c).unwrap())).collect();
            let all = all.concat();
            let (mut bits, mut at) = (Bits::of(&text, 0, text.len()).unwrap(), 0);
            for count in counts {
                let expected = all.get(at..at + count);
                let number = expected.map(|bits| u64::from_str_radix(&format!("0{bits}"), 2).unwrap());
                prop_assert_eq!(bits.take(count), number);
                at += expected.map_or(0, str::len);
                prop_assert_eq!(bits.at(), at);
            }
        }
    }
}
