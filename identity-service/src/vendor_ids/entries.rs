//! Entries: the vendor IDs of canonical identities as Redis is to hold them. `cvid:` has the person's value of each
//! field, and beside it a browser's own where that is another; `identity:` has a browser's, plain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    precedence::{self, Asker},
    ties::Ties,
};
use crate::{
    clock,
    error::Result,
    storage::{
        cache_entries::{self, CONSENT_FIELD, NEXT_FIELD, NO_ID, SERVING},
        mark::Mark,
        postgres::{
            consent, identities,
            rows::{ConsentRow, VendorIdRow},
            vendor_ids,
        },
        redis::{
            keys,
            protocol::{Entry, Value},
        },
    },
};

/// The vendor IDs of a canonical identity, expired ones included, and how its identifiers are tied to it.
#[derive(Debug, Default)]
pub struct Known {
    /// IDs in the order of their fields.
    pub ids: Vec<VendorIdRow>,
    /// Ties of the identity's identifiers.
    pub ties: Ties,
}

/// What is known of canonical identities.
pub type KnownByIdentity = BTreeMap<Uuid, Known>;

/// Reads the vendor IDs and links of `canonicals`, of which some may be the same.
pub async fn load(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<KnownByIdentity> {
    let mut links = identities::linked(connection, org, canonicals).await?;
    let canonicals: BTreeSet<Uuid> = canonicals.iter().copied().collect();
    let ties = |canonical| (canonical, Ties::new(links.remove(&canonical).unwrap_or_default()));
    let ties = canonicals.into_iter().map(ties).collect();
    load_ids(connection, org, ties).await
}

/// Reads the vendor IDs of canonical identities whose ties are known.
pub async fn load_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ties: BTreeMap<Uuid, Ties>,
) -> Result<KnownByIdentity> {
    let canonicals: Vec<Uuid> = ties.keys().copied().collect();
    let known = |(canonical, ties)| (canonical, Known { ids: Vec::new(), ties });
    let mut known: KnownByIdentity = ties.into_iter().map(known).collect();
    for row in vendor_ids::find(connection, org, &canonicals).await? {
        known.entry(row.canonical_id).or_default().ids.push(row);
    }
    Ok(known)
}

/// Builds `cvid:` of each, with the newest consent among its browsers as it is now.
pub async fn delivered(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    known: &KnownByIdentity,
    now: OffsetDateTime,
) -> Result<Vec<Entry>> {
    let canonicals: Vec<Uuid> = known.keys().copied().collect();
    let newest: HashMap<Uuid, ConsentRow> =
        consent::newest(connection, org, &canonicals).await?.into_iter().collect();
    let entry = |(canonical, known): (&Uuid, &Known)| {
        vendor_ids_entry(org, *canonical, known, newest.get(canonical), now)
    };
    Ok(known.iter().map(entry).collect())
}

/// Builds `identity:` of every browser of each.
pub fn projections<'a>(
    org: Uuid,
    known: impl IntoIterator<Item = &'a Known>,
    now: OffsetDateTime,
) -> Vec<Entry> {
    let of =
        |known: &'a Known| known.ties.browsers().map(move |browser| identity_entry(org, browser, known, now));
    known.into_iter().flat_map(of).collect()
}

/// Builds `cvid:` of one canonical identity from what is live at `now`. The key lives as long as its longest field.
pub fn vendor_ids_entry(
    org: Uuid,
    canonical: Uuid,
    known: &Known,
    newest_consent: Option<&ConsentRow>,
    now: OffsetDateTime,
) -> Entry {
    let mut fields = vec![(CONSENT_FIELD.to_owned(), cache_entries::consent_text(newest_consent))];
    let person = answers(known, Asker::Person, now);
    for (field, row) in &person {
        fields.push(((*field).to_owned(), text(row)));
    }
    let mut next = next(known, Asker::Person, &person);
    for browser in known.ties.browsers() {
        let own = answers(known, Asker::Browser(browser), now);
        next = earlier(next, self::next(known, Asker::Browser(browser), &own));
        let names: BTreeSet<&str> = person.keys().chain(own.keys()).copied().collect();
        let differs =
            |field: &&str| person.get(field).map(|row| &row.owner) != own.get(field).map(|row| &row.owner);
        let mut mark = None;
        for field in names.into_iter().filter(differs) {
            let mark = *mark.get_or_insert_with(|| Mark::of(browser));
            let value = own.get(field).map_or_else(|| NO_ID.to_owned(), |row| text(row));
            fields.push((cache_entries::own_field(field, mark), value));
        }
    }
    if let Some(next) = next {
        fields.push((NEXT_FIELD.to_owned(), clock::unix_ms(next).to_string()));
    }
    let life = known.ids.iter().map(|row| row.expires_at - now).filter(|life| life.is_positive()).max();
    let ttl_ms = cache_entries::millis(life.unwrap_or(SERVING));
    Entry { key: keys::vendor_ids(org, canonical), value: Value::Hash(fields), ttl_ms }
}

/// Builds `identity:` of one browser: plain values for other systems. The key lives as long as its shortest field,
/// and is gone where there is none.
pub fn identity_entry(org: Uuid, anonymous_id: &str, known: &Known, now: OffsetDateTime) -> Entry {
    let own = answers(known, Asker::Browser(anonymous_id), now);
    let life = own.values().map(|row| row.expires_at - now).min();
    let value = match life {
        None => Value::Nothing,
        Some(_) => {
            Value::Hash(own.iter().map(|(field, row)| ((*field).to_owned(), row.value.clone())).collect())
        }
    };
    let ttl_ms = cache_entries::millis(life.unwrap_or(SERVING));
    Entry { key: keys::identity(org, anonymous_id), value, ttl_ms }
}

/// The answer of each field.
pub fn answers<'a>(
    known: &'a Known,
    asker: Asker<'_>,
    now: OffsetDateTime,
) -> BTreeMap<&'a str, &'a VendorIdRow> {
    let by_field = known.ids.chunk_by(|one, other| one.field == other.field);
    let chosen = by_field.filter_map(|ids| precedence::choose(ids, &known.ties, asker, now));
    chosen.map(|row| (row.field.as_str(), row)).collect()
}

/// The moment at which the first of `shown` ends, where something is left to be shown then: until the keys are
/// written anew, `identity:` is gone, and a value that stood behind the first is not seen.
fn next(known: &Known, asker: Asker<'_>, shown: &BTreeMap<&str, &VendorIdRow>) -> Option<OffsetDateTime> {
    let first = shown.values().map(|row| row.expires_at).min()?;
    (!answers(known, asker, first).is_empty()).then_some(first)
}

fn earlier(one: Option<OffsetDateTime>, other: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
    one.into_iter().chain(other).min()
}

fn text(row: &VendorIdRow) -> String {
    serde_json::to_string(&cache_entries::vendor_id(row)).unwrap_or_default()
}
