//! Refusals made here, of what the core would refuse anyway, so that a flood costs it nothing: keys that it
//! has just called over their rate, and addresses that try keys or fire syncs by the hundred. All of it is
//! memory of this process, and bounded.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use proto::v1::{CollectCaller, ErrorReason};
use quick_cache::sync::Cache;

use crate::error::ApiError;

/// Most keys with their origins and hosts that are remembered; about 100 bytes each.
const MAX_KEYS: usize = 20_000;
/// Time for which the core's word on a key counts, as far as it allows anything.
const ADMITTED_FOR: Duration = Duration::from_mins(1);
/// Most addresses that are counted; about 300 bytes each.
const MAX_ADDRESSES: usize = 50_000;
/// Requests a second of one address, of each kind of [`Counted`]. Behind it may be a whole office, or the
/// hundred households that share a carrier's IPv4 address: that many pages may open at the same moment, each
/// firing the five syncs of an answer, and another twenty each second. One machine that fires a thousand a
/// second is soon refused nine of ten.
const ADDRESS_RATE_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Requests that an address may have counted at once after a pause.
const ADDRESS_BURST_REQUESTS: NonZeroU32 = NonZeroU32::new(500).unwrap();

/// Memory of this process on keys and addresses.
pub struct Throttle {
    /// Keys with their origins and hosts that the core let in, by hash.
    admitted_keys: Cache<u64, AdmittedKey>,
    hasher: RandomState,
    addresses: Cache<(IpAddr, Counted), Arc<DefaultDirectRateLimiter>>,
}

/// Kind of request that is counted for an address. A kind is counted by itself: a flood of one must not stop
/// the others behind that address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A request whose key the core has not let in lately.
    UnknownKey,
    /// First hop of a sync.
    Sync,
}

/// Key with an origin and a host that the core lets in.
#[derive(Debug, Clone, Copy)]
struct AdmittedKey {
    /// Instant at which the core let the key in.
    since: Instant,
    /// Number of events from which on requests are refused, and until when.
    over_rate: Option<(usize, Instant)>,
}

/// Sender of a request: a key from a page of an origin at a host, or with a signature.
#[derive(Debug)]
pub struct Sender {
    key_hash: u64,
    signed: bool,
    admitted: Option<AdmittedKey>,
}

impl Sender {
    /// True where the core let the key in from that origin, at that host, within the last minute.
    pub fn is_known(&self) -> bool {
        self.admitted.is_some()
    }

    /// Refuses a request of `events` where the core said not long ago that so many are too many.
    pub fn admit(&self, events: usize) -> Result<(), ApiError> {
        let Some((least, until)) = self.admitted.and_then(|admitted| admitted.over_rate) else {
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        if events < least || left.is_zero() { Ok(()) } else { Err(refusal("key", left)) }
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            admitted_keys: Cache::new(MAX_KEYS),
            hasher: RandomState::new(),
            addresses: Cache::new(MAX_ADDRESSES),
        }
    }
}

impl Throttle {
    /// Sender that `caller` is. Origin and host of a signed call are nobody's word.
    pub fn sender(&self, caller: &CollectCaller) -> Sender {
        let signed = caller.signature.is_some();
        let page = (!signed).then_some((&caller.origin, &caller.host));
        let key_hash = self.hasher.hash_one((&caller.pipeline_key, page));
        Sender {
            key_hash,
            signed,
            admitted: self
                .admitted_keys
                .get(&key_hash)
                .filter(|admitted| admitted.since.elapsed() < ADMITTED_FOR),
        }
    }

    /// Counts a request of an address, and refuses it where there were too many.
    pub fn charge(&self, address: IpAddr, what: Counted) -> Result<(), ApiError> {
        let quota = Quota::per_second(ADDRESS_RATE_PER_SECOND).allow_burst(ADDRESS_BURST_REQUESTS);
        let full = || Ok::<_, Infallible>(Arc::new(RateLimiter::direct(quota)));
        let Ok(left) = self.addresses.get_or_insert_with(&(subscriber(address), what), full);
        left.check().map_err(|until| refusal("address", until.wait_time_from(DefaultClock::default().now())))
    }

    /// Takes note of what the core made of a request of `events`.
    pub fn learn(&self, sender: &mut Sender, events: usize, refused: Option<&ApiError>) {
        let admitted = match refused.map(ApiError::reason) {
            None if sender.is_known() => return,
            None => Some(AdmittedKey { since: Instant::now(), over_rate: None }),
            // For as long as the sender was told.
            Some(ErrorReason::RateLimited) => {
                let since = Instant::now();
                let until = since + Duration::from_secs(refused.map_or(0, ApiError::retry_after));
                Some(AdmittedKey { since, over_rate: Some((events, until)) })
            }
            Some(
                ErrorReason::InvalidPipelineKey | ErrorReason::OriginNotAllowed | ErrorReason::HostNotAllowed,
            ) => None,
            // The source has begun to require one. A bad one says nothing about whoever else signs.
            Some(ErrorReason::InvalidSignature) if !sender.signed => None,
            Some(_) => return,
        };
        match admitted {
            Some(admitted) => self.admitted_keys.insert(sender.key_hash, admitted),
            None if sender.is_known() => _ = self.admitted_keys.remove(&sender.key_hash),
            None => {}
        }
        sender.admitted = admitted;
    }
}

fn refusal(by: &'static str, delay: Duration) -> ApiError {
    metrics::counter!("datafly_throttled_total", "by" => by).increment(1);
    ApiError::after(ErrorReason::RateLimited, delay)
}

/// Address that stands for one subscriber: an IPv4 address, or an IPv6 /64, within which anybody can pick
/// addresses at will.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(key: &str, origin: Option<&str>) -> CollectCaller {
        CollectCaller {
            pipeline_key: key.to_owned(),
            origin: origin.map(str::to_owned),
            ..CollectCaller::default()
        }
    }

    #[test]
    fn a_refused_key_is_refused_for_as_long_as_it_was_told() {
        let throttle = Throttle::default();
        let shop = caller("k", Some("https://shop.example"));
        let mut sender = throttle.sender(&shop);
        let refused = ApiError::after(ErrorReason::RateLimited, Duration::from_millis(30_500));
        throttle.learn(&mut sender, 10, Some(&refused));
        let again = throttle.sender(&shop);
        let refusal = again.admit(10).unwrap_err();
        assert_eq!((refusal.reason(), refusal.retry_after()), (ErrorReason::RateLimited, 31));
        // Fewer events may still fit; another key, another origin or another host was not judged.
        again.admit(9).unwrap();
        let elsewhere = CollectCaller { host: "x.example".to_owned(), ..shop.clone() };
        for other in
            [caller("l", Some("https://shop.example")), caller("k", Some("https://x.example")), elsewhere]
        {
            assert!(!throttle.sender(&other).is_known());
            throttle.sender(&other).admit(500).unwrap();
        }
    }

    #[test]
    fn only_what_the_core_let_in_is_known() {
        let throttle = Throttle::default();
        let shop = caller("k", None);
        let mut sender = throttle.sender(&shop);
        throttle.learn(&mut sender, 1, Some(&ErrorReason::Unavailable.into()));
        assert!(!throttle.sender(&shop).is_known());
        throttle.learn(&mut sender, 1, None);
        assert!(throttle.sender(&shop).is_known());
        let signed = CollectCaller { signature: Some("sha256=00".to_owned()), ..shop.clone() };
        assert!(!throttle.sender(&signed).is_known(), "a signature was not looked at");
        let mut server = throttle.sender(&signed);
        throttle.learn(&mut server, 1, None);
        throttle.learn(&mut server, 1, Some(&ErrorReason::InvalidSignature.into()));
        assert!(throttle.sender(&signed).is_known(), "anyone may have signed badly");
        let mut page = throttle.sender(&shop);
        throttle.learn(&mut page, 1, Some(&ErrorReason::InvalidSignature.into()));
        assert!(!page.is_known() && !throttle.sender(&shop).is_known(), "signatures are required now");
        throttle.learn(&mut sender, 1, None);
        throttle.learn(&mut sender, 1, Some(&ErrorReason::InvalidPipelineKey.into()));
        assert!(!throttle.sender(&shop).is_known(), "revoked");
    }

    #[test]
    fn addresses_are_counted_by_subscriber_and_bounded_in_number() {
        let throttle = Throttle::default();
        let charge = |address: &str| throttle.charge(address.parse().unwrap(), Counted::Sync);
        let refused = (0..1000).filter(|last| charge(&format!("2001:db8::{last:x}")).is_err()).count();
        assert!((400..=500).contains(&refused), "{refused} of 1000");
        charge("2001:db8:0:1::1").unwrap();
        charge("192.0.2.1").unwrap();
        throttle.charge("2001:db8::1".parse().unwrap(), Counted::UnknownKey).unwrap();
        for number in 0..MAX_ADDRESSES + 1000 {
            throttle.charge(Ipv6Addr::from_bits((number as u128) << 64).into(), Counted::Sync).unwrap();
        }
        assert!(throttle.addresses.len() <= MAX_ADDRESSES);
    }
}
