//! Finding out a visitor's profile: what they are known by, the look-ups in their order, and the first match.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    candidates::{Candidate, candidates},
    counters,
    entry::Entry,
    plan::{Kept, ProfilePlan, Provided},
    share,
    visitor::Visitor,
};
use crate::{
    clock,
    error::Result,
    identifiers::Identifier,
    providers::{
        Person, Tools,
        asking::{self, Flights, Question},
        calling::{ProviderCall, unavailable},
        outcome::{self, Failure},
        person,
        plan::{Plan, Prepared},
        variables::Variables,
    },
    storage::{
        Stores, cache_entries,
        postgres::{
            enrichments::{self, Asked, Holder},
            provider_states::{self, NewFailure},
            rows::Owner,
        },
        retry_lost,
    },
};

/// Time for which it is believed that there is no profile. Whatever changes of the visitor ends it.
const NO_MATCH: Duration = Duration::from_mins(5);
/// Time for which nobody is asked again after a failure that names no other.
const FAILED: Duration = Duration::from_secs(10);
/// Longest such time: a corrected credential is tried soon.
const LONGEST_FAILED: Duration = Duration::from_mins(1);
/// Longest time for which attributes that enrichment has kept are told without a look at what it keeps by now.
const KEPT: Duration = Duration::from_mins(1);

/// Finder of profiles; clones share what it works on.
#[derive(Clone)]
pub struct Finder {
    /// Way out, keys, places and a share of the connections.
    pub tools: Tools,
    /// The stores.
    pub stores: Stores,
    /// Look-ups that are being made.
    pub asks: Flights,
    /// Providers that have found somebody since the process began.
    pub finds: Arc<Mutex<HashSet<Uuid>>>,
}

/// A search for one visitor's profile.
pub struct Search {
    /// The organisation whose visitor it is.
    pub org: Uuid,
    /// The canonical identity.
    pub canonical: Uuid,
    /// The identifier for which it is asked.
    pub owner: Identifier,
    /// The visitor.
    pub visitor: Arc<Visitor>,
    /// The provider.
    pub provided: Provided,
    /// True where whoever delivers events asks.
    pub is_server: bool,
    /// True where what a browser only claims counts.
    pub sees_claimed: bool,
    /// Field under which the outcome is kept.
    pub field: String,
    /// The end of the time that there is.
    pub until: Instant,
}

impl Finder {
    /// Searches, keeps the outcome, and tells it.
    pub async fn find(self, search: Search) -> Arc<Entry> {
        let (org, canonical) = (search.org, search.canonical);
        // Before anything is read: what changes from now on drops what is added.
        let generation = self.stores.redis.open_profiles(org, canonical).await.ok().flatten();
        let found = self.search(&search).await;
        let entry = found.unwrap_or_else(|failure| {
            let life = failure.retry_after().unwrap_or(FAILED).min(LONGEST_FAILED);
            Entry::nothing(word(failure), clock::now() + life)
        });
        let (label, reason) = (search.provided.label(), entry.reason());
        counters::found_out(label, if reason.is_empty() { "found" } else { reason });
        match reason {
            "" => {}
            "no_match" | "no_input" => {
                tracing::debug!(%org, provider = label, reason, "partner resolve failed");
            }
            _ => tracing::warn!(%org, provider = label, reason, "partner resolve failed"),
        }
        self.keep(org, canonical, generation, &search.field, &entry.text()).await;
        Arc::new(entry)
    }

    /// Adds to what Redis has of the visitor, unless they have changed since `generation`.
    pub async fn keep(
        &self,
        org: Uuid,
        canonical: Uuid,
        generation: Option<String>,
        field: &str,
        text: &str,
    ) {
        let Some(generation) = generation else { return };
        let kept = self.stores.redis.add_profile(org, canonical, &generation, (field, text)).await;
        if let Err(error) = kept {
            tracing::debug!(%error, "a profile was not kept");
        }
    }

    async fn search(&self, search: &Search) -> Result<Entry, Failure> {
        let person = Person {
            org: search.org,
            canonical: search.canonical,
            owner: search.owner.clone(),
            consent: cache_entries::consent_entry(None),
            is_browser: !search.is_server,
            // Who delivers a browser's event vouches for nothing that the browser says.
            is_vouched: false,
        };
        let known = person::learn(&self.tools, &person, Variables::default()).await.map_err(unavailable)?;
        match &search.provided {
            Provided::Linked(plan) => {
                let is_claimed = |name: &str| known.is_claimed(&[name.to_owned()]);
                let all = candidates(&plan.keys, &known.variables, is_claimed, &search.visitor.carried);
                let all = all.into_iter().filter(|one| search.sees_claimed || !one.is_claimed).collect();
                self.look_up(search, plan, all).await
            }
            Provided::Kept(kept) => {
                let variables = if search.sees_claimed { known.variables } else { known.vouched() };
                self.kept(search, kept, &variables).await
            }
        }
    }

    /// Tries one candidate after the other.
    async fn look_up(
        &self,
        search: &Search,
        plan: &ProfilePlan,
        candidates: Vec<Candidate>,
    ) -> Result<Entry, Failure> {
        let now = clock::now();
        if candidates.is_empty() {
            return Ok(Entry::nothing("no_input", now + NO_MATCH));
        }
        let gate = self.tools.gates.of(plan.provider.id);
        let _waits = gate.wait()?;
        for Candidate { key, value, is_claimed } in candidates {
            let found = self.ask(search, plan, plan.look_up(&key, &value)).await?;
            let Some(id) = found.value.clone() else { continue };
            // The documented answer is the whole profile; one that is its ID alone is followed.
            let whole = match found.attributes {
                Some(_) => found,
                None => self.ask(search, plan, plan.fetch(&id)).await?,
            };
            let Some(Value::Object(attributes)) = whole.attributes else { return Err(Failure::Malformed) };
            self.finds().insert(plan.provider.id);
            let (fresh_until, until) = (clock::unix_ms(whole.expires_at), clock::unix_ms(whole.kept_until));
            return Ok(Entry { id, attributes, reason: String::new(), is_claimed, fresh_until, until });
        }
        if !self.finds().contains(&plan.provider.id) {
            self.note_no_match(plan, now).await;
        }
        Ok(Entry::nothing("no_match", now + NO_MATCH))
    }

    /// Asks once for all who ask the same.
    async fn ask(
        &self,
        search: &Search,
        plan: &ProfilePlan,
        made: Option<(Plan, Prepared)>,
    ) -> Result<outcome::Kept, Failure> {
        let (call_plan, prepared) = made.ok_or(Failure::NotAllowed)?;
        let (provider, until) = (plan.provider.clone(), search.until);
        let asked = Asked { org: search.org, provider: provider.id, inputs: prepared.inputs };
        let holder = search.holder();
        let tools = &self.tools;
        let found = async {
            retry_lost!({ enrichments::find(&mut *tools.connection().await?, asked, &holder).await })
        };
        let row = timeout_at(until, found).await.map_err(|_| Failure::Timeout)?.map_err(unavailable)?;
        if let Some(row) = row.filter(|row| asking::is_live(row, clock::now())) {
            return Ok(asking::kept(&row));
        }
        share::wait(&self.stores, plan.name.org, provider.id, search.is_server, until).await?;
        let (name, variables) = (plan.name.clone(), Variables::default());
        let call = ProviderCall { provider, name, plan: call_plan, prepared, variables, until };
        let question = Question { call, asked, holder };
        asking::ask_once(&self.asks, tools, question).await.map(|(kept, _)| kept)
    }

    fn finds(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.finds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says, for whoever set the provider up, that its collection knows nobody by what was sent.
    async fn note_no_match(&self, plan: &ProfilePlan, at: OffsetDateTime) {
        let failure = NewFailure {
            reason: "no_match",
            status: Some(404),
            at,
            backoff_until: None,
            refused_version: None,
        };
        let (tools, name) = (&self.tools, &plan.name);
        let noted =
            retry_lost!({ provider_states::failed(&mut *tools.connection().await?, name, failure).await });
        if let Err(error) = noted {
            tracing::debug!(%error, "the state of a provider was not noted");
        }
    }

    /// Reads the attributes that an enrichment has kept.
    async fn kept(&self, search: &Search, kept: &Kept, variables: &Variables) -> Result<Entry, Failure> {
        let now = clock::now();
        let Some(prepared) = kept.plan.prepare(&kept.provider.settings, variables) else {
            return Ok(Entry::nothing("no_input", now + FAILED));
        };
        let asked = Asked { org: search.org, provider: kept.provider.id, inputs: prepared.inputs };
        let (tools, holder) = (&self.tools, search.holder());
        let row = retry_lost!({ enrichments::find(&mut *tools.connection().await?, asked, &holder).await });
        let row = row.map_err(unavailable)?.filter(|row| row.kept_until.is_some_and(|end| end > now));
        let Some((id, attributes)) = row.and_then(|row| Some((row.value?, row.attributes?))) else {
            return Ok(Entry::nothing("no_match", now + FAILED));
        };
        let attributes = match attributes {
            Value::Object(attributes) => attributes,
            _ => Map::new(),
        };
        let until = clock::unix_ms(now + KEPT);
        let is_claimed = false;
        Ok(Entry { id, attributes, reason: String::new(), is_claimed, fresh_until: until, until })
    }
}

impl Search {
    /// The holder of an answer. No vendor ID is made of it.
    fn holder(&self) -> Holder {
        Holder { canonical: self.canonical, owner: Owner::of(&self.owner), field: String::new() }
    }
}

/// The word for a failure: that credentials are for something else is told from their being none.
pub fn word(failure: Failure) -> &'static str {
    if failure == Failure::Forbidden { "forbidden" } else { failure.reason() }
}
