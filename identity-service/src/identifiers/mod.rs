//! Identifiers of visitors, parsed at the boundary: an [`Identifier`] is never empty, too long or junk.

pub mod placeholder;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest identifier a browser may send, in bytes.
pub const MAX_BROWSER_BYTES: usize = 128;
/// Longest identifier at all, in bytes.
pub const MAX_BYTES: usize = 1024;

/// The kind of what an identifier stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A browser, by its anonymous ID.
    AnonymousId,
    /// A person, by the customer's own ID.
    UserId,
}

impl Kind {
    /// Returns the number that stands for it in `links.kind`.
    pub fn number(self) -> i16 {
        match self {
            Self::AnonymousId => 0,
            Self::UserId => 1,
        }
    }

    /// Finds the kind of a number in `links.kind`; an unknown number is a browser's.
    pub fn from_number(number: i16) -> Self {
        if number == Self::UserId.number() { Self::UserId } else { Self::AnonymousId }
    }

    /// Returns the word that stands for it in Redis keys and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::AnonymousId => "anonymous_id",
            Self::UserId => "user_id",
        }
    }
}

/// An identifier that is usable.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identifier {
    /// The kind, a browser or a person.
    pub kind: Kind,
    /// The text: 1 to 1,024 bytes, no control characters, no placeholder.
    pub value: String,
}

/// Identifiers are bearer values and personal: only the first four characters are ever printed.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.word(), shorten(&self.value))
    }
}

/// Takes the first four characters of an identifier, for logs.
pub fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(4).collect();
    short.push('…');
    short
}

/// The outcome of reading a text from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Empty but for spaces: as if it had not been sent.
    Absent,
    /// A placeholder that would fuse strangers; never linked.
    Junk,
    /// Too long, or holding control characters.
    Invalid,
    /// Usable as an identifier.
    Ok(Identifier),
}

/// Reads `text` as an identifier of at most `max_bytes`. Only ASCII spaces around it are removed: user IDs are
/// case-sensitive.
pub fn parse(kind: Kind, text: &str, max_bytes: usize) -> Parsed {
    let value = text.trim_matches(|c: char| c.is_ascii_whitespace());
    if value.is_empty() {
        return Parsed::Absent;
    }
    if value.len() > max_bytes || value.chars().any(char::is_control) {
        return Parsed::Invalid;
    }
    if value.chars().all(is_invisible) || placeholder::is_placeholder(value) {
        return Parsed::Junk;
    }
    Parsed::Ok(Identifier { kind, value: value.to_owned() })
}

fn is_invisible(c: char) -> bool {
    // Zero-width, direction, filler and variation characters: Unicode's Default_Ignorable_Code_Point.
    c.is_whitespace()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_characters() {
        let parse = |text: &str| parse(Kind::AnonymousId, text, 128);
        assert_eq!(parse("   "), Parsed::Absent);
        assert_eq!(parse(&"a".repeat(129)), Parsed::Invalid);
        assert_eq!(parse("a\u{0}b"), Parsed::Invalid);
        assert_eq!(parse("a\nb"), Parsed::Invalid);
        for invisible in ["\u{200b}\u{200b}", "\u{202e}", "\u{2066}\u{2069}", "\u{180e}", "\u{3164}"] {
            assert_eq!(parse(invisible), Parsed::Junk, "{invisible:?}");
        }
        let Parsed::Ok(id) = parse(" User-1 ") else { unreachable!() };
        assert_eq!(id.value, "User-1");
        assert_eq!(format!("{id:?}"), "anonymous_id:User…");
    }
}
