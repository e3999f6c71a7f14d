//! States that have been used, or are being, as far as this process knows: a callback that is sent again costs no
//! transaction. PostgreSQL decides, and remembers for all.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;

use super::state::SyncState;

/// Number of states that are kept, of some 30 bytes each. More are begun in their ten minutes on a busy machine; of one
/// that is forgotten a replay costs a transaction.
const KEPT: usize = 200_000;

/// The used states of one process.
pub struct UsedStates {
    states: Cache<u64, ()>,
    hasher: RandomState,
}

/// A use of a state that goes on. Unless it is kept, the state may be used again.
pub struct Use<'a> {
    used: &'a UsedStates,
    hash: u64,
    is_kept: bool,
}

impl Default for UsedStates {
    fn default() -> Self {
        Self { states: Cache::new(KEPT), hasher: RandomState::new() }
    }
}

impl UsedStates {
    /// Begins to use a state; none where it has been used, or somebody else is about to.
    pub fn begin(&self, state: &SyncState) -> Option<Use<'_>> {
        let SyncState { key, vendor, anonymous_id, issued_at } = state;
        let hash = self.hasher.hash_one((key, vendor, anonymous_id, issued_at));
        let mut is_first = false;
        let first = || {
            is_first = true;
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = self.states.get_or_insert_with(&hash, first);
        // Not `then_some`: a use that is made and dropped would free the state.
        is_first.then(|| Use { used: self, hash, is_kept: false })
    }
}

impl Use<'_> {
    /// Remembers that the state was used, now or before.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.used.states.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_state_is_used_once_and_free_again_where_nothing_came_of_it() {
        let used = UsedStates::default();
        let state = SyncState {
            key: Uuid::nil(),
            vendor: "pinterest".to_owned(),
            anonymous_id: "a".to_owned(),
            issued_at: OffsetDateTime::UNIX_EPOCH,
        };
        let first = used.begin(&state).unwrap();
        for _ in 0..3 {
            assert!(used.begin(&state).is_none(), "at the same time");
        }
        drop(first);
        used.begin(&state).unwrap().keep();
        for _ in 0..3 {
            assert!(used.begin(&state).is_none(), "used");
        }
        let later =
            SyncState { issued_at: OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1), ..state };
        assert!(used.begin(&later).is_some());
    }
}
