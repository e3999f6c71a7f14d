//! Finding known identities, without making any.

use proto::v1::{ErrorReason, IdentityRef, identity_ref::Id};
use uuid::Uuid;

use super::{
    Stores,
    cache_entries::{self, ConsentEntry},
    consents,
    postgres::identities,
    read_through,
    redis::{
        keys::{self, Key},
        protocol::Cached,
    },
};
use crate::{
    error::{Error, Result},
    identifiers::{self, Identifier, Kind, Parsed},
};

/// An identity as a service names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityName {
    /// The ID that decides who it is.
    pub named: Named,
    /// The browser for which the identity is asked, where another ID names it.
    beside: Option<Identifier>,
}

/// The ID that names an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Named by its canonical ID.
    Canonical(Uuid),
    /// Named by a browser's or a user's ID.
    Identifier(Identifier),
    /// Named by a placeholder, by which nobody is known.
    Nobody,
}

impl IdentityName {
    /// Reads a reference. A missing or malformed one is an error, in which `field` names it.
    pub fn parse(reference: Option<IdentityRef>, field: impl Fn() -> String) -> Result<Self> {
        let IdentityRef { id, browser } = reference.unwrap_or_default();
        let invalid = |field| Error::Refused { reason: ErrorReason::InvalidIdentifier, field: Some(field) };
        let (kind, text) = match id {
            None => return Err(Error::invalid(field())),
            Some(Id::CanonicalId(id)) => (None, id),
            Some(Id::AnonymousId(id)) => (Some(Kind::AnonymousId), id),
            Some(Id::UserId(id)) => (Some(Kind::UserId), id),
        };
        let named = match kind {
            None => Named::Canonical(Uuid::try_parse(&text).map_err(|_| Error::invalid(field()))?),
            Some(kind) => match identifiers::parse(kind, &text, identifiers::MAX_BYTES) {
                Parsed::Ok(id) => Named::Identifier(id),
                Parsed::Junk => Named::Nobody,
                Parsed::Absent | Parsed::Invalid => return Err(invalid(field())),
            },
        };
        let browser = browser.unwrap_or_default();
        let beside = match identifiers::parse(Kind::AnonymousId, &browser, identifiers::MAX_BYTES) {
            Parsed::Ok(id) => Some(id),
            Parsed::Absent | Parsed::Junk => None,
            Parsed::Invalid => return Err(invalid(format!("{}.browser", field()))),
        };
        Ok(Self { named, beside })
    }

    /// True where a browser names the identity, and it is that browser for which it is asked.
    pub fn is_browser(&self) -> bool {
        matches!(&self.named, Named::Identifier(id) if id.kind == Kind::AnonymousId) && self.beside.is_none()
    }

    /// True where a browser is named beside the ID that decides.
    pub fn has_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// The anonymous ID of the browser for which the identity is asked; none where it is for the person.
    pub fn browser(&self) -> Option<&str> {
        let own = match &self.named {
            Named::Identifier(id) if id.kind == Kind::AnonymousId => Some(id.value.as_str()),
            Named::Identifier(_) | Named::Canonical(_) | Named::Nobody => None,
        };
        self.beside.as_ref().map(|id| id.value.as_str()).or(own)
    }
}

/// The canonical identity of each identifier; none where nobody is known by it. One round trip where Redis
/// knows all of them.
pub async fn canonicals(stores: &Stores, org: Uuid, ids: &[Identifier]) -> Result<Vec<Option<Uuid>>> {
    let asked: Vec<Key> = ids.iter().map(|id| keys::canonical(org, id)).collect();
    let answers = stores.redis.texts(&asked).await;
    let mut found: Vec<Option<Uuid>> = Vec::with_capacity(ids.len());
    let mut unknown: Vec<(usize, Identifier)> = Vec::new();
    let (mut missing, mut junk): (Vec<Key>, Vec<Key>) = (Vec::new(), Vec::new());
    for (at, ((id, key), answer)) in ids.iter().zip(asked).zip(answers).enumerate() {
        let answer = answer.parse(|text| Uuid::try_parse(&text).ok());
        if let Cached::Hit(canonical) = answer {
            found.push(Some(canonical));
            continue;
        }
        found.push(None);
        unknown.push((at, id.clone()));
        if answer == Cached::Junk {
            junk.push(key.clone());
        }
        if answer != Cached::Busy {
            missing.push(key);
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    stores.redis.drop_junk(junk).await;
    read_through::through(stores, &missing, async {
        let wanted: Vec<Identifier> = unknown.iter().map(|(_, id)| id.clone()).collect();
        let roots = retry_lost!({ identities::find(&mut *stores.connection().await?, org, &wanted).await })?;
        let mut entries = Vec::with_capacity(roots.len());
        for ((at, id), root) in unknown.iter().zip(roots) {
            entries.push(cache_entries::canonical(org, id, root));
            if let Some(slot) = found.get_mut(*at) {
                *slot = root;
            }
        }
        Ok(((), entries))
    })
    .await?;
    Ok(found)
}

/// A browser's canonical identity and stored consent, asked for at the same time.
pub async fn with_consent(
    stores: &Stores,
    org: Uuid,
    browser: &Identifier,
) -> Result<(Option<Uuid>, ConsentEntry)> {
    let value = [browser.value.as_str()];
    let (canonical, served) = tokio::join!(
        canonicals(stores, org, std::slice::from_ref(browser)),
        consents::served(stores, org, &value),
    );
    let canonical = canonical?.into_iter().next().flatten();
    let mut stored = consents::stored(stores, org, served, |_| canonical.is_some()).await?;
    let consent = stored.remove(&browser.value).unwrap_or_else(|| cache_entries::consent_entry(None));
    Ok((canonical, consent))
}

/// The root of one identity; none where nobody is known by it.
pub async fn root(stores: &Stores, org: Uuid, name: &IdentityName) -> Result<Option<Uuid>> {
    match &name.named {
        Named::Nobody => Ok(None),
        Named::Identifier(id) => {
            Ok(canonicals(stores, org, std::slice::from_ref(id)).await?.into_iter().next().flatten())
        }
        Named::Canonical(id) => {
            let roots =
                retry_lost!({ identities::roots(&mut *stores.connection().await?, org, &[*id]).await })?;
            Ok(roots.into_iter().next().flatten())
        }
    }
}
