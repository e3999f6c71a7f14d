//! The snapshot: sources with all that belongs to them, and the ways to find them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use migrations::rows::hash_pipeline_key;
use secrecy::SecretSlice;
use serve::{Authority, origin::Origin};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{last_use::LastUse, providers::StoredProvider, refused_host::RefusedHost};
use crate::{
    consent::ConsentRule,
    limits::{org_calls::OrgCalls, rate::Rate},
    vendors::{ClickId, GeneratedId, SyncVendor},
};

/// The environment that a key is for; each has data of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Real visitors, with keys that begin with `dk_live_`.
    Live,
    /// Tests, with keys that begin with `dk_test_`.
    Test,
}

/// A host of the customer's that points at the edge.
#[derive(Debug, Clone)]
pub struct CollectHost {
    /// Scheme and authority, without a trailing slash.
    pub url: String,
    /// The host as requests are looked up by it.
    pub authority: Authority,
    /// True for plain http, on loopback.
    pub is_http: bool,
    /// Domain attribute of the cookie `_dfid`.
    pub cookie_domain: Option<String>,
}

/// A vendor that is enabled on a pipeline.
#[derive(Debug, Clone)]
pub struct EnabledVendor {
    /// Record of the vendor, with what is known of all its customers' syncs.
    pub vendor: &'static SyncVendor,
    /// The customer's public tag or pixel ID.
    pub partner_id: String,
    /// Days for which the vendor's ID is kept.
    pub ttl_days: i32,
    /// URL that the browser is sent to: the record's endpoint or the administrator's.
    pub endpoint: String,
    /// True where browsers are kept out whose engine can't do redirects through third parties.
    pub supported_browsers_only: bool,
}

/// A source with its pipeline, hosts and secrets.
#[derive(Debug)]
pub struct Source {
    /// ID of the key.
    pub id: Uuid,
    /// The organisation that configured it.
    pub org: Uuid,
    /// The sibling organisation that holds the data of its test keys.
    pub test_org: Option<Uuid>,
    /// True where calls without a signature are refused: nothing but the customer's servers may send.
    pub require_signature: bool,
    /// True where signed calls that do not say when they were signed are refused.
    pub require_timestamp: bool,
    /// Words of its own that are no identifiers, trimmed and in lower case.
    pub placeholders: Vec<String>,
    /// Origins that may call; an empty list refuses all.
    pub origins: Vec<Origin>,
    /// Collect hosts, the oldest first.
    pub collect_hosts: Vec<Arc<CollectHost>>,
    /// Server secrets, with the end of their overlap where they were replaced.
    pub secrets: Vec<(SecretSlice<u8>, Option<OffsetDateTime>)>,
    /// ID of its pipeline.
    pub pipeline: Uuid,
    /// The rule by which its pipeline reads consent signals.
    pub consent: Arc<ConsentRule>,
    /// True where IDs that its pipeline collected are removed when consent is withdrawn.
    pub purge_on_withdrawal: bool,
    /// Vendors enabled on its pipeline.
    pub vendors: Vec<EnabledVendor>,
    /// Click IDs that its pipeline collects.
    pub click_ids: Vec<&'static ClickId>,
    /// Generated IDs that are made for browsers of its pipeline.
    pub generated_ids: Vec<&'static GeneratedId>,
    /// Providers of enrichment that are enabled on it.
    pub providers: Vec<Arc<StoredProvider>>,
    /// Providers of profiles that are enabled on it, and can be asked.
    pub profile_providers: Vec<Arc<StoredProvider>>,
    /// True where a destination takes its events, so that they are kept until it has had them.
    pub keeps_events: bool,
    /// True where a browser is told what belongs to whom it only claims to be (`browser_identity`).
    pub tells_claimed: bool,
    /// The last host by which its keys were refused; handed on from snapshot to snapshot.
    pub refused_host: Arc<RefusedHost>,
}

impl Source {
    /// Finds the vendor of that name, if it is enabled here.
    pub fn vendor(&self, name: &str) -> Option<&EnabledVendor> {
        self.vendors.iter().find(|enabled| enabled.vendor.name == name)
    }

    /// Finds the provider of enrichment of that name, if it is enabled here.
    pub fn provider(&self, name: &str) -> Option<&Arc<StoredProvider>> {
        self.providers.iter().find(|provider| provider.name == name)
    }

    /// Finds the provider of profiles of that name, if it is enabled here.
    pub fn profile_provider(&self, name: &str) -> Option<&Arc<StoredProvider>> {
        self.profile_providers.iter().find(|provider| provider.name == name)
    }

    /// Finds the collect host that a request was sent to, if it is one of the source's.
    pub fn collect_host(&self, host: &Authority) -> Option<&Arc<CollectHost>> {
        self.collect_hosts.iter().find(|own| own.authority == *host)
    }

    /// True where a Referer header is of a page of the source's, or of the collect host itself.
    pub fn is_own_page(&self, host: &CollectHost, referer: &str) -> bool {
        self.origins.iter().any(|origin| origin.has_page(referer))
            || Origin::from_domain(&host.url).is_some_and(|own| own.has_page(referer))
    }

    /// Returns the organisation whose data a key of that environment reaches; none for a test key of an
    /// organisation without a sibling.
    pub fn data_org(&self, environment: Environment) -> Option<Uuid> {
        match environment {
            Environment::Live => Some(self.org),
            Environment::Test => self.test_org,
        }
    }
}

/// A pipeline key that is not revoked.
#[derive(Debug, Clone)]
pub struct PipelineKey {
    /// ID of the key.
    pub id: Uuid,
    /// The source that it opens.
    pub source: Arc<Source>,
    /// The environment, live or test, that it is for.
    pub environment: Environment,
    /// Rate of the key; handed on from snapshot to snapshot while the setting is the same.
    pub rate: Arc<Rate>,
    /// Last use of the key; handed on from snapshot to snapshot.
    pub last_use: Arc<LastUse>,
    /// The limit on calls of its organisation.
    pub calls: OrgCalls,
}

/// A pipeline key as it is stored.
#[derive(Debug, Clone)]
pub enum StoredKey {
    /// The key itself.
    Plain(Arc<str>),
    /// SHA-256 of a key that was issued when keys were stored so.
    Hashed([u8; 32]),
}

/// Settings of one organisation.
#[derive(Debug, Default)]
pub struct Org {
    /// Sources of the organisation.
    pub sources: Vec<Arc<Source>>,
    /// Keys of the organisation.
    pub keys: Vec<(StoredKey, PipelineKey)>,
    /// Handed on from snapshot to snapshot.
    pub calls: OrgCalls,
}

/// Settings of all organisations at one version.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The `config_version` that it was read at.
    pub version: i64,
    orgs: HashMap<Uuid, Arc<Org>>,
    existing: HashSet<Uuid>,
    keys: HashMap<Arc<str>, PipelineKey>,
    hashed_keys: HashMap<[u8; 32], PipelineKey>,
    keys_by_id: HashMap<Uuid, PipelineKey>,
    sources: HashMap<Uuid, Arc<Source>>,
    pipelines: HashMap<Uuid, Arc<Source>>,
    hosts: HashMap<Authority, Vec<Arc<Source>>>,
    /// Origins of the sources of an organisation, for it and for its sibling.
    origins: HashMap<Uuid, Arc<[Origin]>>,
    /// Sources that remove IDs when consent is withdrawn, by the organisation that has the data: a source
    /// collects for two, its own and the sibling.
    purging: HashMap<Uuid, Vec<Arc<Source>>>,
}

impl Snapshot {
    /// Makes the next snapshot: `changed` organisations are replaced, and those not in `existing` gone.
    pub fn next(&self, version: i64, changed: HashMap<Uuid, Org>, existing: &[Uuid]) -> Self {
        let mut orgs: HashMap<Uuid, Arc<Org>> =
            existing.iter().filter_map(|id| self.orgs.get(id).map(|org| (*id, org.clone()))).collect();
        orgs.extend(changed.into_iter().map(|(id, org)| (id, Arc::new(org))));

        let mut next = Self { version, ..Self::default() };
        for org in orgs.values() {
            let origins: Arc<[Origin]> =
                org.sources.iter().flat_map(|source| source.origins.iter().cloned()).collect();
            let served = org.sources.iter().flat_map(|source| [Some(source.org), source.test_org]);
            next.origins.extend(served.flatten().map(|id| (id, origins.clone())));
            for (stored, key) in &org.keys {
                next.keys_by_id.insert(key.id, key.clone());
                match stored {
                    StoredKey::Plain(text) => next.keys.insert(text.clone(), key.clone()),
                    StoredKey::Hashed(hash) => next.hashed_keys.insert(*hash, key.clone()),
                };
            }
            for source in &org.sources {
                next.sources.insert(source.id, source.clone());
                next.pipelines.insert(source.pipeline, source.clone());
                let collects_for = [Some(source.org), source.test_org];
                for org in collects_for.into_iter().flatten().filter(|_| source.purge_on_withdrawal) {
                    next.purging.entry(org).or_default().push(source.clone());
                }
                for host in &source.collect_hosts {
                    next.hosts.entry(host.authority.clone()).or_default().push(source.clone());
                }
            }
        }
        next.orgs = orgs;
        next.existing = existing.iter().copied().collect();
        next
    }

    /// True where there is such an organisation, or sibling for test data.
    pub fn has_org(&self, id: Uuid) -> bool {
        self.existing.contains(&id)
    }

    /// Returns the limit on calls of an organisation; a new one where the organisation is new.
    pub fn calls(&self, org: Uuid) -> OrgCalls {
        self.orgs.get(&org).map(|org| org.calls.clone()).unwrap_or_default()
    }

    /// Finds a key by its text. It is hashed only where it is none of those that are stored as they are, and there are
    /// others.
    pub fn key(&self, text: &str) -> Option<&PipelineKey> {
        let hashed =
            || Some(&self.hashed_keys).filter(|hashed| !hashed.is_empty())?.get(&hash_pipeline_key(text));
        self.keys.get(text).or_else(hashed)
    }

    /// Finds the key of that ID.
    pub fn key_of_id(&self, id: Uuid) -> Option<&PipelineKey> {
        self.keys_by_id.get(&id)
    }

    /// Lists the keys of all organisations.
    pub fn keys(&self) -> impl Iterator<Item = &PipelineKey> {
        self.keys_by_id.values()
    }

    /// The names of the vendors whose sync is enabled on any pipeline.
    pub fn enabled_vendors(&self) -> BTreeSet<&'static str> {
        self.sources().flat_map(|source| &source.vendors).map(|enabled| enabled.vendor.name).collect()
    }

    /// Lists the sources of all organisations.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values().map(AsRef::as_ref)
    }

    /// Finds the source of that ID.
    pub fn source(&self, id: Uuid) -> Option<&Arc<Source>> {
        self.sources.get(&id)
    }

    /// Finds the source of that ID, where `org` configured it or has the data of its test keys.
    pub fn source_of(&self, org: Uuid, id: Uuid) -> Option<&Arc<Source>> {
        self.source(id).filter(|source| org == source.org || Some(org) == source.test_org)
    }

    /// Finds the source of that pipeline.
    pub fn pipeline(&self, id: Uuid) -> Option<&Arc<Source>> {
        self.pipelines.get(&id)
    }

    /// Lists sources that collect for that organisation, or sibling, and remove what they collected when
    /// consent is withdrawn.
    pub fn purging(&self, org: Uuid) -> &[Arc<Source>] {
        self.purging.get(&org).map_or(&[], Vec::as_slice)
    }

    /// Lists the origins of all pages of that organisation's, or sibling's.
    pub fn own_origins(&self, org: Uuid) -> Arc<[Origin]> {
        self.origins.get(&org).cloned().unwrap_or_default()
    }

    /// Lists sources that collect on that host.
    pub fn on_host(&self, host: &Authority) -> &[Arc<Source>] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }
}
