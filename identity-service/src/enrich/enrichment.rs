//! Enrichment of one visitor by one provider, from the settings to the answer.

use std::{sync::Arc, time::Duration};

use egress::target::Reach;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    config, counters, custom,
    enriched_id::{EnrichedId, Stored},
};
use crate::{
    clock,
    consent::Decision,
    error::Result,
    providers::{
        Tools,
        asking::{self, Flights, Question},
        calling::{ProviderCall, unavailable},
        dry_run::{DryRun, Shown},
        outcome::{Failure, Kept},
        person::{self, Person},
        plan::Plan,
        variables::Variables,
    },
    settings::{ProviderKind, Settings, Source, StoredProvider},
    storage::{
        Stores,
        postgres::{
            enrichments::{self, Holder},
            identities,
            provider_states::ProviderName,
            rows::Owner,
        },
        retry_lost,
    },
    vendor_ids::writer::VendorIdWriter,
    vendors,
};

/// Tries to store an ID whose person merges with others meanwhile.
const STORE_TRIES: usize = 3;

/// Server-proxied enrichment, with all that it works on.
pub struct Enrichment {
    /// Stores, way out, keys and places.
    pub tools: Tools,
    /// Settings, for the hosts that are ours.
    pub settings: Settings,
    /// The writer of vendor IDs.
    pub writer: VendorIdWriter,
    /// Calls that are being made.
    pub flights: Flights,
}

/// What is asked, and for whom.
pub struct Asked {
    /// The source whose provider it is.
    pub source: Arc<Source>,
    /// The provider.
    pub provider: Arc<StoredProvider>,
    /// The person.
    pub person: Person,
    /// Variables of the request: the page, the caller, the event.
    pub variables: Variables,
    /// True where `Sec-GPC: 1` came with the call.
    pub sec_gpc: bool,
    /// Time at which the call came.
    pub began: Instant,
    /// The same by the clock.
    pub now: OffsetDateTime,
}

/// What an asker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has just said so.
    Resolved(String, OffsetDateTime),
    /// It said so before.
    Cached(String, OffsetDateTime),
    /// There is nothing to tell.
    Skipped {
        /// The reason, as `EnrichResponse` lists them.
        reason: &'static str,
        /// Time until which the lack of an ID, or one that is not told, holds.
        expires_at: Option<OffsetDateTime>,
        /// Time after which another try makes sense; none where the next visit will do.
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    fn skipped(reason: &'static str) -> Self {
        Self::Skipped { reason, expires_at: None, retry_after: None }
    }

    fn failed(failure: Failure) -> Self {
        Self::Skipped { reason: failure.reason(), expires_at: None, retry_after: failure.retry_after() }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Resolved(..) => "resolved",
            Self::Cached(..) => "cached",
            Self::Skipped { reason, .. } => reason,
        }
    }
}

impl Enrichment {
    /// Asks a provider for an ID of a person, stores it, and says what came of it. Neither the provider nor what is asked
    /// of the stores before is waited for longer than the provider's timeout after the call came.
    pub async fn enrich(&self, asked: Asked) -> Outcome {
        let provider = asked.provider.name.as_str();
        let label = vendors::find_enrichment(provider).map_or("custom", |vendor| vendor.name);
        let outcome = self.decide(asked).await.unwrap_or_else(Outcome::failed);
        counters::answered(label, outcome.word());
        outcome
    }

    /// Reads the settings of a provider of that organisation, within what may be called now.
    pub async fn plan(&self, org: Uuid, provider: &StoredProvider) -> Result<Option<Plan>> {
        let snapshot = self.settings.current().await?;
        let is_ours = |host: &_| snapshot.on_host(host).iter().any(|own| own.org == org);
        let reach = Reach { allowed: self.tools.egress.openings(), is_ours: &is_ours };
        Ok(match provider.kind {
            ProviderKind::Vendor => vendors::find_enrichment(&provider.name)
                .and_then(|vendor| config::plan(vendor, &provider.settings, &reach)),
            ProviderKind::Custom => custom::plan(&provider.name, &provider.settings, &reach),
            // It gives attributes, and no ID.
            ProviderKind::Profile => None,
        })
    }

    /// Tries a provider of the organisation `owner`. A visitor whose consent lacks is shown the request for, and not asked
    /// about.
    pub async fn dry_run(&self, stores: &Stores, owner: Uuid, run: DryRun) -> Result<Shown> {
        let Some(plan) = self.plan(owner, &run.provider).await? else {
            return Ok(Shown::nothing(Failure::NotAllowed.reason()));
        };
        let (need, provider) = (Some(plan.need), run.provider.clone());
        run.run(&self.tools, stores, need, |variables| {
            let prepared = plan.prepare(&provider.settings, variables)?;
            Some((plan, prepared))
        })
        .await
    }

    async fn decide(&self, asked: Asked) -> Result<Outcome, Failure> {
        let Asked { source, provider, person, variables, sec_gpc, began, now } = asked;
        let plan = self.plan(source.org, &provider).await.map_err(unavailable)?.ok_or(Failure::NotAllowed)?;
        let until = began + plan.timeout;
        if person.signals().decide(&plan.need, &source.consent, now) == Decision::Denied {
            return Ok(Outcome::skipped("consent"));
        }
        let gate = self.tools.gates.of(provider.id);
        let _waits = gate.wait()?;
        let known = within(until, person::learn(&self.tools, &person, variables)).await?;
        let Some(prepared) = plan.prepare(&provider.settings, &known.variables) else {
            return Ok(Outcome::skipped("no_input"));
        };
        let is_unverified = person.is_browser
            && plan.is_own_number
            && !source.tells_claimed
            && known.is_claimed(&plan.names());
        let holder = Holder {
            canonical: person.canonical,
            owner: Owner::of(&person.owner),
            field: plan.field.clone(),
        };
        let question = enrichments::Asked { org: person.org, provider: provider.id, inputs: prepared.inputs };
        let tools = &self.tools;
        let found = async {
            retry_lost!({ enrichments::find(&mut *tools.connection().await?, question, &holder).await })
        };
        let row = within(until, found).await?;
        let live = row.filter(|row| asking::is_live(row, now));
        let (is_stored, is_cached) = (live.as_ref().is_some_and(|row| row.is_stored), live.is_some());
        let label = plan.label;
        let (need, field) = (plan.need, plan.field.clone());
        let kept = if let Some(row) = live {
            asking::kept(&row)
        } else {
            let name = ProviderName { org: source.org, source: source.id, provider: provider.name.clone() };
            let variables = known.variables;
            let call = ProviderCall { provider, name, plan, prepared, variables, until };
            let question = Question { call, asked: question, holder };
            let (kept, is_shared) = asking::ask_once(&self.flights, &self.tools, question).await?;
            if is_shared {
                counters::shared(label);
            }
            kept
        };
        if (kept.value.is_some() || kept.is_opt_out) && !is_stored {
            let id = EnrichedId {
                owner: person.owner,
                canonical: person.canonical,
                consent: person.consent,
                sec_gpc,
                field,
                value: kept.value.clone(),
                collected_at: kept.collected_at,
                expires_at: kept.kept_until,
                need,
                rule: source.consent.clone(),
                pipeline: source.pipeline,
                now: clock::now(),
            };
            if let Some(skipped) = self.store(person.org, id).await? {
                return Ok(skipped);
            }
        }
        Ok(told(kept, is_cached, is_unverified, now))
    }

    /// Stores an ID, for a person who may have merged with others since. What is returned is why not.
    async fn store(&self, org: Uuid, mut id: EnrichedId) -> Result<Option<Outcome>, Failure> {
        for _ in 0..STORE_TRIES {
            let written = self.writer.write(org, id.clone()).await.map_err(unavailable)?;
            match written.output {
                Stored::Yes => return Ok(None),
                Stored::Denied => return Ok(Some(Outcome::skipped("consent"))),
                Stored::Moved => {}
            }
            let tools = &self.tools;
            let asked = [id.canonical];
            let roots =
                retry_lost!({ identities::roots(&mut *tools.connection().await?, org, &asked).await });
            let root = roots.map_err(unavailable)?.into_iter().next().flatten();
            match root.ok_or(Failure::Erased)? {
                // The browser has gone to another person, of whom nothing was asked.
                root if root == id.canonical => return Ok(Some(Outcome::skipped("moved"))),
                root => id.canonical = root,
            }
        }
        Err(Failure::Unavailable)
    }
}

/// Waits for what a store says, while an answer would be in time.
async fn within<T>(until: Instant, stored: impl Future<Output = Result<T>>) -> Result<T, Failure> {
    timeout_at(until, stored).await.map_err(|_| Failure::Timeout)?.map_err(unavailable)
}

/// What an asker is told of an answer that is kept.
fn told(kept: Kept, is_cached: bool, is_unverified: bool, now: OffsetDateTime) -> Outcome {
    let expires_at = kept.expires_at;
    let retry_after = Some((expires_at - now).unsigned_abs());
    match kept.value {
        Some(_) if is_unverified => {
            Outcome::Skipped { reason: "unverified", expires_at: Some(expires_at), retry_after: None }
        }
        Some(value) if is_cached => Outcome::Cached(value, expires_at),
        Some(value) => Outcome::Resolved(value, expires_at),
        None => {
            let reason = if kept.is_opt_out { "opt_out" } else { "no_id" };
            Outcome::Skipped { reason, expires_at: Some(expires_at), retry_after }
        }
    }
}
