//! Lanes: the events of one browser stay in order, and no two of them are under way at once.

use proto::event::Envelope;
use sha2::{Digest, Sha256};

/// A lane, by a digest of whose it is.
pub type Lane = [u8; 16];

/// The lane of an event: that of its browser, else of its person. A merge changes the person in the middle of a browser's
/// history, and never the browser.
pub fn of(envelope: &Envelope) -> Lane {
    let own = Some(envelope.anonymous_id.as_str()).filter(|id| !id.is_empty());
    let mut hash = Sha256::new();
    hash.update(&envelope.source_id);
    hash.update([0, u8::from(own.is_some())]);
    hash.update(own.unwrap_or(&envelope.canonical_id));
    let digest: [u8; 32] = hash.finalize().into();
    let (half, _) = digest.split_at(Lane::default().len());
    half.try_into().unwrap_or_default()
}
