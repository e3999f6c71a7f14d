//! IDs that arrive for many browsers: a vendor that answers everybody with one constant would make all of them one
//! person in its own eyes. Kept in each process, by a hash; no store is asked.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Most browsers that one ID of a vendor may be stored for in [`WINDOW`]: as many as one person may have. A household's
/// shared device, and a browser that has lost our cookie and kept the vendor's, stay below.
pub const MAX_BROWSERS: usize = 50;
/// Time in which an ID's browsers are counted, from the first of them on.
const WINDOW: Duration = Duration::days(7);
/// Number of IDs that are kept, of some 100 bytes each and 500 for a shared one. One that arrives often stays.
const KEPT: usize = 100_000;

/// The IDs of one process, each with the browsers that brought it.
pub struct SharedIds {
    ids: Cache<u64, Arc<Mutex<Bearers>>>,
    hasher: RandomState,
}

/// The browsers that brought an ID.
struct Bearers {
    since: OffsetDateTime,
    browsers: Vec<u64>,
    is_logged: bool,
}

impl Default for SharedIds {
    fn default() -> Self {
        Self { ids: Cache::new(KEPT), hasher: RandomState::new() }
    }
}

impl SharedIds {
    /// True where an ID of a vendor has been brought to an organisation by so many others that it is nobody's.
    pub fn is_shared(&self, org: Uuid, vendor: &str, uid: &str, browser: &str, now: OffsetDateTime) -> bool {
        let new = || Bearers { since: now, browsers: Vec::new(), is_logged: false };
        let id = self.hasher.hash_one((org, vendor, uid));
        let Ok(bearers) =
            self.ids.get_or_insert_with(&id, || Ok::<_, Infallible>(Arc::new(Mutex::new(new()))));
        let mut bearers = bearers.lock().unwrap_or_else(PoisonError::into_inner);
        if now - bearers.since >= WINDOW {
            *bearers = new();
        }
        let browser = self.hasher.hash_one(browser);
        if bearers.browsers.contains(&browser) {
            return false;
        }
        if bearers.browsers.len() < MAX_BROWSERS {
            bearers.browsers.push(browser);
            return false;
        }
        if !bearers.is_logged {
            bearers.is_logged = true;
            tracing::warn!(%org, vendor, "sync: one ID came for over {MAX_BROWSERS} browsers; it is not stored for more");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    #[test]
    fn an_id_of_fifty_browsers_is_nobody_s_for_the_rest_of_the_week() {
        let (ids, org) = (SharedIds::default(), Uuid::nil());
        let is_shared =
            |number: usize, now| ids.is_shared(org, "x", "the-id", &format!("browser-{number}"), now);
        for number in 0..MAX_BROWSERS {
            assert!(!is_shared(number, NOW), "{number}");
        }
        for number in MAX_BROWSERS..2000 {
            assert!(is_shared(number, NOW + Duration::days(6)), "{number}");
        }
        assert!(!is_shared(7, NOW + Duration::days(6)), "one of the fifty keeps it");
        assert!(!ids.is_shared(org, "x", "another", "browser-60", NOW));
        assert!(!ids.is_shared(org, "y", "the-id", "browser-60", NOW), "vendors are apart");
        assert!(!ids.is_shared(Uuid::max(), "x", "the-id", "browser-60", NOW), "organisations are apart");
        assert!(!is_shared(60, NOW + WINDOW), "another week");
    }
}
