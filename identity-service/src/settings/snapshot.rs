//! The snapshot: sources with all that belongs to them, and the ways to find them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use secrecy::SecretSlice;
use serve::origin::Origin;
use time::OffsetDateTime;
use uuid::Uuid;

use super::last_use::LastUse;
use crate::{
    consent::ConsentMode,
    limits::{org_calls::OrgCalls, rate::Rate},
    vendors::{ClickId, GeneratedId, SyncVendor},
};

/// Which of an organisation's two worlds a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// `dk_live_`.
    Live,
    /// `dk_test_`.
    Test,
}

/// A host of the customer's that points at the edge.
#[derive(Debug, Clone)]
pub struct CollectHost {
    /// Scheme and authority, without a trailing slash.
    pub url: String,
    /// `host[:port]`, lower-case, as a Host header has it.
    pub authority: String,
    /// Plain http, on loopback.
    pub is_http: bool,
    /// Domain attribute of `_dfid`.
    pub cookie_domain: Option<String>,
}

/// A vendor that is enabled on a pipeline.
#[derive(Debug, Clone)]
pub struct EnabledVendor {
    /// Its record.
    pub vendor: &'static SyncVendor,
    /// The customer's public tag or pixel ID.
    pub partner_id: String,
    /// How long its ID is kept.
    pub ttl_days: i32,
    /// Where the browser is sent: the record's endpoint or the administrator's.
    pub endpoint: String,
}

/// A source with its pipeline, hosts and secrets.
#[derive(Debug)]
pub struct Source {
    /// Its ID.
    pub id: Uuid,
    /// The organisation that configured it.
    pub org: Uuid,
    /// The sibling that holds the data of its test keys.
    pub test_org: Option<Uuid>,
    /// Calls without a signature are refused: nothing but the customer's servers may send.
    pub require_signature: bool,
    /// Origins that may call. Empty refuses all.
    pub origins: Vec<Origin>,
    /// Oldest first.
    pub collect_hosts: Vec<CollectHost>,
    /// Server secrets with the end of their overlap.
    pub secrets: Vec<(SecretSlice<u8>, Option<OffsetDateTime>)>,
    /// ID of its pipeline.
    pub pipeline: Uuid,
    /// What the absence of consent signals means.
    pub consent_mode: ConsentMode,
    /// IDs that its pipeline collected are removed when consent is withdrawn.
    pub purge_on_withdrawal: bool,
    /// Vendors enabled on its pipeline.
    pub vendors: Vec<EnabledVendor>,
    /// Click IDs that its pipeline collects.
    pub click_ids: Vec<&'static ClickId>,
    /// IDs that its pipeline has made.
    pub generated_ids: Vec<&'static GeneratedId>,
}

impl Source {
    /// The vendor of that name, if it is enabled here.
    pub fn vendor(&self, name: &str) -> Option<&EnabledVendor> {
        self.vendors.iter().find(|enabled| enabled.vendor.name == name)
    }

    /// The collect host that a Host header names, else the first.
    pub fn collect_host(&self, host: &str) -> Option<&CollectHost> {
        self.collect_hosts
            .iter()
            .find(|own| own.authority.eq_ignore_ascii_case(host))
            .or_else(|| self.collect_hosts.first())
    }

    /// The organisation whose data a key of that environment reaches; none for a test key of an organisation
    /// without a sibling.
    pub fn data_org(&self, environment: Environment) -> Option<Uuid> {
        match environment {
            Environment::Live => Some(self.org),
            Environment::Test => self.test_org,
        }
    }
}

/// A key that is not revoked.
#[derive(Debug, Clone)]
pub struct PipelineKey {
    /// Its ID.
    pub id: Uuid,
    /// What it opens.
    pub source: Arc<Source>,
    /// Which world.
    pub environment: Environment,
    /// Handed on from snapshot to snapshot while the rate is the same.
    pub rate: Arc<Rate>,
    /// Handed on from snapshot to snapshot.
    pub last_use: Arc<LastUse>,
    /// The organisation's.
    pub calls: OrgCalls,
}

/// Everything of one organisation.
#[derive(Debug, Default)]
pub struct Org {
    /// Its sources.
    pub sources: Vec<Arc<Source>>,
    /// Hashes of its keys.
    pub keys: Vec<([u8; 32], PipelineKey)>,
    /// Handed on from snapshot to snapshot.
    pub calls: OrgCalls,
}

/// All organisations at one version of the settings.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// `config_version` that it was read at.
    pub version: i64,
    orgs: HashMap<Uuid, Arc<Org>>,
    existing: HashSet<Uuid>,
    keys: HashMap<[u8; 32], PipelineKey>,
    sources: HashMap<Uuid, Arc<Source>>,
    pipelines: HashMap<Uuid, Arc<Source>>,
    hosts: HashMap<String, Vec<Arc<Source>>>,
    /// By the organisation that has the data: a source collects for two, its own and the sibling.
    purging: HashMap<Uuid, Vec<Arc<Source>>>,
}

impl Snapshot {
    /// This snapshot with `changed` organisations replaced, and those not in `existing` gone.
    pub fn next(&self, version: i64, changed: HashMap<Uuid, Org>, existing: &[Uuid]) -> Self {
        let mut orgs: HashMap<Uuid, Arc<Org>> =
            existing.iter().filter_map(|id| self.orgs.get(id).map(|org| (*id, org.clone()))).collect();
        orgs.extend(changed.into_iter().map(|(id, org)| (id, Arc::new(org))));

        let mut next = Self { version, ..Self::default() };
        for org in orgs.values() {
            next.keys.extend(org.keys.iter().map(|(hash, key)| (*hash, key.clone())));
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

    /// Whether there is such an organisation, or sibling for test data.
    pub fn has_org(&self, id: Uuid) -> bool {
        self.existing.contains(&id)
    }

    /// The places of an organisation; new ones where it is new.
    pub fn calls(&self, org: Uuid) -> OrgCalls {
        self.orgs.get(&org).map(|org| org.calls.clone()).unwrap_or_default()
    }

    /// The key of that hash.
    pub fn key(&self, hash: &[u8; 32]) -> Option<&PipelineKey> {
        self.keys.get(hash)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &PipelineKey> {
        self.keys.values()
    }

    /// The source of that ID.
    pub fn source(&self, id: Uuid) -> Option<&Arc<Source>> {
        self.sources.get(&id)
    }

    /// The source of that pipeline.
    pub fn pipeline(&self, id: Uuid) -> Option<&Arc<Source>> {
        self.pipelines.get(&id)
    }

    /// Sources that collect for that organisation, or sibling, and remove what they collected when consent is withdrawn.
    pub fn purging(&self, org: Uuid) -> &[Arc<Source>] {
        self.purging.get(&org).map_or(&[], Vec::as_slice)
    }

    /// Sources that collect on that host.
    pub fn on_host(&self, host: &str) -> &[Arc<Source>] {
        self.hosts.get(&host.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}
