//! Reading a profile as it is in the context of one event.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    counters,
    entry::Entry,
    finding::{Finder, word},
    plan::ProfilePlan,
    share,
};
use crate::{
    clock,
    providers::{
        calling::ProviderCall,
        outcome::{Answer, Failure},
        variables::Variables,
    },
};

/// Time for which an answer is good, as the specification says.
pub const LIFE: Duration = Duration::from_mins(2);
/// Time for which nobody is asked again after a failure.
const FAILED: Duration = Duration::from_secs(10);

/// A profile that is to be read for a context.
pub struct Personal {
    /// The organisation whose visitor it is.
    pub org: Uuid,
    /// The canonical identity.
    pub canonical: Uuid,
    /// The provider.
    pub plan: Arc<ProfilePlan>,
    /// ID of the profile.
    pub id: String,
    /// The context.
    pub values: BTreeMap<String, String>,
    /// Field under which the outcome is kept.
    pub field: String,
    /// The end of the time that there is.
    pub until: Instant,
}

impl Finder {
    /// Reads the profile, keeps the outcome, and tells it.
    pub async fn personalize(self, personal: Personal) -> Arc<Entry> {
        let (org, canonical) = (personal.org, personal.canonical);
        let generation = self.stores.redis.open_profiles(org, canonical).await.ok().flatten();
        let entry = self.read(&personal).await.unwrap_or_else(|failure| {
            let reason = word(failure);
            tracing::warn!(%org, provider = "amperity", reason, "partner resolve failed");
            Entry::nothing(reason, clock::now() + FAILED)
        });
        let reason = entry.reason();
        counters::personalized("amperity", if reason.is_empty() { "found" } else { reason });
        self.keep(org, canonical, generation, &personal.field, &entry.text()).await;
        Arc::new(entry)
    }

    async fn read(&self, personal: &Personal) -> Result<Entry, Failure> {
        let Personal { plan, id, values, until, .. } = personal;
        let context = values.iter().map(|(name, value)| (name.clone(), value.clone()));
        let (call_plan, prepared) = plan.personalize(id, context).ok_or(Failure::NotAllowed)?;
        let provider = plan.provider.clone();
        let gate = self.tools.gates.of(provider.id);
        let _waits = gate.wait()?;
        share::wait(&self.stores, plan.name.org, provider.id, true, *until).await?;
        let (name, variables) = (plan.name.clone(), Variables::default());
        let call = ProviderCall { provider, name, plan: call_plan, prepared, variables, until: *until };
        let now = clock::now();
        match call.make(&self.tools, None, now).await.answer? {
            Answer::Found(found) => {
                let attributes = found.attributes.as_ref().and_then(|attributes| attributes.as_object());
                let attributes = attributes.ok_or(Failure::Malformed)?.clone();
                let until = clock::unix_ms(now + LIFE);
                let (id, reason) = (id.clone(), String::new());
                Ok(Entry { id, attributes, reason, is_claimed: false, fresh_until: until, until })
            }
            Answer::None | Answer::OptOut => Ok(Entry::nothing("no_match", now + LIFE)),
        }
    }
}
