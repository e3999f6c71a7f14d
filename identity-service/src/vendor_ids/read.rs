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
    app::Core,
    clock::{self, timestamp},
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries::{self, CONSENT_FIELD, ConsentEntry, VendorIdEntry},
        postgres::{consent as consents, identities, rows::VendorIdRow, vendor_ids},
        read_through,
        redis::{
            keys,
            protocol::{self, Entry, Text, VERSION_FIELD, Value as Stored},
        },
    },
};
use crate::{
    resolve::consent,
    storage::{
        lookup::{self, Wanted},
        projections,
    },
};

/// Fields of a `cvid:` key in no order: so few that they are searched one by one.
type Fields = Vec<(String, String)>;

/// Finds the vendor IDs and consent of each identity, in the order asked; the entry of an unknown identity is
/// empty. An empty `fields` means all of them.
pub async fn find(
    core: &Core,
    org: Uuid,
    wanted: &[Wanted],
    fields: &[String],
    now: OffsetDateTime,
) -> Result<Vec<IdentityVendorIds>> {
    let ids: Vec<Identifier> = wanted
        .iter()
        .filter_map(|one| match one {
            Wanted::Identifier(id) => Some(id.clone()),
            Wanted::Canonical(_) | Wanted::Nobody => None,
        })
        .collect();
    let browsers: Vec<&str> =
        ids.iter().filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.as_str()).collect();
    let (found, served) =
        tokio::join!(lookup::canonicals(core, org, &ids), consent::served(core, org, &browsers));
    let found = found?;
    // Asked for only where Redis lacks something.
    let somebody = LazyLock::new(|| {
        let known = ids.iter().zip(&found).filter(|(_, canonical)| canonical.is_some());
        known.map(|(id, _)| (id.kind, id.value.as_str())).collect::<HashSet<_>>()
    });
    let has = |browser: &str| somebody.contains(&(Kind::AnonymousId, browser));
    let consents = consent::stored(core, org, served, has).await?;
    let mut found = found.iter().copied();
    let canonicals: Vec<Option<Uuid>> = wanted
        .iter()
        .map(|one| match one {
            Wanted::Canonical(id) => Some(*id),
            Wanted::Identifier(_) => found.next().flatten(),
            Wanted::Nobody => None,
        })
        .collect();
    let mut asked: Vec<Uuid> = canonicals.iter().flatten().copied().collect();
    asked.sort_unstable();
    asked.dedup();
    let known = load(core, org, &asked, fields, now).await?;
    Ok(wanted
        .iter()
        .zip(canonicals)
        .map(|(one, canonical)| {
            let Some((root, stored)) = canonical.and_then(|id| known.get(&id)) else {
                return IdentityVendorIds::default();
            };
            let consent = match one {
                Wanted::Identifier(id) if id.kind == Kind::AnonymousId => consents.get(&id.value),
                _ => None,
            };
            answer(*root, stored, consent, fields, now)
        })
        .collect())
}

/// Root and hash of each canonical ID that exists.
async fn load(
    core: &Core,
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
    let answers: Vec<Value> = match core.stores.redis.pipeline(&pipe).await {
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
            Text::Ready(_) => {
                known.insert(*canonical, (*canonical, hash));
                continue;
            }
            Text::Missing if !is_away => missing.push(keys::vendor_ids(org, *canonical)),
            Text::Missing | Text::Marked => {}
        }
        unknown.push(*canonical);
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    let lost = read_through::through(&core.stores, &missing, async {
        let mut connection = core.stores.connection().await?;
        let roots = identities::roots(&mut connection, org, &unknown).await?;
        let live: Vec<Uuid> = roots.iter().flatten().copied().collect();
        let mut rows: HashMap<Uuid, Vec<VendorIdRow>> = HashMap::new();
        for row in vendor_ids::find(&mut connection, org, &live).await? {
            rows.entry(row.canonical_id).or_default().push(row);
        }
        let newest: HashMap<Uuid, _> =
            consents::newest(&mut connection, org, &live).await?.into_iter().collect();
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
        projections::refresh(core, org, lost, now).await;
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
        json: consent::text(entry).map(str::to_owned),
        sec_gpc: entry.sec_gpc,
        updated_at: Some(timestamp(updated_at)),
    })
}
