//! TCF strings as platforms write them, with the age that a test needs. Each is of version 2.3, of one site alone.

use time::Duration;

use crate::system;

/// Consent to access to the device, and to the vendors 10, 21, 42, 52, 91, 97, 164, 793, 804 and 1126.
pub const MANY: &str = "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgIzQCgAFAAVABUADQALYAYQBSAMZAZIBGYAAAAAAA\
                        .IIzQCgAFAAVABUADQALYAYQBSAMZAZIBGYAA";
/// Consent to the vendors 91 and 1126, but not to access to the device.
pub const NO_ACCESS: &str = "CQhQy4AQhQy4ANwABBENCWFgAHLAAAAAAAYgIzQAgAtgRmAAAAAA.IIzQAgAtgRmA";
/// Consent to the vendor 42; 91 was disclosed as well.
pub const TABOOLA: &str = "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAVQAQAVAAAAA.IAtwAgAVABbA";
/// Consent to the vendor 91, which was not disclosed.
pub const CRITEO_UNDISCLOSED: &str = "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.IAVQAQAVAAAA";
/// Consent to the vendors 42 and 91, of which the publisher forbids 91 access to the device.
pub const CRITEO_RESTRICTED: &str =
    "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAgAVABbAAAACCAAgBbAAA.IAtwAgAVABbA";

/// The string as it would have been made so many days ago.
pub fn days_old(string: &str, days: i64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let deciseconds = (system::now() - Duration::days(days)).unix_timestamp() * 10;
    let character = |at: i64| char::from(ALPHABET[usize::try_from(deciseconds >> (6 * at) & 63).unwrap()]);
    let date: String = (0..6).rev().map(character).collect();
    // Behind the version, which is one character: when it was made, and when it was last changed.
    format!("{}{date}{date}{}", &string[..1], &string[13..])
}
