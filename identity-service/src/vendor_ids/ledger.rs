//! What becomes of attempts and results, in order, for the visitors of one organisation. Pure: what is stored
//! goes in, and what is to be stored comes out, however many of them concern one visitor.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proto::v1::{SyncOutcome, SyncRefusal};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::stored::Fields;
use crate::sync::{
    pending,
    schedule::{self, Attempt},
    state::SyncState,
};
use crate::{
    consent::{Decision, decide},
    settings::{ConsentMode, Source},
    storage::{
        cache_entries,
        postgres::rows::{ConsentRow, VendorIdRow},
    },
};

/// The browser is about to be sent to the vendor.
#[derive(Debug)]
pub struct NewAttempt {
    /// The visitor.
    pub anonymous_id: String,
    /// Where it is enabled.
    pub source: Arc<Source>,
    /// The vendor.
    pub vendor: &'static str,
    /// `Sec-GPC: 1` came with the request.
    pub sec_gpc: bool,
    /// When.
    pub now: OffsetDateTime,
}

/// The browser came back.
#[derive(Debug)]
pub struct NewResult {
    /// What the browser was sent off with.
    pub state: SyncState,
    /// None: the vendor has no ID.
    pub value: Option<String>,
    /// Where the ID is kept.
    pub field: &'static str,
    /// Consent category of the vendor.
    pub category: &'static str,
    /// How long the ID is kept.
    pub ttl_days: i32,
    /// Where the vendor is enabled.
    pub pipeline: Uuid,
    /// What the absence of consent means.
    pub mode: ConsentMode,
    /// `Sec-GPC: 1` came with the request.
    pub sec_gpc: bool,
    /// 0..1; see [`schedule::stored`].
    pub jitter: f64,
    /// When.
    pub now: OffsetDateTime,
}

/// A browser and a vendor.
pub type Pair = (String, String);

/// What is stored, and what has changed of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Locked roots by browser.
    pub roots: HashMap<String, Uuid>,
    /// Stored consent by browser.
    pub consents: HashMap<String, ConsentRow>,
    /// Stored schedules.
    pub attempts: HashMap<Uuid, BTreeMap<String, Attempt>>,
    /// Stored vendor IDs, where they were asked for.
    pub held: HashMap<Uuid, Fields>,
    /// States issued until then do not count any more.
    pub used: HashMap<Pair, OffsetDateTime>,
    /// States that were used up.
    pub new_used: BTreeMap<Pair, OffsetDateTime>,
    /// Schedules that changed.
    pub new_attempts: BTreeMap<(Uuid, String), Attempt>,
    /// IDs that came.
    pub new_ids: BTreeMap<(Uuid, &'static str), VendorIdRow>,
}

impl Ledger {
    /// Records an attempt, or says why the browser must not go after all. A visitor without a canonical identity
    /// has no schedule; the callback will say so.
    pub fn attempt(&mut self, new: &NewAttempt) -> Option<SyncRefusal> {
        let canonical = *self.roots.get(&new.anonymous_id)?;
        // Once more, from the truth: Redis may have missed a withdrawal while it was away.
        let mut stored = cache_entries::consent_entry(self.consents.get(&new.anonymous_id));
        stored.sec_gpc |= new.sec_gpc;
        let enabled = new.source.vendor(new.vendor);
        if !enabled.is_some_and(|enabled| pending::allows(&new.source, enabled, &stored)) {
            return Some(SyncRefusal::Consent);
        }
        let before = self.before(canonical, new.vendor);
        if before.is_some_and(|attempt| attempt.is_exhausted(new.now)) {
            return Some(SyncRefusal::Exhausted);
        }
        let attempt = schedule::attempted(before, new.now);
        self.schedule(canonical, new.vendor, attempt);
        None
    }

    /// Stores what came back, if it counts.
    pub fn result(&mut self, new: &NewResult) -> SyncOutcome {
        let SyncState { vendor, anonymous_id, issued_at, .. } = &new.state;
        let Some(canonical) = self.roots.get(anonymous_id).copied() else { return SyncOutcome::NoCanonical };
        // Withdrawn between the 302 and now: nothing is stored, the state is not even used up.
        let row = self.consents.get(anonymous_id);
        let sec_gpc = new.sec_gpc || row.is_some_and(|row| row.sec_gpc);
        let signals = row.and_then(|row| row.signals.as_deref());
        if decide(signals, sec_gpc, new.category, new.mode) == Decision::Denied {
            return SyncOutcome::ConsentDenied;
        }
        let pair = (anonymous_id.clone(), vendor.clone());
        if self.used.get(&pair).is_some_and(|used| used >= issued_at) {
            return SyncOutcome::BadState;
        }
        self.used.insert(pair.clone(), *issued_at);
        self.new_used.insert(pair, *issued_at);
        let Some(value) = &new.value else {
            let attempt = schedule::no_id(self.before(canonical, vendor), new.now);
            self.schedule(canonical, vendor, attempt);
            return SyncOutcome::NoId;
        };
        self.schedule(canonical, vendor, schedule::stored(new.ttl_days, new.now, new.jitter));
        let row = VendorIdRow {
            canonical_id: canonical,
            field: new.field.to_owned(),
            value: value.clone(),
            source: "sync".to_owned(),
            collected_at: new.now,
            expires_at: new.now + Duration::days(i64::from(new.ttl_days)),
            anonymous_id: Some(anonymous_id.clone()),
            pipeline_id: Some(new.pipeline),
        };
        self.new_ids.insert((canonical, new.field), row);
        SyncOutcome::Stored
    }

    fn before(&self, canonical: Uuid, vendor: &str) -> Option<&Attempt> {
        self.attempts.get(&canonical)?.get(vendor)
    }

    fn schedule(&mut self, canonical: Uuid, vendor: &str, attempt: Attempt) {
        self.attempts.entry(canonical).or_default().insert(vendor.to_owned(), attempt.clone());
        self.new_attempts.insert((canonical, vendor.to_owned()), attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger { roots: HashMap::from([("a".to_owned(), Uuid::nil())]), ..Ledger::default() }
    }

    fn result(anonymous_id: &str, issued_at: i64, value: Option<&str>) -> NewResult {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        NewResult {
            state: SyncState {
                org: Uuid::nil(),
                source: Uuid::nil(),
                vendor: "pinterest".to_owned(),
                anonymous_id: anonymous_id.to_owned(),
                issued_at: at(issued_at),
            },
            value: value.map(str::to_owned),
            field: "pin_unauth",
            category: "marketing",
            ttl_days: 90,
            pipeline: Uuid::nil(),
            mode: ConsentMode::Implicit,
            sec_gpc: false,
            jitter: 0.0,
            now: at(1000),
        }
    }

    #[test]
    fn of_two_results_with_one_state_the_first_counts() {
        let mut ledger = ledger();
        assert_eq!(ledger.result(&result("a", 1, Some("x"))), SyncOutcome::Stored);
        assert_eq!(ledger.result(&result("a", 1, Some("y"))), SyncOutcome::BadState);
        assert_eq!(ledger.result(&result("b", 1, Some("z"))), SyncOutcome::NoCanonical);
        assert_eq!(ledger.new_ids.values().map(|row| row.value.as_str()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(ledger.result(&result("a", 2, Some("y"))), SyncOutcome::Stored);
        assert_eq!(ledger.new_ids.values().map(|row| row.value.as_str()).collect::<Vec<_>>(), ["y"]);
        assert_eq!((ledger.new_used.len(), ledger.new_attempts.len()), (1, 1));
    }

    #[test]
    fn an_empty_answer_keeps_what_is_stored() {
        let mut ledger = ledger();
        ledger.result(&result("a", 1, Some("x")));
        assert_eq!(ledger.result(&result("a", 2, None)), SyncOutcome::NoId);
        assert_eq!(ledger.new_ids.len(), 1);
        let denied = NewResult { sec_gpc: true, ..result("a", 3, Some("y")) };
        assert_eq!(ledger.result(&denied), SyncOutcome::ConsentDenied);
        assert_eq!(
            ledger.result(&result("a", 3, Some("y"))),
            SyncOutcome::Stored,
            "the state is not used up"
        );
    }
}
