//! Syncs of visitors who have no identity yet, by address: a page of nothing but images makes none, so nothing else would
//! keep it from sending a browser to the same vendor with each of them.

use std::net::IpAddr;

use quick_cache::sync::Cache;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Time after which an address may be sent to a vendor again.
const PERIOD: Duration = Duration::minutes(10);
/// Number of tries that are kept, of some 60 bytes each.
const KEPT: usize = 100_000;

/// The last tries of addresses, in this process.
pub struct StrangerSyncs(Cache<(Uuid, IpAddr, &'static str), OffsetDateTime>);

impl Default for StrangerSyncs {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl StrangerSyncs {
    /// Takes the try of an address with an organisation's vendor; false where it has had one in the last 10 minutes.
    pub fn take(&self, org: Uuid, network: IpAddr, vendor: &'static str, now: OffsetDateTime) -> bool {
        let key = (org, network, vendor);
        let is_free = self.0.get(&key).is_none_or(|last| now - last >= PERIOD);
        if is_free {
            self.0.insert(key, now);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    #[test]
    fn an_address_has_one_try_a_vendor_in_ten_minutes() {
        let (syncs, org, other) = (StrangerSyncs::default(), Uuid::nil(), Uuid::max());
        let [one, two] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)));
        assert!(syncs.take(org, one, "pinterest", NOW));
        assert!(!syncs.take(org, one, "pinterest", NOW + PERIOD - Duration::SECOND));
        assert!(syncs.take(org, one, "criteo", NOW) && syncs.take(org, two, "pinterest", NOW));
        assert!(syncs.take(other, one, "pinterest", NOW), "organisations are apart");
        assert!(syncs.take(org, one, "pinterest", NOW + PERIOD));
    }
}
