//! Reading profiles of many visitors: from Redis in one round trip, and from the provider what is not there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    context::Contexts,
    counters,
    entry::{self, Entry},
    finding::{Finder, Search},
    in_context,
    plan::Provided,
    visitor::Visitor,
};
use crate::{
    clock,
    consent::{ConsentRule, Decision},
    error::Result,
    identifiers::{Identifier, Kind},
    providers::{Tools, allowlist, asking::Flights, single_flight::SingleFlight},
    settings::Source,
    storage::{
        Stores,
        cache_entries::{self, ConsentEntry},
        canonical_hints::CanonicalHints,
        consents, lookup,
    },
    vendors::ConsentNeed,
};

/// Time for which profiles are waited for. What comes later is there for the next who asks.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Visitors of one request whose profiles are found out at once.
pub const AT_ONCE: usize = 16;
/// Visitors of one request whose profiles are read anew at once, after the answer.
const REFRESHES: usize = 4;

/// Reader of profiles.
pub struct Profiles {
    pub(super) finder: Finder,
    pub(super) stores: Stores,
    pub(super) flights: SingleFlight<Arc<Entry>>,
    hints: CanonicalHints,
    pub(super) contexts: Contexts,
}

/// Who asks, and on whose behalf.
pub struct Asking {
    /// The organisation whose visitors they are.
    pub org: Uuid,
    /// The source that has the provider.
    pub source: Arc<Source>,
    /// True where whoever delivers events asks: all attributes are told, whatever they were found by.
    pub is_server: bool,
    /// Time at which the call came.
    pub began: Instant,
    /// The same by the clock.
    pub now: OffsetDateTime,
}

/// What is told of a visitor.
#[derive(Debug, Default)]
pub struct Profile {
    /// ID of the profile at the provider, which a browser is not told.
    pub id: String,
    /// The attributes.
    pub attributes: Map<String, Value>,
    /// The attributes as they are in the context of the event.
    pub personalized: Map<String, Value>,
    /// Reason for which there is no profile; empty where there is one.
    pub reason: &'static str,
}

/// A visitor who is known.
pub struct Known {
    /// The canonical identity.
    pub canonical: Uuid,
    /// The identifier for which it is asked.
    pub owner: Identifier,
    /// The visitor.
    pub visitor: Arc<Visitor>,
}

/// The fields of the identities' profiles.
pub type Fields = HashMap<Uuid, HashMap<String, String>>;

impl Profiles {
    /// Makes the reader.
    pub fn new(stores: &Stores, tools: &Tools) -> Self {
        let finder = Finder {
            tools: tools.clone(),
            stores: stores.clone(),
            asks: Flights::default(),
            finds: Arc::default(),
        };
        Self {
            finder,
            stores: stores.clone(),
            flights: SingleFlight::default(),
            hints: CanonicalHints::default(),
            contexts: Contexts::default(),
        }
    }

    /// Tells the profile of each visitor, in their order, within two seconds.
    pub async fn read(
        &self,
        asking: &Asking,
        provided: &Provided,
        visitors: Vec<Visitor>,
    ) -> Result<Vec<Profile>> {
        let (known, fields) = self.known(asking.org, visitors).await?;
        let denied = self.denied(asking, provided.need(), &known).await?;
        let asked: Vec<Option<&Known>> = known
            .iter()
            .zip(denied)
            .map(|(known, is_denied)| known.as_ref().filter(|_| !is_denied))
            .collect();
        let entries = self.entries(asking, provided, &asked, &fields).await;
        let personalized = match provided {
            Provided::Linked(plan) if asking.is_server => {
                self.personalize(asking, plan, &asked, &entries, &fields).await
            }
            Provided::Linked(plan) => {
                let newest = asked.iter().map(|known| in_context::newest(asking, plan, (*known)?, &fields));
                newest.collect()
            }
            Provided::Kept(_) => vec![None; asked.len()],
        };
        let told = known.iter().zip(&asked).zip(entries).zip(personalized);
        let told = told.map(|(((known, asked), entry), personalized)| {
            let reason = match (known, asked) {
                (None, _) => "unknown",
                (Some(_), None) => "consent",
                (Some(_), Some(_)) => "timeout",
            };
            let Some(entry) = entry else { return Profile { reason, ..Profile::default() } };
            let personalized = personalized.map(|entry| entry.attributes.clone()).unwrap_or_default();
            let reason = entry.reason();
            if asking.is_server {
                let (id, attributes) = (entry.id.clone(), entry.attributes.clone());
                return Profile { id, attributes, personalized, reason };
            }
            let seen = |attributes| allowlist::keep(provided.settings(), attributes);
            Profile {
                id: String::new(),
                attributes: seen(&entry.attributes),
                personalized: seen(&personalized),
                reason,
            }
        });
        let told: Vec<Profile> = told.collect();
        for profile in &told {
            let outcome = if profile.reason.is_empty() { "found" } else { profile.reason };
            counters::told(provided.label(), outcome);
        }
        Ok(told)
    }

    /// Who the visitors are, and what Redis has of their profiles: in one round trip where they are who they were.
    async fn known(&self, org: Uuid, visitors: Vec<Visitor>) -> Result<(Vec<Option<Known>>, Fields)> {
        let owners: Vec<Identifier> = visitors.iter().filter_map(|one| one.owner().cloned()).collect();
        // Events name a browser, nearly all of them.
        let browsers = owners.iter().filter(|id| id.kind == Kind::AnonymousId);
        let hinted = browsers.filter_map(|id| self.hints.get(org, &id.value));
        let hinted: Vec<Uuid> = hinted.collect::<HashSet<_>>().into_iter().collect();
        let (found, ahead) = tokio::join!(
            lookup::canonicals(&self.stores, org, &owners),
            self.stores.redis.profiles(org, &hinted)
        );
        let found = found?;
        for (owner, canonical) in owners.iter().zip(&found) {
            if let (Kind::AnonymousId, Some(canonical)) = (owner.kind, canonical) {
                self.hints.learn(org, &owner.value, *canonical);
            }
        }
        let by_name = |fields: Vec<(String, String)>| fields.into_iter().collect::<HashMap<_, _>>();
        let mut fields: Fields = hinted.into_iter().zip(ahead.into_iter().map(by_name)).collect();
        let others = found.iter().flatten().filter(|canonical| !fields.contains_key(*canonical));
        let others: Vec<Uuid> = others.copied().collect::<HashSet<_>>().into_iter().collect();
        let rest = self.stores.redis.profiles(org, &others).await;
        fields.extend(others.into_iter().zip(rest.into_iter().map(by_name)));

        let mut found = found.into_iter();
        let known = visitors.into_iter().map(|visitor| {
            let owner = visitor.owner()?.clone();
            let canonical = found.next().flatten()?;
            Some(Known { canonical, owner, visitor: Arc::new(visitor) })
        });
        Ok((known.collect(), fields))
    }

    /// Whose consent lacks, where the provider needs any.
    async fn denied(
        &self,
        asking: &Asking,
        need: Option<ConsentNeed>,
        known: &[Option<Known>],
    ) -> Result<Vec<bool>> {
        let Some(need) = need else { return Ok(vec![false; known.len()]) };
        let (stores, org, rule) = (&self.stores, asking.org, &asking.source.consent);
        let browsers: Vec<&str> = known
            .iter()
            .flatten()
            .filter(|known| known.owner.kind == Kind::AnonymousId)
            .map(|known| known.owner.value.as_str())
            .collect();
        let served = consents::served(stores, org, &browsers).await;
        let stored = consents::stored(stores, org, served, |_| true).await?;
        let nothing = cache_entries::consent_entry(None);
        let mut denied = Vec::with_capacity(known.len());
        for known in known {
            let Some(known) = known else {
                denied.push(true);
                continue;
            };
            let newest;
            let signals = match (&known.visitor.signals, known.owner.kind) {
                (Some(own), _) => own,
                (None, Kind::AnonymousId) => stored.get(&known.owner.value).unwrap_or(&nothing),
                (None, Kind::UserId) => {
                    newest = consents::newest(stores, org, known.canonical).await?;
                    &newest
                }
            };
            denied.push(is_denied(signals, &need, rule, asking.now));
        }
        Ok(denied)
    }

    /// The entry of each who is asked about; none where it did not come in time.
    async fn entries(
        &self,
        asking: &Asking,
        provided: &Provided,
        asked: &[Option<&Known>],
        fields: &Fields,
    ) -> Vec<Option<Arc<Entry>>> {
        let until = asking.began + PATIENCE;
        let mut entries: Vec<Option<Arc<Entry>>> = vec![None; asked.len()];
        let mut searches: HashMap<[u8; 32], (Search, Vec<usize>)> = HashMap::new();
        let mut stale: HashMap<[u8; 32], Search> = HashMap::new();
        for (at, known) in asked.iter().enumerate() {
            let Some(known) = known else { continue };
            let field = entry::field('p', &field_digest(asking, provided, known));
            let wanted = wanted(asking.org, known.canonical, &field);
            let own = fields.get(&known.canonical).and_then(|fields| fields.get(&field));
            let own = own.and_then(|text| Entry::parse(text, asking.now));
            let search = |until| Search {
                org: asking.org,
                canonical: known.canonical,
                owner: known.owner.clone(),
                visitor: known.visitor.clone(),
                provided: provided.clone(),
                is_server: asking.is_server,
                sees_claimed: asking.sees_claimed(),
                field: field.clone(),
                until,
            };
            match own {
                Some(own) => {
                    if own.is_stale(asking.now) {
                        stale.entry(wanted).or_insert_with(|| search(Instant::now() + PATIENCE));
                    }
                    if let Some(place) = entries.get_mut(at) {
                        *place = Some(Arc::new(own));
                    }
                }
                None => searches.entry(wanted).or_insert_with(|| (search(until), Vec::new())).1.push(at),
            }
        }
        if !stale.is_empty() {
            self.refresh(stale);
        }
        let found = stream::iter(searches)
            .map(async |(wanted, (search, places))| (places, self.find(wanted, search, until).await));
        let found: Vec<_> = found.buffer_unordered(AT_ONCE).collect().await;
        for (places, entry) in found {
            for at in places {
                if let Some(place) = entries.get_mut(at) {
                    place.clone_from(&entry);
                }
            }
        }
        entries
    }

    async fn find(&self, wanted: [u8; 32], search: Search, until: Instant) -> Option<Arc<Entry>> {
        if Instant::now() >= until {
            return None;
        }
        let finder = self.finder.clone();
        let joined = self.flights.join(wanted, move || finder.find(search));
        timeout_at(until, joined).await.ok()?.0
    }

    /// Reads anew what is still told, so that nobody waits for the provider twice.
    fn refresh(&self, stale: HashMap<[u8; 32], Search>) {
        let (finder, flights) = (self.finder.clone(), self.flights.clone());
        tokio::spawn(async move {
            let refreshed = stream::iter(stale).map(|(wanted, search)| {
                let (finder, flights) = (finder.clone(), flights.clone());
                async move { flights.join(wanted, move || finder.find(search)).await.1 }
            });
            refreshed.buffer_unordered(REFRESHES).collect::<Vec<_>>().await;
        });
    }
}

impl Asking {
    /// True where what a browser only claims counts.
    pub fn sees_claimed(&self) -> bool {
        self.is_server || self.source.tells_claimed
    }
}

fn is_denied(signals: &ConsentEntry, need: &ConsentNeed, rule: &ConsentRule, now: OffsetDateTime) -> bool {
    signals.signals().decide(need, rule, now) == Decision::Denied
}

/// The digest of what an entry depends on: the provider as it is set up, who asks, and for whom.
fn field_digest(asking: &Asking, provided: &Provided, known: &Known) -> [u8; 32] {
    let provider = provided.provider();
    let mut digest = Sha256::new();
    digest.update(provider.id.as_bytes());
    digest.update(clock::unix_ms(provider.version).to_be_bytes());
    digest.update([u8::from(asking.is_server), u8::from(asking.sees_claimed())]);
    digest.update(known.owner.kind.word());
    digest.update([0]);
    digest.update(&known.owner.value);
    let carried = &known.visitor.carried;
    let digests = [&carried.contacts.email, &carried.contacts.phone]
        .map(|said| said.as_ref().map_or([0; 32], |said| said.contact.lower.sha256));
    digest.update(digests.concat());
    digest.update([u8::from(carried.email.is_some()), u8::from(carried.phone.is_some())]);
    digest.finalize().into()
}

/// The digest of what is being found out.
pub fn wanted(org: Uuid, canonical: Uuid, field: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(org.as_bytes());
    digest.update(canonical.as_bytes());
    digest.update(field);
    digest.finalize().into()
}
