//! Ties: how firmly each identifier is tied to its canonical identity. There are two classes, by a proof and without
//! one.

use std::collections::BTreeMap;

use crate::{
    identifiers::{Identifier, Kind},
    storage::{postgres::rows::Owner, via::Via},
};

/// The ties of one canonical identity.
#[derive(Debug, Clone, Default)]
pub struct Ties(BTreeMap<Identifier, Via>);

impl Ties {
    /// The ties of an identity with these identifiers.
    pub fn new(links: BTreeMap<Identifier, Via>) -> Self {
        Self(links)
    }

    /// True where the customer's server has vouched for it that the owner belongs here. Nobody is tied at all.
    pub fn is_proven(&self, owner: &Owner) -> bool {
        owner.id().is_some_and(|id| self.0.get(&id).is_some_and(|via| via.is_proof()))
    }

    /// True where a browser is tied by a proof.
    pub fn is_browser_proven(&self, anonymous_id: &str) -> bool {
        let mut browsers = self.0.iter().filter(|(id, _)| id.kind == Kind::AnonymousId);
        browsers.any(|(id, via)| id.value == anonymous_id && via.is_proof())
    }

    /// True where any browser is tied by a proof.
    pub fn has_proven_browser(&self) -> bool {
        self.0.iter().any(|(id, via)| id.kind == Kind::AnonymousId && via.is_proof())
    }

    /// The way in which a browser came to the identity's user; none where there is no user.
    pub fn way_to_user(&self, anonymous_id: &str) -> Option<Via> {
        let mut browsers = self.0.iter().filter(|(id, _)| id.kind == Kind::AnonymousId);
        let has_user = self.0.keys().any(|id| id.kind == Kind::UserId);
        browsers.find(|(id, _)| has_user && id.value == anonymous_id).map(|(_, via)| *via)
    }

    /// The anonymous IDs of the identity's browsers.
    pub fn browsers(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.as_str())
    }
}
