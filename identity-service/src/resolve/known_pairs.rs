//! Pairs that a process remembers so that a known visitor's event needs no transaction, and no reading of what it repeats,
//! to learn the same again. No kind is ever answered as a fact about a person: forgetting one costs the work alone.

use uuid::Uuid;

use crate::{consent::ConsentRule, identifiers::Identifier, storage::hash_cache::HashCache};

/// Number of pairs that are kept of each kind, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that have different users. Who has a user keeps them, so the two are never merged; a
/// shared device would ask for it with every event.
pub struct DistinctUsers(HashCache<()>);

impl Default for DistinctUsers {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl DistinctUsers {
    /// True where the two are known to have different users.
    pub fn knows(&self, org: Uuid, one: Uuid, other: Uuid) -> bool {
        self.0.get(&(org, one.min(other), one.max(other))).is_some()
    }

    /// Learns that the two have different users.
    pub fn learn(&self, org: Uuid, one: Uuid, other: Uuid) {
        self.0.insert(&(org, one.min(other), one.max(other)), ());
    }
}

/// Users whose link to a canonical identity is stored as vouched for. A user never leaves it.
pub struct ProvenUsers(HashCache<()>);

impl Default for ProvenUsers {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl ProvenUsers {
    /// True where the user's link is known to be stored as vouched for.
    pub fn knows(&self, org: Uuid, user: &Identifier, canonical: Uuid) -> bool {
        self.0.get(&(org, user, canonical)).is_some()
    }

    /// Learns that the user's link was stored as vouched for.
    pub fn learn(&self, org: Uuid, user: &Identifier, canonical: Uuid) {
        self.0.insert(&(org, user, canonical), ());
    }
}

/// Consent objects in which something is known by a rule. Each page of a visitor repeats theirs, and reading it costs more
/// than all else that is done with it where no sync is due.
pub struct UnderstoodConsents(HashCache<()>);

impl Default for UnderstoodConsents {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl UnderstoodConsents {
    /// True where something is known in the object of that text, or `reads` finds it now.
    pub fn are_understood(&self, text: &str, rule: &ConsentRule, reads: impl FnOnce() -> bool) -> bool {
        if self.0.get(&(text, rule)).is_some() {
            return true;
        }
        let is_understood = reads();
        if is_understood {
            self.0.insert(&(text, rule), ());
        }
        is_understood
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::ConsentMode;

    #[test]
    fn a_consent_object_is_read_once_for_a_rule_and_one_that_is_not_understood_again() {
        let consents = UnderstoodConsents::default();
        let implicit = ConsentRule { mode: ConsentMode::Implicit, mapping: None };
        let unread = || panic!("it was read before");
        assert!(consents.are_understood("a", &ConsentRule::NONE, || true));
        assert!(consents.are_understood("a", &ConsentRule::NONE, unread));
        assert!(!consents.are_understood("b", &ConsentRule::NONE, || false), "another text");
        assert!(!consents.are_understood("b", &ConsentRule::NONE, || false), "not remembered");
        assert!(!consents.are_understood("a", &implicit, || false), "another rule");
    }
}
