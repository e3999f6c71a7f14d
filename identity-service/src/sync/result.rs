//! Storing what a vendor sent back with a browser.

use std::sync::Arc;

use proto::v1::SyncOutcome;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{schedule, state::SyncState};
use crate::{
    consent::{ConsentRule, Decision},
    identifiers::Identifier,
    storage::{
        attempt::Outcome,
        postgres::rows::{Owner, VendorIdRow},
    },
    vendor_ids::{ledger::Ledger, writer::Write},
    vendors::ConsentNeed,
};

/// The answer that a browser brought from a vendor.
#[derive(Debug)]
pub enum Answer {
    /// An ID.
    Id(String),
    /// No ID: the vendor has none.
    NoId,
    /// An ID that came for so many browsers that it is nobody's.
    SharedId,
}

/// A browser that came back from a vendor.
#[derive(Debug)]
pub struct NewResult {
    /// The browser.
    pub browser: Identifier,
    /// The state that the browser was sent off with.
    pub state: SyncState,
    /// The vendor's answer.
    pub answer: Answer,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// The consent that the ID needs.
    pub need: ConsentNeed,
    /// Life of the ID in days.
    pub ttl_days: i32,
    /// The pipeline that has the vendor enabled.
    pub pipeline: Uuid,
    /// The rule by which its pipeline reads consent.
    pub rule: Arc<ConsentRule>,
    /// True where `Sec-GPC: 1` came with the request.
    pub sec_gpc: bool,
    /// A random number of 0..1; see [`schedule::stored`].
    pub jitter: f64,
    /// Time of the callback.
    pub now: OffsetDateTime,
}

impl Write for NewResult {
    /// The outcome, and true where it is the first ID of its period.
    type Output = (SyncOutcome, bool);

    fn owner(&self) -> &Identifier {
        &self.browser
    }

    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn state_vendor(&self) -> Option<&str> {
        Some(&self.state.vendor)
    }

    /// Stores what came back, if it counts.
    fn decide(&self, ledger: &mut Ledger) -> (SyncOutcome, bool) {
        let SyncState { vendor, anonymous_id, issued_at, .. } = &self.state;
        let Some(canonical) = ledger.root(&self.browser) else { return (SyncOutcome::NoCanonical, false) };
        // Withdrawn between the 302 and now: nothing is stored, the state is not even used up.
        let consent = ledger.consent(anonymous_id).with_gpc(self.sec_gpc);
        if consent.signals().decide(&self.need, &self.rule, self.now) == Decision::Denied {
            return (SyncOutcome::ConsentDenied, false);
        }
        if !ledger.use_state(anonymous_id, vendor, *issued_at) {
            return (SyncOutcome::BadState, false);
        }
        let own = ledger.own_attempt(canonical, vendor, anonymous_id);
        let value = match &self.answer {
            Answer::Id(value) => Ok(value),
            Answer::NoId => Err((Outcome::NoId, SyncOutcome::NoId)),
            Answer::SharedId => Err((Outcome::SharedId, SyncOutcome::SharedId)),
        };
        let value = match value {
            Ok(value) => value,
            Err((outcome, told)) => {
                let attempt = schedule::without_id(own, outcome, self.now);
                ledger.schedule(canonical, vendor, anonymous_id, attempt);
                return (told, false);
            }
        };
        let is_first = own.and_then(|own| own.period).is_some_and(|period| !period.is_stored);
        let attempt = schedule::stored(own, self.ttl_days, self.now, self.jitter);
        ledger.schedule(canonical, vendor, anonymous_id, attempt);
        let row = VendorIdRow {
            canonical_id: canonical,
            field: self.field.to_owned(),
            owner: Owner::of(&self.browser),
            value: value.clone(),
            source: "sync".to_owned(),
            collected_at: self.now,
            expires_at: self.now + Duration::days(i64::from(self.ttl_days)),
            pipeline_id: Some(self.pipeline),
            // The signals of this moment grant it; a denial that comes later withholds it in its own transaction.
            is_withheld: false,
        };
        ledger.store(row);
        (SyncOutcome::Stored, is_first)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::identifiers::Kind;

    fn browser(anonymous_id: &str) -> Identifier {
        Identifier { kind: Kind::AnonymousId, value: anonymous_id.to_owned() }
    }

    fn ledger() -> Ledger {
        Ledger { roots: HashMap::from([(browser("a"), Uuid::nil())]), ..Ledger::default() }
    }

    fn decide(ledger: &mut Ledger, result: &NewResult) -> SyncOutcome {
        result.decide(ledger).0
    }

    fn result(anonymous_id: &str, issued_at: i64, value: Option<&str>) -> NewResult {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        NewResult {
            browser: browser(anonymous_id),
            state: SyncState {
                key: Uuid::nil(),
                vendor: "pinterest".to_owned(),
                anonymous_id: anonymous_id.to_owned(),
                issued_at: at(issued_at),
            },
            answer: value.map_or(Answer::NoId, |value| Answer::Id(value.to_owned())),
            field: "pin_unauth",
            need: ConsentNeed::MARKETING,
            ttl_days: 90,
            pipeline: Uuid::nil(),
            rule: Arc::new(ConsentRule { mode: crate::consent::ConsentMode::Implicit, mapping: None }),
            sec_gpc: false,
            jitter: 0.0,
            now: at(1000),
        }
    }

    #[test]
    fn of_two_results_with_one_state_the_first_counts() {
        let mut ledger = ledger();
        assert_eq!(decide(&mut ledger, &result("a", 1, Some("x"))), SyncOutcome::Stored);
        assert_eq!(decide(&mut ledger, &result("a", 1, Some("y"))), SyncOutcome::BadState);
        assert_eq!(decide(&mut ledger, &result("b", 1, Some("z"))), SyncOutcome::NoCanonical);
        assert_eq!(ledger.new_ids.values().map(|row| row.value.as_str()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(decide(&mut ledger, &result("a", 2, Some("y"))), SyncOutcome::Stored);
        assert_eq!(ledger.new_ids.values().map(|row| row.value.as_str()).collect::<Vec<_>>(), ["y"]);
        assert_eq!((ledger.new_used.len(), ledger.new_attempts.len()), (1, 1));
    }

    #[test]
    fn an_empty_answer_keeps_what_is_stored() {
        let mut ledger = ledger();
        decide(&mut ledger, &result("a", 1, Some("x")));
        assert_eq!(decide(&mut ledger, &result("a", 2, None)), SyncOutcome::NoId);
        assert_eq!(ledger.new_ids.len(), 1);
        let denied = NewResult { sec_gpc: true, ..result("a", 3, Some("y")) };
        assert_eq!(decide(&mut ledger, &denied), SyncOutcome::ConsentDenied);
        assert_eq!(
            decide(&mut ledger, &result("a", 3, Some("y"))),
            SyncOutcome::Stored,
            "the state is not used up"
        );
    }
}
