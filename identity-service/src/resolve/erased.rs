//! Refusing signed calls that are older than an erasure, or may be.

use proto::v1::ErrorReason;
use time::{Duration, OffsetDateTime};

use super::{Resolver, facts::Facts, subject::Person};
use crate::{
    auth::{Tenant, signature::SignedAt},
    error::{Error, Result},
    pii::Digest,
    storage::{postgres::erased, retry_lost},
};

/// Time within which a signed call mostly arrives. Whoever was erased can't be known again sooner, by fresh events.
const ON_TIME: Duration = Duration::seconds(5);

/// Refuses what was signed before somebody in it was erased: it would bring back what is gone. That can only be so
/// where somebody in it is unknown, or it comes late, or does not say when it was signed.
pub async fn refuse(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &mut [Result<Person>],
    facts: &Facts,
    now: OffsetDateTime,
) -> Result<()> {
    let digests = |person: &Person| -> Vec<Digest> {
        person.claims.ids().flat_map(|id| resolver.tombstones.digests(tenant.org, id)).collect()
    };
    let unknown = |person: &Person| person.claims.ids().any(|id| facts.canonical(id).is_none());
    let is_suspect = |person: &&Person| match person.signed_at {
        None => false,
        Some(SignedAt::Within(from, _)) => now - from > ON_TIME || unknown(person),
        Some(SignedAt::Unknown) => true,
    };
    let asked: Vec<Digest> = people.iter().flatten().filter(is_suspect).flat_map(digests).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let stores = &resolver.stores;
    let found = retry_lost!({ erased::find(&mut *stores.connection().await?, tenant.org, &asked).await });
    let found = match found {
        Ok(found) => found,
        // While nothing can be stored, nothing is brought back either.
        Err(_) if !people.iter().flatten().any(unknown) => return Ok(()),
        Err(error) => return Err(error),
    };
    for person in people {
        let Ok(known) = person else { continue };
        let Some(erased_at) = digests(known).iter().filter_map(|digest| found.get(digest)).max() else {
            continue;
        };
        match known.signed_at {
            Some(SignedAt::Within(from, _)) if *erased_at >= from => {
                *person = Err(Error::refused(ErrorReason::Erased));
            }
            Some(SignedAt::Unknown) => *person = Err(Error::Unstamped),
            _ => {}
        }
    }
    Ok(())
}
