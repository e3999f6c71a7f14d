//! Operations that a history consists of.

use std::sync::Arc;

use super::model::Model;

/// The way in which an identifier came to its person, the weaker first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A browser that has named no user: its own identity's, or joined by its cookie.
    #[default]
    Cookie,
    Claim,
    UserHash,
    Signed,
}

impl Way {
    pub fn is_proof(self) -> bool {
        self > Self::Claim
    }

    /// True where Lookup may tell this word, in an identity that has a user or not. A claim of somebody who was
    /// recognised by a cookie before need not be written down: nothing depends on which of them it was.
    pub fn is_told_as(self, word: &str, has_user: bool) -> bool {
        match self {
            Self::Cookie if has_user => word == "cookie",
            Self::Cookie => word == "own",
            Self::Claim => ["claim", "cookie"].contains(&word),
            Self::UserHash => word == "user_hash",
            Self::Signed => word == "signed",
        }
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    See {
        browser: u8,
        /// The user whom the event names, and how firmly.
        user: Option<(u8, Way)>,
        cookie: Option<u8>,
        reset: bool,
    },
    Erase(u8),
    /// Takes a merge apart, by the canonical ID that is to stand on its own again.
    Unmerge(Arc<str>),
}

impl Op {
    /// The identifiers that an event names.
    pub fn ids(&self) -> Vec<u8> {
        match self {
            // After a reset the cookie says nothing.
            Self::See { browser, user, cookie, reset } => {
                let user = user.map(|(user, _)| user);
                [Some(*browser), user, cookie.filter(|_| !reset)].into_iter().flatten().collect()
            }
            Self::Erase(_) | Self::Unmerge(_) => Vec::new(),
        }
    }

    pub fn play(&self, model: &mut Model) {
        match self {
            Self::See { browser, user, cookie, reset } => model.see(*browser, *user, *cookie, *reset),
            Self::Erase(id) => model.erase(*id),
            Self::Unmerge(merged) => model.unmerge(merged),
        }
    }
}

/// Number of a vendor ID: the later, the greater. Every fifth has expired.
pub type Vid = u64;

pub fn lives(id: Vid) -> bool {
    !id.is_multiple_of(5)
}

/// True for a field that speaks of the last click; the others a browser holds.
pub fn is_click(field: &str) -> bool {
    field == "gclid"
}
