//! Refusals made here, of what the core would refuse anyway, so that a flood costs it nothing: keys that it
//! has just called over their rate, and addresses that try keys or fire syncs by the hundred. All of it is
//! memory of this process, and bounded.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
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
use serve::proxies::Subscriber;

use crate::{
    error::ApiError,
    memory::{Holder, Signs},
};

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
    addresses: Cache<(Subscriber, Counted), Arc<DefaultDirectRateLimiter>>,
}

/// Kind of request that is counted for an address. A kind is counted by itself: a flood of one must not stop
/// the others behind that address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// A request whose key the core has not let in lately, or whose signature nobody behind that address has got right
    /// since the last one that was wrong.
    UnknownKey,
    /// First hop of a sync.
    Sync,
    /// Return from a vendor.
    Callback,
}

/// Key with an origin and a host, or with a subscriber who signs, that the core lets in.
#[derive(Debug, Clone, Copy)]
struct AdmittedKey {
    /// Instant at which the core let the key in.
    since: Instant,
    /// Number of events from which on requests are refused, and until when.
    over_rate: Option<(usize, Instant)>,
}

/// Sender of a request: a key from a page of an origin at a host, or with a signature from a subscriber.
#[derive(Debug)]
pub struct Sender {
    key_hash: u64,
    signed: bool,
    subscriber: Option<Subscriber>,
    holder: Holder,
    admitted: Option<AdmittedKey>,
}

impl Sender {
    /// True where the core let the key in from that origin, at that host, within the last minute; of one who signs,
    /// where the last signature was right.
    pub fn is_known(&self) -> bool {
        self.admitted.is_some()
    }

    /// Whether the sender signs, as far as that is known before the body.
    pub fn signs(&self) -> Signs {
        match (self.signed, self.is_known()) {
            (false, _) => Signs::No,
            (true, false) => Signs::Perhaps,
            (true, true) => Signs::Well,
        }
    }

    /// Those for whom the sender's body takes memory.
    pub fn holder(&self) -> Holder {
        self.holder
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
    /// Sender that `caller` is, for a subscriber where one can be told. Origin and host of a signed call are nobody's
    /// word; its key is public, so that one subscriber's good signatures say nothing about another's.
    pub fn sender(&self, caller: &CollectCaller, subscriber: Option<Subscriber>) -> Sender {
        let signed = caller.signature.is_some();
        let key = &caller.pipeline_key;
        let key_hash = if signed {
            self.hasher.hash_one((key, subscriber))
        } else {
            self.hasher.hash_one((key, &caller.origin, &caller.host))
        };
        let holder = Holder {
            subscriber: subscriber.map(|subscriber| self.hasher.hash_one(subscriber)),
            key: self.hasher.hash_one(key),
        };
        Sender {
            key_hash,
            signed,
            subscriber,
            holder,
            admitted: self
                .admitted_keys
                .get(&key_hash)
                .filter(|admitted| admitted.since.elapsed() < ADMITTED_FOR),
        }
    }

    /// Counts a request of a sender whose key is not known, before anything of it is looked at, and refuses it where
    /// its address has brought too many.
    pub fn charge_unknown(&self, sender: &Sender) -> Result<(), ApiError> {
        if sender.is_known() { Ok(()) } else { self.charge(sender.subscriber, Counted::UnknownKey) }
    }

    /// Counts a request of a subscriber, and refuses it where there were too many; not one of whoever may be anyone.
    pub fn charge(&self, subscriber: Option<Subscriber>, what: Counted) -> Result<(), ApiError> {
        let Some(subscriber) = subscriber else { return Ok(()) };
        let quota = Quota::per_second(ADDRESS_RATE_PER_SECOND).allow_burst(ADDRESS_BURST_REQUESTS);
        let full = || Ok::<_, Infallible>(Arc::new(RateLimiter::direct(quota)));
        let Ok(left) = self.addresses.get_or_insert_with(&(subscriber, what), full);
        left.check().map_err(|until| refusal("address", until.wait_time_from(DefaultClock::default().now())))
    }

    /// Takes note of what the core made of a key whose body it has not seen. That says nothing about a signature.
    pub fn learn_key(&self, sender: &mut Sender, refused: Option<&ApiError>) {
        if !sender.signed {
            self.learn(sender, 1, refused);
        }
    }

    /// Takes note of what the core made of a request of `events`.
    pub fn learn(&self, sender: &mut Sender, events: usize, refused: Option<&ApiError>) {
        let admitted = match refused.map(ApiError::reason) {
            // Whoever goes on sending stays known, and is never asked about.
            None => match sender.admitted {
                Some(admitted) if admitted.since.elapsed() < ADMITTED_FOR / 2 => return,
                admitted => Some(AdmittedKey {
                    since: Instant::now(),
                    over_rate: admitted.and_then(|admitted| admitted.over_rate),
                }),
            },
            // For as long as the sender was told.
            Some(ErrorReason::RateLimited) => {
                let since = Instant::now();
                let until = since + Duration::from_secs(refused.map_or(0, ApiError::retry_after));
                Some(AdmittedKey { since, over_rate: Some((events, until)) })
            }
            // The source may have begun to require a signature. After a bad one the next is counted before it is read.
            Some(
                ErrorReason::InvalidPipelineKey
                | ErrorReason::OriginNotAllowed
                | ErrorReason::HostNotAllowed
                | ErrorReason::InvalidSignature
                | ErrorReason::SignatureExpired,
            ) => None,
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use serve::{TrustedProxies, proxies::Client};

    use super::*;

    fn caller(key: &str, origin: Option<&str>) -> CollectCaller {
        CollectCaller {
            pipeline_key: key.to_owned(),
            origin: origin.map(str::to_owned),
            ..CollectCaller::default()
        }
    }

    fn subscriber(address: impl Into<IpAddr>) -> Option<Subscriber> {
        TrustedProxies::default().subscriber(Client { address: address.into(), is_unreadable: false })
    }

    fn sender(throttle: &Throttle, caller: &CollectCaller) -> Sender {
        throttle.sender(caller, subscriber([192, 0, 2, 1]))
    }

    #[test]
    fn a_refused_key_is_refused_for_as_long_as_it_was_told() {
        let throttle = Throttle::default();
        let shop = caller("k", Some("https://shop.example"));
        let mut first = sender(&throttle, &shop);
        let refused = ApiError::after(ErrorReason::RateLimited, Duration::from_millis(30_500));
        throttle.learn(&mut first, 10, Some(&refused));
        let again = sender(&throttle, &shop);
        let refusal = again.admit(10).unwrap_err();
        assert_eq!((refusal.reason(), refusal.retry_after()), (ErrorReason::RateLimited, 31));
        // Fewer events may still fit; another key, another origin or another host was not judged.
        again.admit(9).unwrap();
        let elsewhere = CollectCaller { host: "x.example".to_owned(), ..shop.clone() };
        for other in
            [caller("l", Some("https://shop.example")), caller("k", Some("https://x.example")), elsewhere]
        {
            assert!(!sender(&throttle, &other).is_known());
            sender(&throttle, &other).admit(500).unwrap();
        }
    }

    #[test]
    fn only_what_the_core_let_in_is_known() {
        let throttle = Throttle::default();
        let shop = caller("k", None);
        let mut page = sender(&throttle, &shop);
        throttle.learn(&mut page, 1, Some(&ErrorReason::Unavailable.into()));
        assert!(!sender(&throttle, &shop).is_known());
        throttle.learn_key(&mut page, None);
        assert!(sender(&throttle, &shop).is_known());
        throttle.learn(&mut page, 1, Some(&ErrorReason::InvalidSignature.into()));
        assert!(!page.is_known() && !sender(&throttle, &shop).is_known(), "signatures are required now");
        throttle.learn(&mut page, 1, None);
        throttle.learn(&mut page, 1, Some(&ErrorReason::InvalidPipelineKey.into()));
        assert!(!sender(&throttle, &shop).is_known(), "revoked");
    }

    #[test]
    fn a_good_signature_vouches_for_its_own_address_until_a_bad_one() {
        let throttle = Throttle::default();
        let signed = CollectCaller { signature: Some("sha256=00".to_owned()), ..caller("k", None) };
        let mut page = sender(&throttle, &caller("k", None));
        throttle.learn(&mut page, 1, None);
        let mut server = sender(&throttle, &signed);
        throttle.learn_key(&mut server, None);
        assert_eq!(sender(&throttle, &signed).signs(), Signs::Perhaps, "no signature was looked at");
        throttle.learn(&mut server, 1, None);
        assert_eq!(sender(&throttle, &signed).signs(), Signs::Well);
        let elsewhere = throttle.sender(&signed, subscriber([192, 0, 2, 2]));
        assert_eq!(elsewhere.signs(), Signs::Perhaps, "the key is public");
        throttle.learn(&mut server, 1, Some(&ErrorReason::InvalidSignature.into()));
        assert_eq!(sender(&throttle, &signed).signs(), Signs::Perhaps);
        let refused =
            (0..1000).filter(|_| throttle.charge_unknown(&sender(&throttle, &signed)).is_err()).count();
        assert!((400..=500).contains(&refused), "{refused} of 1000");
    }

    #[test]
    fn addresses_are_counted_by_subscriber_and_bounded_in_number() {
        let throttle = Throttle::default();
        let v6 = |text: &str| subscriber(text.parse::<IpAddr>().unwrap());
        let charge = |text: &str| throttle.charge(v6(text), Counted::Sync);
        let refused = (0..1000).filter(|last| charge(&format!("2001:db8::{last:x}")).is_err()).count();
        assert!((400..=500).contains(&refused), "{refused} of 1000");
        charge("2001:db8:0:1::1").unwrap();
        charge("192.0.2.1").unwrap();
        throttle.charge(v6("2001:db8::1"), Counted::UnknownKey).unwrap();
        for number in 0..MAX_ADDRESSES + 1000 {
            let address = Ipv6Addr::from_bits((number as u128) << 64);
            throttle.charge(subscriber(address), Counted::Sync).unwrap();
        }
        assert!(throttle.addresses.len() <= MAX_ADDRESSES);
        for _ in 0..1000 {
            throttle.charge(None, Counted::Sync).unwrap();
        }
    }
}
