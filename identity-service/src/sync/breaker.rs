//! The circuit breaker of a vendor: where its callbacks keep bringing what can be no ID, an organisation's visitors are
//! not sent there for a while. It is kept in each process, and costs no store anything.
//!
//! A stranger must not switch a vendor off for a customer. So wrong answers count with a state of ours alone, once a
//! browser and once a network, over a span of time, and any ID that is stored in between ends the count.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::counter;
use quick_cache::sync::Cache;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Browsers with a wrong answer, and networks that they are in, from which on a breaker opens.
pub const THRESHOLD: usize = 20;
/// Shortest time between the first and the last of them: on a site whose visitors get IDs, one comes in between.
const MIN_SPAN: Duration = Duration::minutes(10);
/// Time for which a breaker is open. Then all are sent again, and as many wrong answers open it anew.
const PAUSE: Duration = Duration::hours(1);
/// Number of vendors of organisations that are kept, of at most 400 bytes each: only those with wrong answers.
const KEPT: usize = 10_000;

/// The breakers of one process, for each organisation and vendor.
pub struct Breakers {
    breakers: Cache<(Uuid, &'static str), Arc<Mutex<Breaker>>>,
    hasher: RandomState,
}

/// Wrong answers in a row, and what came of them.
#[derive(Default)]
struct Breaker {
    since: Option<OffsetDateTime>,
    browsers: Vec<u64>,
    networks: Vec<u64>,
    open_until: Option<OffsetDateTime>,
}

impl Default for Breakers {
    fn default() -> Self {
        Self { breakers: Cache::new(KEPT), hasher: RandomState::new() }
    }
}

impl Breakers {
    /// The time until which nobody is sent to the vendor; none where the breaker is closed.
    pub fn open_until(&self, org: Uuid, vendor: &'static str, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let breaker = self.breakers.get(&(org, vendor))?;
        lock(&breaker).open_until.filter(|until| now < *until)
    }

    /// Counts a wrong answer that a browser of a network brought; of an unknown network it opens nothing.
    pub fn fail(
        &self,
        org: Uuid,
        vendor: &'static str,
        browser: &str,
        network: Option<IpAddr>,
        now: OffsetDateTime,
    ) {
        let new = || Ok::<_, Infallible>(Arc::default());
        let Ok(breaker) = self.breakers.get_or_insert_with(&(org, vendor), new);
        let mut breaker = lock(&breaker);
        if breaker.open_until.is_some_and(|until| now < until) {
            return;
        }
        let since = *breaker.since.get_or_insert(now);
        note(&mut breaker.browsers, self.hasher.hash_one(browser));
        if let Some(network) = network {
            note(&mut breaker.networks, self.hasher.hash_one(wide(network)));
        }
        let is_many = breaker.browsers.len() >= THRESHOLD && breaker.networks.len() >= THRESHOLD;
        if is_many && now - since >= MIN_SPAN {
            *breaker = Breaker { open_until: Some(now + PAUSE), ..Breaker::default() };
            counter!("datafly_sync_breaker_opened_total", "vendor" => vendor).increment(1);
            tracing::warn!(%org, vendor, "sync: the vendor keeps answering without an ID; left alone for an hour");
        }
    }

    /// Ends the count of wrong answers, and closes the breaker: an ID was stored.
    pub fn succeed(&self, org: Uuid, vendor: &'static str) {
        // Mostly there is none.
        if let Some((_, breaker)) = self.breakers.remove(&(org, vendor))
            && lock(&breaker).open_until.is_some()
        {
            tracing::info!(%org, vendor, "sync: the vendor has answered with an ID again");
        }
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a hash to a set that holds as many as decide.
fn note(seen: &mut Vec<u64>, hash: u64) {
    if seen.len() < THRESHOLD && !seen.contains(&hash) {
        seen.push(hash);
    }
}

/// The network that one customer of a provider may have: an IPv4 /24, or an IPv6 /48.
fn wide(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);
    const ORG: Uuid = Uuid::nil();

    type Fail<'a> = dyn Fn(&Breakers, u8) + 'a;

    #[expect(clippy::unnecessary_wraps, reason = "as a call has it")]
    fn address(net: u8, host: u8) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, net, host]))
    }

    /// Wrong answers of twenty browsers in twenty networks, over ten minutes.
    fn fail(breakers: &Breakers, from: OffsetDateTime) {
        for (number, minute) in (0..20_u8).zip(0..) {
            let at = from + Duration::seconds(minute * 32);
            breakers.fail(ORG, "x", &format!("browser-{number}"), address(number, 1), at);
        }
    }

    fn is_open(breakers: &Breakers, now: OffsetDateTime) -> bool {
        breakers.open_until(ORG, "x", now).is_some()
    }

    #[test]
    fn twenty_wrong_answers_in_a_row_open_it_for_an_hour() {
        let (breakers, minute) = (Breakers::default(), Duration::minutes(1));
        fail(&breakers, NOW);
        let opened = NOW + Duration::seconds(19 * 32);
        assert_eq!(breakers.open_until(ORG, "x", opened), Some(opened + PAUSE));
        assert!(breakers.open_until(ORG, "y", opened).is_none(), "vendors are apart");
        assert!(breakers.open_until(Uuid::max(), "x", opened).is_none(), "organisations are apart");
        assert!(is_open(&breakers, opened + PAUSE - minute) && !is_open(&breakers, opened + PAUSE));
        // By itself it is closed; as many open it anew.
        breakers.fail(ORG, "x", "browser-1", address(1, 1), opened + PAUSE);
        assert!(!is_open(&breakers, opened + PAUSE + minute));
        fail(&breakers, opened + PAUSE + minute);
        assert!(is_open(&breakers, opened + PAUSE + minute * 12));
        breakers.succeed(ORG, "x");
        assert!(!is_open(&breakers, opened + PAUSE + minute * 12), "an ID closes it");
    }

    #[test]
    fn an_id_in_between_ends_the_count() {
        let breakers = Breakers::default();
        for round in 0..5 {
            for number in 0..19_u8 {
                let at = NOW + Duration::minutes(20 * round + i64::from(number));
                breakers.fail(ORG, "x", &format!("browser-{number}"), address(number, 1), at);
            }
            breakers.succeed(ORG, "x");
        }
        assert!(!is_open(&breakers, NOW + Duration::hours(2)));
    }

    #[test]
    fn neither_one_browser_nor_one_network_nor_one_burst_opens_it() {
        let (minutes, number) = (Duration::minutes, |n: u8| format!("browser-{n}"));
        let cases: [&Fail<'_>; 5] = [
            &|all, n| all.fail(ORG, "x", "one", address(n, 1), NOW + minutes(n.into())),
            &|all, n| all.fail(ORG, "x", &number(n), address(1, n), NOW + minutes(n.into())),
            &|all, n| {
                let own = Ipv6Addr::new(0x2001, 0xdb8, 1, n.into(), 0, 0, 0, 1).into();
                all.fail(ORG, "x", &number(n), Some(own), NOW + minutes(n.into()));
            },
            &|all, n| all.fail(ORG, "x", &number(n), None, NOW + minutes(n.into())),
            &|all, n| all.fail(ORG, "x", &number(n), address(n, 1), NOW + Duration::seconds(n.into())),
        ];
        for (at, fail) in cases.into_iter().enumerate() {
            let breakers = Breakers::default();
            for n in 0..=200 {
                fail(&breakers, n);
            }
            assert!(!is_open(&breakers, NOW + minutes(200)), "case {at}");
        }
    }
}
