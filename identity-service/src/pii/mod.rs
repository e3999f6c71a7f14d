//! Email addresses and phone numbers. In clear they live for the call that brings them and no longer; what is
//! kept is digests of two normal forms, for the look-ups of the identity that brought them. They never link
//! anybody.

pub mod contacts;
mod normal;
pub mod tombstone;

/// A SHA-256 digest, keyed or plain, by which something is recognised that is not kept itself.
pub type Digest = [u8; 32];
