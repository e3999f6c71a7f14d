//! Refusing signed calls that are older than an erasure.

use proto::v1::ErrorReason;
use time::{Duration, OffsetDateTime};

use super::{Resolver, facts::Facts, subject::Person};
use crate::{
    auth::Tenant,
    error::{Error, Result},
    pii::Digest,
    storage::{postgres::erased, retry_lost},
};

/// Time within which a signed call mostly arrives. Whoever was erased can't be known again sooner, by fresh events.
const ON_TIME: Duration = Duration::seconds(5);

/// Refuses what was signed before somebody in it was erased: it would bring back what is gone. That can only be so
/// where somebody in it is unknown, or it comes late.
pub async fn refuse(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &mut [Result<Person>],
    facts: &Facts,
    now: OffsetDateTime,
) -> Result<()> {
    let Some(signed_at) = tenant.signed_at else { return Ok(()) };
    let is_late = now - signed_at > ON_TIME;
    let digests = |person: &Person| -> Vec<Digest> {
        person.claims.ids().flat_map(|id| resolver.tombstones.digests(tenant.org, id)).collect()
    };
    let unknown = |person: &Person| person.claims.ids().any(|id| facts.canonical(id).is_none());
    let suspects = people.iter().flatten().filter(|person| is_late || unknown(person));
    let asked: Vec<Digest> = suspects.flat_map(digests).collect();
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
        if let Ok(known) = person
            && digests(known).iter().any(|digest| found.get(digest).is_some_and(|at| *at >= signed_at))
        {
            *person = Err(Error::refused(ErrorReason::Erased));
        }
    }
    Ok(())
}
