//! The header of a GPP string, which says what its sections are: their IDs, in ranges of Fibonacci numbers (IAB Tech Lab,
//! "Global Privacy Platform", "Consent String Specification").

use super::super::bits::Bits;

/// Most sections of a string; the registry has 27.
const MAX_SECTIONS: usize = 64;
/// Type of the header among the sections.
const TYPE: u64 = 3;
/// Version of the header that is read.
const VERSION: u64 = 1;

/// Reads the IDs of the sections, in their order; none where the text is no header, or has more sections than there can
/// be.
pub fn section_ids(text: &str) -> Option<Vec<u16>> {
    let mut bits = Bits::of(text, 0, text.len())?;
    if bits.take(6)? != TYPE || bits.take(6)? != VERSION {
        return None;
    }
    let ids = ids(&mut bits)?;
    (!ids.is_empty() && bits.is_rest_zero()).then_some(ids)
}

/// Takes a list of rising IDs: single ones and groups, each by its distance from the one before.
fn ids(bits: &mut Bits<'_>) -> Option<Vec<u16>> {
    let mut ids = Vec::new();
    let mut last = 0u16;
    for _ in 0..bits.take_short(12)? {
        let is_group = bits.flag()?;
        let first = last.checked_add(fibonacci(bits)?)?;
        last = if is_group { first.checked_add(fibonacci(bits)?)? } else { first };
        if ids.len() + usize::from(last - first) >= MAX_SECTIONS {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

/// Takes a number in Fibonacci's code: a bit for each of 1, 2, 3, 5, 8 and so on that it is the sum of, and one more to end
/// it. None where it doesn't end, or is beyond 16 bits.
fn fibonacci(bits: &mut Bits<'_>) -> Option<u16> {
    let (mut number, mut next) = (1u32, 2u32);
    let (mut sum, mut was_set) = (0u32, false);
    // No sum of 16 bits has a number beyond those either.
    while number <= u32::from(u16::MAX) * 2 {
        let is_set = bits.flag()?;
        if is_set && was_set {
            return u16::try_from(sum).ok();
        }
        sum += if is_set { number } else { 0 };
        was_set = is_set;
        (number, next) = (next, number + next);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told() {
        for (text, ids) in [
            ("DBABM", &[2][..]),
            ("DBABMA", &[2]),
            ("DBACNY", &[2, 6]),
            ("DBACNYA", &[2, 6]),
            ("DBABjw", &[5, 6]),
            ("DBABTA", &[6]),
            ("DBABL", &[7]),
            ("DBABLA", &[7]),
            ("DBABBg", &[8]),
            ("DBABrw", &[7, 8]),
            ("DBADNZg", &[2, 6, 8]),
            ("DBAETMz", &[6, 8, 10, 12]),
            ("DBADLO8", &[7, 9, 11, 12]),
            ("DBABrGA", &[7, 8, 9, 10, 11, 12]),
            ("DBACBis", &[8, 40]),
            ("DBABCw", &[18]),
            ("DBABEY", &[24]),
        ] {
            assert_eq!(section_ids(text).as_deref(), Some(ids), "{text}");
        }
    }

    #[test]
    fn what_is_no_header_is_not_read() {
        for (text, fault) in [
            ("", "empty"),
            ("D", "cut"),
            ("DBA", "without a list"),
            ("DBAA", "no section"),
            ("DBACN", "cut in the list"),
            ("CBABM", "another type"),
            ("DCABM", "another version"),
            ("DBABMB", "bits behind the list"),
            ("DBABM=", "padding"),
            ("DBABL..", "dots"),
            ("DBGBM", "385 entries"),
            ("DB__Y", "4,095 entries"),
            ("DBAB9QgSY", "a group of 60,000"),
            ("DBABKqqqqqqqqqqqqqqqqqqqg", "a number that does not end"),
        ] {
            assert_eq!(section_ids(text), None, "{fault}");
        }
    }
}
