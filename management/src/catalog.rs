//! Vendors that there are, as the core says, kept for a moment: while the core is away for less than that,
//! settings can be changed all the same.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use proto::v1::{
    CollectedVendor, Destination, EnrichmentVendor, ListCollectedVendorsRequest, ListDestinationsRequest,
    ListEnrichmentVendorsRequest, ListProfileProvidersRequest, ListSyncVendorsRequest, ProfileProvider,
    SyncGuide, SyncVendor,
};
use serde::Deserialize;
use serve::origin::origin_of;
use tokio::sync::Mutex;

use crate::{
    api::error::{Code, Result},
    core_client::CoreClient,
};

/// Shortest time between two questions to the core, whether it answers or not.
const MIN_ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time that an answer is believed where the core does not answer any more.
const MAX_ANSWER_AGE: Duration = Duration::from_mins(1);

/// Vendors of all kinds, in the order of the core.
#[derive(Debug, Default)]
pub struct Vendors {
    /// Vendors of gateway sync.
    pub sync: Vec<SyncVendor>,
    /// Help on gateway sync that is not about one vendor.
    pub sync_guide: SyncGuide,
    /// Vendors of which click IDs and generated IDs are collected.
    pub collected: Vec<CollectedVendor>,
    /// Vendors of enrichment, which are asked.
    pub enrichment: Vec<EnrichmentVendor>,
    /// Providers of profiles.
    pub profiles: Vec<ProfileProvider>,
    /// Destinations of events.
    pub destinations: Vec<Destination>,
}

/// The vendors, asked of the core.
pub struct Catalog {
    core: CoreClient,
    cached: Mutex<CachedVendors>,
}

#[derive(Default)]
struct CachedVendors {
    /// The last answer, and when it came.
    answer: Option<(Instant, Arc<Vendors>)>,
    /// Time when the core was last asked, successfully or not.
    asked: Option<Instant>,
}

impl CachedVendors {
    fn believed(&self) -> Option<Arc<Vendors>> {
        let (came, vendors) = self.answer.as_ref()?;
        (came.elapsed() < MAX_ANSWER_AGE).then(|| vendors.clone())
    }
}

impl Catalog {
    /// Makes the catalogue of `core`, which is not asked before somebody wants to know.
    pub fn new(core: CoreClient) -> Self {
        Self { core, cached: Mutex::default() }
    }

    /// Gives the vendors as they are now, or were within the last minute. Refused as UNAVAILABLE where
    /// neither is known.
    pub async fn vendors(&self) -> Result<Arc<Vendors>> {
        // Whoever comes while the core is being asked waits for that answer instead of asking as well.
        let mut cached = self.cached.lock().await;
        if cached.asked.is_none_or(|asked| asked.elapsed() >= MIN_ASK_INTERVAL) {
            let answer = self.ask().await;
            cached.asked = Some(Instant::now());
            match answer {
                Ok(vendors) => cached.answer = Some((Instant::now(), Arc::new(vendors))),
                Err(error) if cached.believed().is_none() => return Err(error),
                // It was logged, and counted, where the call failed.
                Err(_) => {}
            }
        }
        Ok(cached.believed().ok_or(Code::Unavailable)?)
    }

    /// Origins at which the vendors of enrichment are called where settings name none; none while they are not known.
    pub async fn enrichment_origins(&self) -> HashMap<String, String> {
        let Ok(vendors) = self.vendors().await else { return HashMap::new() };
        let origin = |vendor: &EnrichmentVendor| {
            Some((vendor.name.clone(), origin_of(&vendor.default_config.as_ref()?.base_url)?))
        };
        vendors.enrichment.iter().filter_map(origin).collect()
    }

    async fn ask(&self) -> Result<Vendors> {
        let (sync, collected, enrichment, profiles, destinations) = tokio::try_join!(
            self.core.list_sync_vendors(ListSyncVendorsRequest {}),
            self.core.list_collected_vendors(ListCollectedVendorsRequest {}),
            self.core.list_enrichment_vendors(ListEnrichmentVendorsRequest {}),
            self.core.list_profile_providers(ListProfileProvidersRequest {}),
            self.core.list_destinations(ListDestinationsRequest {}),
        )?;
        Ok(Vendors {
            sync: sync.vendors,
            // A core of before has none.
            sync_guide: sync.guide.unwrap_or_default(),
            collected: collected.vendors,
            enrichment: enrichment.vendors,
            profiles: profiles.providers,
            destinations: destinations.destinations,
        })
    }
}

/// A vendor's name in a path, `[a-z0-9_]{1,64}` as all of them have it. Another name is no vendor's, and so
/// is not found.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct VendorName(pub String);

impl TryFrom<String> for VendorName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if proto::is_vendor_name(&text) { Ok(Self(text)) } else { Err("not a vendor's name") }
    }
}
