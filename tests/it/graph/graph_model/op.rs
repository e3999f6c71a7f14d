//! Operations that a history consists of.

use std::sync::Arc;

use super::model::Model;

#[derive(Debug, Clone)]
pub enum Op {
    See {
        browser: u8,
        user: Option<u8>,
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
                [Some(*browser), *user, cookie.filter(|_| !reset)].into_iter().flatten().collect()
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
