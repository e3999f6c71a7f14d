//! The mark of a browser: by it a browser is recognised in what Redis holds of its person, without being named there.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The first 8 bytes of the SHA-256 of a browser's anonymous ID, in URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark([u8; Self::CHARS]);

impl Mark {
    /// Number of its characters.
    pub const CHARS: usize = 11;

    /// The mark of a browser.
    pub fn of(anonymous_id: &str) -> Self {
        let digest = Sha256::digest(anonymous_id.as_bytes());
        let mut text = [b'A'; Self::CHARS];
        // Eight bytes are eleven characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(digest.get(..8).unwrap_or_default(), &mut text);
        Self(text)
    }

    /// The mark as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_beginning_of_the_digest() {
        // printf phone | sha256sum | xxd -r -p | head -c 8 | base64
        assert_eq!(Mark::of("phone").as_str(), "RVadpX9Le_Q");
        assert_eq!(Mark::of("phone").to_string().len(), Mark::CHARS);
    }
}
