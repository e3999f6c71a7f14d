//! The part of a schedule that decides whether anything is due for an identity, in as few bytes as that
//! takes: mostly nothing is.

use std::collections::BTreeMap;

use bb8_redis::redis::{Pipeline, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock,
    error::Result,
    storage::{
        Stores,
        attempt::Attempt,
        cache_entries,
        postgres::syncs,
        projections, read_through,
        redis::{
            keys,
            protocol::{self, Cached, VERSION_FIELD},
        },
    },
};

/// The schedule of one canonical identity.
#[derive(Debug, Default)]
pub struct View {
    /// Text of the field `_due` of `syncs:`.
    due: String,
    /// Vendors that are leased, each with the end of its lease in Unix ms.
    leases: Vec<(String, i64)>,
}

impl View {
    /// Adds the commands that [`View::read`] reads the answers of.
    pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid) {
        pipe.cmd("HMGET")
            .arg(keys::syncs(org, canonical).name)
            .arg(VERSION_FIELD)
            .arg(cache_entries::DUE_FIELD);
        pipe.hgetall(keys::offers(org, canonical));
    }

    /// Reads two answers; none where the schedule has to come from PostgreSQL.
    pub fn read(answers: &mut impl Iterator<Item = Value>) -> Option<Self> {
        Self::parse(answers).ok()
    }

    fn parse(answers: &mut impl Iterator<Item = Value>) -> Result<Self, Cached> {
        let mut strings = || answers.next().map(protocol::strings).unwrap_or_default();
        let (syncs, leases) = (strings(), strings());
        let mut syncs = syncs.into_iter();
        match protocol::hash_state(syncs.next().flatten().as_deref()) {
            Cached::Hit(_) => {}
            other => return Err(other),
        }
        let due = syncs.next().flatten().unwrap_or_default();
        let mut leases = leases.into_iter().flatten();
        let pairs = std::iter::from_fn(|| Some((leases.next()?, leases.next()?.parse().ok()?)));
        Ok(Self { due, leases: pairs.collect() })
    }

    /// Vendors that were tried before, each with the moment in Unix ms from which on it may be tried again.
    pub fn tried(&self) -> Vec<(&str, i64)> {
        let pairs = self.due.split(' ').filter_map(|entry| entry.split_once('='));
        pairs.filter_map(|(vendor, at)| Some((vendor, at.parse().ok()?))).collect()
    }

    /// True where the vendor was offered to this identity a moment ago.
    pub fn is_leased(&self, vendor: &str, now: OffsetDateTime) -> bool {
        self.leases.iter().any(|(name, ends)| name == vendor && *ends > clock::unix_ms(now))
    }

    fn of(attempts: &BTreeMap<String, Attempt>) -> Self {
        Self { due: cache_entries::due_text(attempts), leases: Vec::new() }
    }
}

/// The schedule, from Redis, else from PostgreSQL.
pub async fn view(stores: &Stores, org: Uuid, canonical: Uuid, now: OffsetDateTime) -> Result<View> {
    let mut pipe = Pipeline::new();
    View::ask(&mut pipe, org, canonical);
    let missing = match stores.redis.pipeline::<Vec<Value>>(&pipe).await {
        Ok(answers) => match View::parse(&mut answers.into_iter()) {
            Ok(view) => return Ok(view),
            Err(Cached::Miss) => vec![keys::syncs(org, canonical)],
            Err(_) => Vec::new(),
        },
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            Vec::new()
        }
    };
    let attempts = read_through::through(stores, &missing, async {
        let mut connection = stores.connection().await?;
        let attempts = syncs::find(&mut connection, org, &[canonical]).await?.remove(&canonical);
        let attempts = attempts.unwrap_or_default();
        let entry = cache_entries::syncs(org, canonical, &attempts);
        Ok((attempts, vec![entry]))
    })
    .await?;
    // Redis has lost this identity's keys; the projections for other systems are among them.
    if !missing.is_empty() && !attempts.is_empty() {
        projections::refresh(stores, org, vec![canonical], now).await;
    }
    Ok(View::of(&attempts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_entry_says_is_read_back() {
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let attempts = [("criteo", at), ("x", at + time::Duration::days(1))]
            .map(|(vendor, at)| (vendor.to_owned(), super::super::schedule::no_id(None, at)));
        let attempts = BTreeMap::from(attempts);
        let view = View::of(&attempts);
        let expected: Vec<_> = attempts
            .iter()
            .map(|(vendor, attempt)| (vendor.as_str(), clock::unix_ms(attempt.next_at)))
            .collect();
        assert_eq!(view.tried(), expected);
        assert!(View::default().tried().is_empty());
    }

    #[test]
    fn a_marked_or_missing_schedule_is_not_read() {
        let answer = |values: &[Option<&str>]| {
            let value = |text: &str| Value::BulkString(text.into());
            Value::Array(values.iter().map(|text| text.map_or(Value::Nil, value)).collect())
        };
        let parsed = |syncs: &[Option<&str>], leases: &[Option<&str>]| {
            View::parse(&mut [answer(syncs), answer(leases)].into_iter())
        };
        assert!(matches!(parsed(&[None, None], &[]), Err(Cached::Miss)));
        assert!(matches!(parsed(&[Some("!busy:1"), None], &[]), Err(Cached::Busy)));
        let view = parsed(&[Some("1"), None], &[Some("x"), Some("5000")]).unwrap();
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        assert!(view.is_leased("x", at(4)) && !view.is_leased("x", at(6)) && !view.is_leased("y", at(4)));
    }
}
