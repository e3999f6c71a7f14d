//! The ID of an event, which is the same for each repeat of a message.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// Prefix of what is hashed, so that no other hash of ours is one of these.
const DOMAIN: &[u8] = b"event-id-v1";

/// The ID (UUIDv8) of a message of `visitor`, their anonymous ID or else their user ID. The visitor is in it: nobody
/// suppresses another's event by guessing its message ID.
pub fn of_message(source: Uuid, visitor: &str, message_id: &str) -> Uuid {
    let mut hash = Sha256::new();
    for part in [DOMAIN, source.as_bytes(), visitor.as_bytes(), message_id.as_bytes()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_makes_another_id() {
        let source = Uuid::from_u128(1);
        let id = of_message(source, "visitor", "message");
        assert_eq!(id, of_message(source, "visitor", "message"));
        assert_eq!(id.get_version_num(), 8);
        for other in [
            of_message(Uuid::from_u128(2), "visitor", "message"),
            of_message(source, "visitorm", "essage"),
            of_message(source, "visito", "rmessage"),
            of_message(source, "", "visitormessage"),
        ] {
            assert_ne!(id, other);
        }
    }
}
