//! The vendor IDs of many identities, for delivery: one pipelined read.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};

use bb8_redis::redis::{Pipeline, Value};
use proto::v1::{IdentityVendorIds, StoredConsent, VendorId, VendorIdSource};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    entries, refresh,
    stored::{self, Unread},
};
use crate::{
    clock::{self, timestamp},
    error::Result,
    identifiers::Identifier,
    storage::{
        Stores,
        cache_entries::{self, CONSENT_FIELD, ConsentEntry, NEXT_FIELD, NO_ID, VendorIdEntry},
        consents,
        lookup::{self, IdentityName, Named},
        mark::Mark,
        postgres::identities,
        read_through,
        redis::{
            keys,
            protocol::{self, Entry, VERSION_FIELD, Value as Stored},
        },
        retry_lost,
    },
};

/// Fields of a `cvid:` key in no order: so few that they are searched one by one.
type Fields = Vec<(String, String)>;

/// Answers for those who exist, without the consent of the browsers that they were asked for.
type Found = HashMap<Asked, IdentityVendorIds>;

/// The canonical identity that is asked for, and the mark of the browser for which it is.
type Asked = (Uuid, Option<Mark>);

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
        .filter_map(|name| match &name.named {
            Named::Identifier(id) => Some(id.clone()),
            Named::Canonical(_) | Named::Nobody => None,
        })
        .collect();
    let browsers: Vec<&str> = names.iter().filter_map(IdentityName::browser).collect();
    let marks: Vec<Option<Mark>> = names.iter().map(|name| name.browser().map(Mark::of)).collect();
    let asked = |found: &[Option<Uuid>]| -> Vec<Option<Asked>> {
        let mut found = found.iter().copied();
        let canonical = |(name, mark): (&IdentityName, &Option<Mark>)| match &name.named {
            Named::Canonical(id) => Some((*id, *mark)),
            Named::Identifier(_) => Some((found.next().flatten()?, *mark)),
            Named::Nobody => None,
        };
        names.iter().zip(&marks).map(canonical).collect()
    };
    // Whoever is named by a canonical ID is read at once, with the consent of the browser beside it.
    let (asked, served, known) = if ids.is_empty() {
        let asked = asked(&[]);
        let (served, known) =
            tokio::join!(consents::served(stores, org, &browsers), load(stores, org, &asked, fields, now));
        (asked, served, known?)
    } else {
        let (found, served) =
            tokio::join!(lookup::canonicals(stores, org, &ids), consents::served(stores, org, &browsers));
        let asked = asked(&found?);
        let known = load(stores, org, &asked, fields, now).await?;
        (asked, served, known)
    };
    // Asked for only where Redis lacks something.
    let somebody = LazyLock::new(|| {
        let is_known = |asked: &Option<Asked>| asked.as_ref().is_some_and(|asked| known.contains_key(asked));
        let named = names.iter().zip(&asked).filter(|(name, asked)| name.is_browser() && is_known(asked));
        named.filter_map(|(name, _)| name.browser()).collect::<HashSet<_>>()
    });
    let consents = consents::stored(stores, org, served, |browser| somebody.contains(browser)).await?;
    let answers = names.iter().zip(&asked).map(|(name, asked)| {
        let Some(found) = asked.as_ref().and_then(|asked| known.get(asked)) else {
            return IdentityVendorIds::default();
        };
        let mut answer = found.clone();
        if let Some(own) = name.browser().and_then(|browser| consents.get(browser)) {
            answer.consent = stored_consent(own);
        }
        answer
    });
    Ok(answers.collect())
}

/// Loads the answer of each that exists. Values are in their fields' names: a browser's own in place of the person's.
async fn load(
    stores: &Stores,
    org: Uuid,
    asked: &[Option<Asked>],
    fields: &[String],
    now: OffsetDateTime,
) -> Result<Found> {
    let mut asked: Vec<&Asked> = asked.iter().flatten().collect();
    asked.sort_unstable();
    asked.dedup();
    let mut known = HashMap::with_capacity(asked.len());
    if asked.is_empty() {
        return Ok(known);
    }
    let mut pipe = Pipeline::new();
    for (canonical, mark) in &asked {
        let key = keys::vendor_ids(org, *canonical).name;
        if fields.is_empty() {
            pipe.hgetall(key);
        } else {
            let command = pipe.cmd("HMGET").arg(key).arg(VERSION_FIELD).arg(NEXT_FIELD).arg(CONSENT_FIELD);
            command.arg(fields);
            if let Some(mark) = mark {
                for field in fields {
                    command.arg(cache_entries::own_field(field, *mark));
                }
            }
        }
    }
    let answers = match stores.redis.pipeline(pipe).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::debug!(%error, "redis is away; serving from postgres");
            Vec::new()
        }
    };
    let is_away = answers.is_empty();
    let mut answers = answers.into_iter();
    let (mut unknown, mut missing, mut junk, mut ended) = (Vec::new(), Vec::new(), Vec::new(), false);
    for asked in asked {
        match read(answers.next(), asked, fields, now) {
            Ok(found) => {
                known.insert(*asked, found);
                continue;
            }
            Err(Unread::Missing) if !is_away => missing.push(keys::vendor_ids(org, asked.0)),
            Err(Unread::Junk) => {
                missing.push(keys::vendor_ids(org, asked.0));
                junk.push(keys::vendor_ids(org, asked.0));
            }
            Err(Unread::Ended) => ended = true,
            Err(Unread::Missing | Unread::Busy) => {}
        }
        unknown.push(*asked);
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    stores.redis.drop_junk(junk).await;
    missing.dedup();
    let lost = read_through::through(stores, &missing, async {
        let canonicals: Vec<Uuid> = unknown.iter().map(|(canonical, _)| *canonical).collect();
        let (roots, loaded, delivered) = retry_lost!({
            let mut connection = stores.connection().await?;
            let roots = identities::roots(&mut connection, org, &canonicals).await?;
            let mut live: Vec<Uuid> = roots.iter().flatten().copied().collect();
            live.sort_unstable();
            live.dedup();
            let loaded = entries::load(&mut connection, org, &live).await?;
            let delivered = entries::delivered(&mut connection, org, &loaded, now).await?;
            Ok((roots, loaded, delivered))
        })?;
        let by_root: BTreeMap<&Uuid, &Entry> = loaded.keys().zip(&delivered).collect();
        for (asked, root) in unknown.iter().zip(roots) {
            let Some(root) = root else { continue };
            if let Some(Stored::Hash(stored)) = by_root.get(&root).map(|entry| &entry.value) {
                let hash = Hash { shared: stored.clone(), own: Vec::new() };
                if let Ok(found) = hash.answer(root, asked.1, fields, now) {
                    known.insert(*asked, found);
                }
            }
        }
        let with_ids = loaded.iter().filter(|(_, own)| !own.ids.is_empty());
        Ok((with_ids.map(|(root, _)| *root).collect::<Vec<Uuid>>(), delivered))
    })
    .await?;
    if ended || !missing.is_empty() {
        refresh::refresh(stores, org, lost, now).await;
    }
    Ok(known)
}

/// Reads the answer of one from Redis.
fn read(
    answer: Option<Value>,
    (canonical, mark): &Asked,
    fields: &[String],
    now: OffsetDateTime,
) -> Result<IdentityVendorIds, Unread> {
    let texts = protocol::strings(answer.ok_or(Unread::Missing)?).ok_or(Unread::Junk)?;
    let hash = if fields.is_empty() { whole(texts) } else { some(texts, fields) };
    let (version, next) = (field(&hash.shared, VERSION_FIELD), field(&hash.shared, NEXT_FIELD));
    stored::is_readable(version, next, now)?;
    hash.answer(*canonical, *mark, fields, now)
}

/// The fields of a `cvid:` key as they were read.
struct Hash {
    /// Fields by the names that they have in Redis.
    shared: Fields,
    /// A browser's own of some fields that were asked for, by the names of these fields.
    own: Fields,
}

impl Hash {
    /// The answer for the browser of `mark`: its own values where they are others than the person's, with the newest
    /// consent of the person's where no browser is named. Junk where a field that it needs can't be read.
    fn answer(
        self,
        root: Uuid,
        mark: Option<Mark>,
        fields: &[String],
        now: OffsetDateTime,
    ) -> Result<IdentityVendorIds, Unread> {
        let mut answer = IdentityVendorIds { canonical_id: root.to_string(), ..Default::default() };
        for (name, text) in self.of(mark) {
            if name == CONSENT_FIELD {
                if mark.is_none() {
                    let newest = serde_json::from_str(&text).map_err(|_| Unread::Junk)?;
                    answer.consent = stored_consent(&newest);
                }
            } else if fields.is_empty() || fields.contains(&name) {
                let entry: VendorIdEntry<'_> = serde_json::from_str(&text).map_err(|_| Unread::Junk)?;
                if entry.expires_at > now {
                    answer.vendor_ids.insert(name, vendor_id(entry));
                }
            }
        }
        Ok(answer)
    }

    /// The values for the browser of `mark`: its own where that is another than the person's.
    fn of(self, mark: Option<Mark>) -> Fields {
        let Self { shared, mut own } = self;
        if let Some(mark) = mark {
            let of_browser = |(name, text): &(String, String)| {
                let field = name.strip_prefix('_')?.strip_suffix(mark.as_str())?.strip_suffix('@')?;
                Some((field.to_owned(), text.clone()))
            };
            own.extend(shared.iter().filter_map(of_browser));
        }
        let is_shared = |name: &str| !name.starts_with('_') || name == CONSENT_FIELD;
        let mut values: Fields = shared.into_iter().filter(|(name, _)| is_shared(name)).collect();
        if !own.is_empty() {
            values.retain(|(name, _)| field(&own, name).is_none());
            values.extend(own.into_iter().filter(|(_, text)| text != NO_ID));
        }
        values
    }
}

/// All fields, from the answer to HGETALL.
fn whole(texts: Vec<Option<String>>) -> Hash {
    let mut texts = texts.into_iter();
    let pairs = std::iter::from_fn(|| Some((texts.next()??, texts.next()??)));
    Hash { shared: pairs.collect(), own: Vec::new() }
}

/// The fields that were asked for by name, those of the browser last.
fn some(texts: Vec<Option<String>>, fields: &[String]) -> Hash {
    let mut texts = texts.into_iter();
    let ours = [VERSION_FIELD, NEXT_FIELD, CONSENT_FIELD].into_iter();
    let names = ours.chain(fields.iter().map(String::as_str));
    let found = |(name, text): (&str, Option<String>)| Some((name.to_owned(), text?));
    let shared = names.zip(texts.by_ref()).filter_map(found).collect();
    Hash { shared, own: fields.iter().map(String::as_str).zip(texts).filter_map(found).collect() }
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field == name).map(|(_, text)| text.as_str())
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
        user_id: None,
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
