//! Ties: how firmly each identifier is tied to its canonical identity. There are two classes, by a proof and without
//! one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    identifiers::{Identifier, Kind},
    storage::{
        postgres::rows::Owner,
        via::{Opens, Reader, Via},
    },
};

/// The ties of one canonical identity.
#[derive(Debug, Clone, Default)]
pub struct Ties {
    /// Ways of the browsers, by anonymous ID.
    browsers: BTreeMap<String, Via>,
    has_user: bool,
    /// Identifiers that are tied by a proof.
    proven: BTreeSet<Owner>,
}

impl Ties {
    /// The ties of an identity with these identifiers.
    pub fn new(links: impl IntoIterator<Item = (Identifier, Via)>) -> Self {
        let mut ties = Self::default();
        for (id, via) in links {
            if via.is_proof() {
                ties.proven.insert(Owner::of(&id));
            }
            match id.kind {
                Kind::AnonymousId => _ = ties.browsers.insert(id.value, via),
                Kind::UserId => ties.has_user = true,
            }
        }
        ties
    }

    /// True where the customer's server has vouched for it that the owner belongs here. Nobody is tied at all.
    pub fn is_proven(&self, owner: &Owner) -> bool {
        self.proven.contains(owner)
    }

    /// True where a browser is tied by a proof; none where it is not tied at all.
    pub fn is_browser_proven(&self, anonymous_id: &str) -> Option<bool> {
        self.browsers.get(anonymous_id).map(|via| via.is_proof())
    }

    /// True where a browser is told of the person's syncs; none where it is not tied at all.
    pub fn shares_syncs(&self, anonymous_id: &str) -> Option<bool> {
        self.browsers.get(anonymous_id).map(|via| via.opens(Reader::PendingSyncs) == Opens::Person)
    }

    /// True where any browser is told of the person's syncs.
    pub fn has_shared_syncs(&self) -> bool {
        self.browsers.values().any(|via| via.opens(Reader::PendingSyncs) == Opens::Person)
    }

    /// The way in which a browser came to the identity's user; none where there is no user.
    pub fn way_to_user(&self, anonymous_id: &str) -> Option<Via> {
        self.browsers.get(anonymous_id).copied().filter(|_| self.has_user)
    }

    /// The anonymous IDs of the identity's browsers.
    pub fn browsers(&self) -> impl Iterator<Item = &str> {
        self.browsers.keys().map(String::as_str)
    }
}
