//! The vendor IDs of many identities, for delivery: one pipelined read.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use bb8_redis::redis::{Pipeline, Value};
use proto::v1::{IdentityVendorIds, StoredConsent, VendorId, VendorIdSource};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    clock::{self, timestamp},
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        Stores,
        cache_entries::{self, CONSENT_FIELD, ConsentEntry, VendorIdEntry},
        consents,
        lookup::{self, IdentityName},
        postgres::{consent, identities, rows::VendorIdRow, vendor_ids},
        projections, read_through,
        redis::{
            keys,
            protocol::{self, Cached, Entry, VERSION_FIELD, Value as Stored},
        },
    },
};

/// Fields of a `cvid:` key in no order: so few that they are searched one by one.
type Fields = Vec<(String, String)>;

/// Finds the vendor IDs and consent of each identity, in the order asked; the entry of an unknown identity is
/// empty. An empty `fields` means all of them.
pub async fn find(
    stores: &Stores,
    org: Uuid,
    names: &[IdentityName],
    fields: &[String],
    now: OffsetDateTime,
) -> Result<Vec<IdentityVendorIds>> {
    let ids: Vec<Identifier> = names
        .iter()
        .filter_map(|name| match name {
            IdentityName::Identifier(id) => Some(id.clone()),
            IdentityName::Canonical(_) | IdentityName::Nobody => None,
        })
        .collect();
    let browsers: Vec<&str> =
        ids.iter().filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.as_str()).collect();
    let (found, served) =
        tokio::join!(lookup::canonicals(stores, org, &ids), consents::served(stores, org, &browsers));
    let found = found?;
    // Asked for only where Redis lacks something.
    let somebody = LazyLock::new(|| {
        let known = ids.iter().zip(&found).filter(|(_, canonical)| canonical.is_some());
        known.map(|(id, _)| (id.kind, id.value.as_str())).collect::<HashSet<_>>()
    });
    let has = |browser: &str| somebody.contains(&(Kind::AnonymousId, browser));
    let consents = consents::stored(stores, org, served, has).await?;
    let mut found = found.iter().copied();
    let canonicals: Vec<Option<Uuid>> = names
        .iter()
        .map(|name| match name {
            IdentityName::Canonical(id) => Some(*id),
            IdentityName::Identifier(_) => found.next().flatten(),
            IdentityName::Nobody => None,
        })
        .collect();
    let mut asked: Vec<Uuid> = canonicals.iter().flatten().copied().collect();
    asked.sort_unstable();
    asked.dedup();
    let known = load(stores, org, &asked, fields, now).await?;
    Ok(names
        .iter()
        .zip(canonicals)
        .map(|(name, canonical)| {
            let Some((root, stored)) = canonical.and_then(|id| known.get(&id)) else {
                return IdentityVendorIds::default();
            };
            let consent = match name {
                IdentityName::Identifier(id) if id.kind == Kind::AnonymousId => consents.get(&id.value),
                _ => None,
            };
            answer(*root, stored, consent, fields, now)
        })
        .collect())
}

/// Root and hash of each canonical ID that exists.
async fn load(
    stores: &Stores,
    org: Uuid,
    asked: &[Uuid],
    fields: &[String],
    now: OffsetDateTime,
) -> Result<HashMap<Uuid, (Uuid, Fields)>> {
    let mut known = HashMap::with_capacity(asked.len());
    if asked.is_empty() {
        return Ok(known);
    }
    let mut pipe = Pipeline::new();
    for canonical in asked {
        let key = keys::vendor_ids(org, *canonical).name;
        if fields.is_empty() {
            pipe.hgetall(key);
        } else {
            pipe.cmd("HMGET").arg(key).arg(VERSION_FIELD).arg(CONSENT_FIELD).arg(fields);
        }
    }
    let answers: Vec<Value> = match stores.redis.pipeline(&pipe).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            Vec::new()
        }
    };
    let is_away = answers.is_empty();
    let mut answers = answers.into_iter();
    let mut unknown = Vec::new();
    let mut missing = Vec::new();
    for canonical in asked {
        let mut texts = answers.next().map(protocol::strings).unwrap_or_default().into_iter();
        let hash: Fields = if fields.is_empty() {
            std::iter::from_fn(|| Some((texts.next()??, texts.next()??))).collect()
        } else {
            let names = [VERSION_FIELD, CONSENT_FIELD].into_iter().chain(fields.iter().map(String::as_str));
            names.zip(texts).filter_map(|(name, text)| Some((name.to_owned(), text?))).collect()
        };
        match protocol::hash_state(field(&hash, VERSION_FIELD)) {
            Cached::Hit(_) => {
                known.insert(*canonical, (*canonical, hash));
                continue;
            }
            Cached::Miss if !is_away => missing.push(keys::vendor_ids(org, *canonical)),
            Cached::Miss | Cached::Busy => {}
        }
        unknown.push(*canonical);
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    let lost = read_through::through(stores, &missing, async {
        let mut connection = stores.connection().await?;
        let roots = identities::roots(&mut connection, org, &unknown).await?;
        let live: Vec<Uuid> = roots.iter().flatten().copied().collect();
        let mut rows: HashMap<Uuid, Vec<VendorIdRow>> = HashMap::new();
        for row in vendor_ids::find(&mut connection, org, &live).await? {
            rows.entry(row.canonical_id).or_default().push(row);
        }
        let newest: HashMap<Uuid, _> =
            consent::newest(&mut connection, org, &live).await?.into_iter().collect();
        let mut entries: Vec<Entry> = Vec::with_capacity(live.len());
        for (canonical, root) in unknown.iter().zip(roots) {
            let Some(root) = root else { continue };
            let own = rows.get(&root).map_or(&[][..], Vec::as_slice);
            let entry = cache_entries::vendor_ids(org, root, own, newest.get(&root), now);
            if let Stored::Hash(fields) = &entry.value {
                known.insert(*canonical, (root, fields.clone()));
            }
            entries.push(entry);
        }
        Ok((rows.into_keys().collect::<Vec<Uuid>>(), entries))
    })
    .await?;
    if !missing.is_empty() {
        projections::refresh(stores, org, lost, now).await;
    }
    Ok(known)
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field == name).map(|(_, text)| text.as_str())
}

fn answer(
    root: Uuid,
    stored: &Fields,
    own_consent: Option<&ConsentEntry>,
    fields: &[String],
    now: OffsetDateTime,
) -> IdentityVendorIds {
    let vendor_ids = stored
        .iter()
        .filter(|(field, _)| !field.starts_with('_') && (fields.is_empty() || fields.contains(field)))
        .filter_map(|(field, text)| {
            let entry: VendorIdEntry<'_> = serde_json::from_str(text).ok()?;
            (entry.expires_at > now).then(|| (field.clone(), vendor_id(entry)))
        })
        .collect();
    let newest: Option<ConsentEntry> = match own_consent {
        Some(_) => None,
        None => field(stored, CONSENT_FIELD).and_then(|text| serde_json::from_str(text).ok()),
    };
    let consent = own_consent.or(newest.as_ref()).and_then(stored_consent);
    IdentityVendorIds { canonical_id: root.to_string(), vendor_ids, consent }
}

/// The vendor ID as it is answered.
pub fn vendor_id(entry: VendorIdEntry<'_>) -> VendorId {
    let source = match &*entry.source {
        "sync" => VendorIdSource::Sync,
        "enrichment" => VendorIdSource::Enrichment,
        "click" => VendorIdSource::Click,
        "generated" => VendorIdSource::Generated,
        _ => VendorIdSource::Unspecified,
    };
    VendorId {
        value: entry.value.into_owned(),
        source: source.into(),
        collected_at: Some(clock::timestamp(entry.collected_at)),
        expires_at: Some(clock::timestamp(entry.expires_at)),
        anonymous_id: None,
    }
}

/// Consent as it is answered; none where the browser sent none.
pub fn stored_consent(entry: &ConsentEntry) -> Option<StoredConsent> {
    let updated_at = entry.updated_at?;
    Some(StoredConsent {
        json: entry.text().map(str::to_owned),
        sec_gpc: entry.sec_gpc(),
        updated_at: Some(timestamp(updated_at)),
    })
}
