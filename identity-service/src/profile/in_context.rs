//! Profiles of many visitors as they are in the contexts of their events, and in the last one for their pages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::{
    context, counters,
    entry::{self, Entry, Newest},
    personalized::{LIFE, Personal},
    plan::ProfilePlan,
    profiles::{AT_ONCE, Asking, Fields, Known, PATIENCE, Profiles, wanted},
};
use crate::{
    clock,
    identifiers::{Identifier, Kind},
};

/// Age, in ms, at which it is noted again which context a browser was in last.
const NOTED: i64 = 30_000;

impl Profiles {
    /// The profiles as they are in the contexts of the visitors' events.
    pub(super) async fn personalize(
        &self,
        asking: &Asking,
        plan: &Arc<ProfilePlan>,
        asked: &[Option<&Known>],
        entries: &[Option<Arc<Entry>>],
        fields: &Fields,
    ) -> Vec<Option<Arc<Entry>>> {
        let until = asking.began + PATIENCE;
        let mut personalized: Vec<Option<Arc<Entry>>> = vec![None; asked.len()];
        if plan.mappings.is_empty() {
            return personalized;
        }
        let mut wanting: HashMap<[u8; 32], (Personal, Vec<usize>)> = HashMap::new();
        let mut newest: HashMap<(Uuid, String), Newest> = HashMap::new();
        for (at, (known, entry)) in asked.iter().zip(entries).enumerate() {
            let (Some(known), Some(entry)) = (known, entry) else { continue };
            let Some(event) = known.visitor.event.as_ref().filter(|_| !entry.id.is_empty()) else { continue };
            let values = context::values(&plan.mappings, event, &entry.attributes);
            if values.is_empty() {
                continue;
            }
            let (context, field) = context_field(plan, &entry.id, &values);
            if known.owner.kind == Kind::AnonymousId {
                let (field, at) = (field.clone(), clock::unix_ms(asking.now));
                let last = Newest { field, is_claimed: entry.is_claimed, at };
                newest.insert((known.canonical, newest_field(plan, &known.owner)), last);
            }
            let own = fields.get(&known.canonical).and_then(|fields| fields.get(&field));
            if let Some(own) = own.and_then(|text| Entry::parse(text, asking.now)) {
                counters::personalized("amperity", "cached");
                if let Some(place) = personalized.get_mut(at) {
                    *place = Some(Arc::new(own));
                }
            } else if self.contexts.admits(asking.org, context, asking.began) {
                let wanted = wanted(asking.org, known.canonical, &field);
                let personal = || Personal {
                    org: asking.org,
                    canonical: known.canonical,
                    plan: plan.clone(),
                    id: entry.id.clone(),
                    values,
                    field,
                    until,
                };
                wanting.entry(wanted).or_insert_with(|| (personal(), Vec::new())).1.push(at);
            } else {
                counters::personalized("amperity", "contexts");
            }
        }
        let found = stream::iter(wanting).map(async |(wanted, (personal, places))| {
            let finder = self.finder.clone();
            let joined = self.flights.join(wanted, move || finder.personalize(personal));
            (places, timeout_at(until, joined).await.ok().and_then(|joined| joined.0))
        });
        let found: Vec<_> = found.buffer_unordered(AT_ONCE).collect().await;
        for (places, entry) in found {
            for at in places {
                if let Some(place) = personalized.get_mut(at) {
                    place.clone_from(&entry);
                }
            }
        }
        self.note_newest(asking.org, newest, fields).await;
        personalized
    }

    /// Notes which context each browser was in last, where that is not noted.
    async fn note_newest(&self, org: Uuid, newest: HashMap<(Uuid, String), Newest>, fields: &Fields) {
        let is_news = |((canonical, name), newest): &((Uuid, String), Newest)| {
            let noted = fields.get(canonical).and_then(|fields| fields.get(name));
            let noted: Option<Newest> = noted.and_then(|text| serde_json::from_str(text).ok());
            noted.is_none_or(|noted| {
                (&noted.field, noted.is_claimed) != (&newest.field, newest.is_claimed)
                    || newest.at - noted.at > NOTED
            })
        };
        let noting = newest.into_iter().filter(is_news).map(async |((canonical, name), newest)| {
            let generation = self.stores.redis.open_profiles(org, canonical).await.ok().flatten();
            let text = serde_json::to_string(&newest).unwrap_or_default();
            self.finder.keep(org, canonical, generation, &name, &text).await;
        });
        stream::iter(noting).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }
}

/// The profile in the last context that the browser's own events were in, as long as that is good.
pub fn newest(asking: &Asking, plan: &ProfilePlan, known: &Known, fields: &Fields) -> Option<Arc<Entry>> {
    let fields = fields.get(&known.canonical)?;
    let newest: Newest = serde_json::from_str(fields.get(&newest_field(plan, &known.owner))?).ok()?;
    let is_good = newest.at.saturating_add(i64::try_from(LIFE.as_millis()).unwrap_or_default())
        > clock::unix_ms(asking.now);
    let may_see = asking.sees_claimed() || !newest.is_claimed;
    let entry = Entry::parse(fields.get(&newest.field)?, asking.now)?;
    (is_good && may_see).then(|| Arc::new(entry))
}

/// The digest of a context, and the field of a profile in it.
fn context_field(plan: &ProfilePlan, id: &str, values: &BTreeMap<String, String>) -> ([u8; 32], String) {
    let text = serde_json::to_string(values).unwrap_or_default();
    let context: [u8; 32] = Sha256::digest(&text).into();
    let mut digest = Sha256::new();
    digest.update(plan.provider.id.as_bytes());
    digest.update(clock::unix_ms(plan.provider.version).to_be_bytes());
    digest.update(context);
    digest.update(id);
    (context, entry::field('c', &digest.finalize().into()))
}

/// The field in which a browser's last context is noted.
fn newest_field(plan: &ProfilePlan, owner: &Identifier) -> String {
    let mut digest = Sha256::new();
    digest.update(plan.provider.id.as_bytes());
    digest.update(&owner.value);
    entry::field('n', &digest.finalize().into())
}
