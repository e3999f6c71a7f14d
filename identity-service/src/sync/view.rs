//! The part of a schedule that decides whether anything is due for an identity, in as few bytes as that
//! takes: mostly nothing is.

use std::collections::{BTreeMap, BTreeSet};

use bb8_redis::redis::{Pipeline, Value};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::Result,
    storage::{
        Stores,
        attempt::Attempts,
        cache_entries,
        mark::Mark,
        postgres::{identities, syncs},
        read_through,
        redis::{
            keys::{self, Key},
            offers,
            protocol::{self, Cached, VERSION_FIELD},
        },
        retry_lost,
        via::Via,
    },
    vendor_ids::{refresh, schedules, ties::Ties},
};

/// The schedule that counts for one browser, or for the person.
#[derive(Debug, Default)]
pub struct View {
    /// Text of the field `_due` of `syncs:`, or of the browser's own.
    due: String,
    /// The browser's mark, where its schedule is its own alone.
    alone: Option<Mark>,
    /// Leases that are taken, each with its end in Unix ms.
    leases: Vec<(String, i64)>,
}

impl View {
    /// Adds the commands that [`View::read`] reads the answers of. `mark` is that of the browser for which it is.
    pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid, mark: Option<Mark>) {
        let fields = pipe.cmd("HMGET").arg(keys::syncs(org, canonical).name);
        fields.arg(VERSION_FIELD).arg(cache_entries::DUE_FIELD).arg(mark.map(schedules::own_due_field));
        pipe.hgetall(keys::offers(org, canonical));
    }

    /// Reads two answers. Where there is no view the schedule has to come from PostgreSQL. Leases of which nothing can
    /// be read are none.
    pub fn read(answers: &mut impl Iterator<Item = Value>, mark: Option<Mark>) -> Cached<Self> {
        let mut strings = || answers.next().map_or_else(|| Some(Vec::new()), protocol::strings);
        let (syncs, leases) = (strings(), strings().unwrap_or_default());
        let Some(syncs) = syncs else { return Cached::Junk };
        let mut syncs = syncs.into_iter();
        protocol::hash_state(syncs.next().flatten().as_deref()).parse(|()| {
            let (shared, own) = (syncs.next().flatten(), syncs.next().flatten());
            let alone = mark.filter(|_| own.is_some());
            let due = own.or(shared).unwrap_or_default();
            let mut leases = leases.into_iter().flatten();
            let pairs =
                std::iter::from_fn(|| Some((leases.next()?, leases.next()?.parse().unwrap_or_default())));
            schedules::is_due_text(&due).then(|| Self { due, alone, leases: pairs.collect() })
        })
    }

    /// Vendors that were tried before, each with the moment in Unix ms from which on it may be tried again.
    pub fn tried(&self) -> Vec<(&str, i64)> {
        let pairs = self.due.split(' ').filter_map(|entry| entry.split_once('='));
        pairs.filter_map(|(vendor, at)| Some((vendor, at.parse().ok()?))).collect()
    }

    /// The way in which the browser of `mark` came to its user; none where its identity has no user.
    pub fn way(&self, mark: Mark) -> Option<Via> {
        schedules::way(&self.due, mark)
    }

    /// The name of a vendor's lease, which those that share a schedule share.
    pub fn lease(&self, vendor: &str) -> String {
        lease(vendor, self.alone)
    }

    /// True where the vendor was offered a moment ago.
    pub fn is_leased(&self, vendor: &str, now: OffsetDateTime) -> bool {
        let is_taken = |name: &str| {
            self.leases.iter().any(|(taken, ends)| taken == name && offers::is_running(*ends, now))
        };
        // Mostly there are none.
        !self.leases.is_empty() && is_taken(&self.lease(vendor))
    }

    fn of(attempts: &Attempts, ties: &Ties, browser: Option<&str>) -> Self {
        let due = schedules::due_text(attempts, ties, browser);
        let alone = browser.filter(|browser| schedules::is_alone(ties, browser)).map(Mark::of);
        Self { due, alone, leases: Vec::new() }
    }
}

/// The name of a vendor's lease; with its mark that of a browser whose schedule is its own alone.
pub fn lease(vendor: &str, alone: Option<Mark>) -> String {
    alone.map_or_else(|| vendor.to_owned(), |mark| format!("{vendor}@{mark}"))
}

/// The schedule that counts for a browser, or for the person, from Redis, else from PostgreSQL.
pub async fn view(
    stores: &Stores,
    org: Uuid,
    canonical: Uuid,
    browser: Option<&str>,
    now: OffsetDateTime,
) -> Result<View> {
    let views = views(stores, org, &[(canonical, browser)], now).await?;
    Ok(views.into_iter().next().unwrap_or_default())
}

/// The schedules that count for browsers of canonical identities, or for the persons, in the order asked.
pub async fn views(
    stores: &Stores,
    org: Uuid,
    asked: &[(Uuid, Option<&str>)],
    now: OffsetDateTime,
) -> Result<Vec<View>> {
    let marks: Vec<Option<Mark>> = asked.iter().map(|(_, browser)| browser.map(Mark::of)).collect();
    let mut pipe = Pipeline::new();
    for ((canonical, _), mark) in asked.iter().zip(&marks) {
        View::ask(&mut pipe, org, *canonical, *mark);
    }
    let (mut missing, mut junk) = (BTreeSet::new(), BTreeSet::new());
    let mut views: Vec<Option<View>> = match stores.redis.pipeline(pipe).await {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            let mut read = |((canonical, _), mark): (&(Uuid, _), &Option<Mark>)| {
                match View::read(&mut answers, *mark) {
                    Cached::Hit(view) => return Some(view),
                    Cached::Busy => {}
                    Cached::Miss => _ = missing.insert(*canonical),
                    Cached::Junk => _ = junk.insert(*canonical),
                }
                None
            };
            asked.iter().zip(&marks).map(&mut read).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            asked.iter().map(|_| None).collect()
        }
    };
    let unread: BTreeSet<Uuid> =
        asked.iter().zip(&views).filter(|(_, view)| view.is_none()).map(|((id, _), _)| *id).collect();
    if !unread.is_empty() {
        stores.redis.drop_junk(junk.iter().map(|canonical| keys::syncs(org, *canonical)).collect()).await;
        missing.append(&mut junk);
        let fillable: Vec<Key> = missing.iter().map(|canonical| keys::syncs(org, *canonical)).collect();
        let loaded = read_through::through(stores, &fillable, async {
            let loaded = retry_lost!({ load(&mut *stores.connection().await?, org, &unread).await })?;
            let entry = |(id, (attempts, ties)): (&Uuid, &(Attempts, Ties))| {
                schedules::entry(org, *id, attempts, ties)
            };
            let entries = loaded.iter().map(entry).collect();
            Ok((loaded, entries))
        })
        .await?;
        for ((canonical, browser), view) in asked.iter().zip(&mut views).filter(|(_, view)| view.is_none()) {
            *view = loaded.get(canonical).map(|(attempts, ties)| View::of(attempts, ties, *browser));
        }
        // Redis has lost these identities' keys; the projections for other systems are among them.
        let tried = |id: &Uuid| loaded.get(id).is_some_and(|(attempts, _)| !attempts.is_empty());
        refresh::refresh(stores, org, missing.into_iter().filter(tried).collect(), now).await;
    }
    Ok(views.into_iter().map(Option::unwrap_or_default).collect())
}

/// Reads the schedules of the browsers of canonical identities, and their ties, from PostgreSQL.
pub async fn load(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, (Attempts, Ties)>> {
    let asked: Vec<Uuid> = canonicals.iter().copied().collect();
    let mut attempts = syncs::find(connection, org, &asked).await?;
    let mut links = identities::linked(connection, org, &asked).await?;
    let of = |canonical| {
        let ties = Ties::new(links.remove(&canonical).unwrap_or_default());
        (canonical, (attempts.remove(&canonical).unwrap_or_default(), ties))
    };
    Ok(asked.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        storage::{attempt::Outcome, redis::protocol::READY},
    };

    #[test]
    fn what_the_entry_says_is_read_back() {
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let attempts = [("criteo", at), ("x", at + time::Duration::days(1))].map(|(vendor, at)| {
            ((vendor.to_owned(), String::new()), super::super::schedule::without_id(None, Outcome::NoId, at))
        });
        let attempts = Attempts::from(attempts);
        let view = View::of(&attempts, &Ties::default(), None);
        let expected: Vec<_> = attempts
            .iter()
            .map(|((vendor, _), attempt)| (vendor.as_str(), clock::unix_ms(attempt.next_at)))
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
            View::read(&mut [answer(syncs), answer(leases)].into_iter(), Some(Mark::of("browser")))
        };
        let hit = |syncs: &[Option<&str>], leases: &[Option<&str>]| match parsed(syncs, leases) {
            Cached::Hit(view) => view,
            other => panic!("{other:?}"),
        };
        assert!(matches!(parsed(&[None, None], &[]), Cached::Miss));
        assert!(matches!(parsed(&[Some("!busy:1"), None], &[]), Cached::Busy));
        for junk in
            [[Some("2"), None], [Some("!"), None], [Some(READY), Some("x")], [Some(READY), Some("x=y")]]
        {
            assert!(matches!(parsed(&junk, &[]), Cached::Junk), "{junk:?}");
        }
        let view = hit(&[Some(READY), None], &[Some("z"), Some("junk"), Some("x"), Some("5000")]);
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        assert!(view.is_leased("x", at(4)) && !view.is_leased("x", at(6)) && !view.is_leased("y", at(4)));
        assert!(!view.is_leased("x", at(-120)), "nobody takes one for so long");
        let own = lease("y", Some(Mark::of("browser")));
        let leases = [Some("x"), Some("5000"), Some(own.as_str()), Some("5000")];
        let alone = hit(&[Some(READY), Some("x=1"), Some("y=2")], &leases);
        assert_eq!(alone.tried(), [("y", 2)]);
        assert!(alone.is_leased("y", at(4)) && !alone.is_leased("x", at(4)));
    }
}
