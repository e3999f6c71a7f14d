//! People whom nobody knows yet: an address may bring so many, and events that would bring more are refused. Those of
//! people who are known count all the same.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Resolver, facts::Facts, subject::Person};
use crate::{
    auth::Tenant,
    error::{Error, Result},
    identifiers::Identifier,
    limits::new_identities::Taken,
};

/// Takes what the address of a request may bring for all whom Redis does not know, of whom some may be known to
/// PostgreSQL. Where that is too much their events are refused, before anything of them is stored.
pub fn admit(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &mut [Result<Person>],
    facts: &Facts,
) -> Option<Taken> {
    let network = tenant.network?;
    let ids = people.iter().flatten().flat_map(|person| person.claims.ids());
    let unknown: BTreeSet<&Identifier> = ids.filter(|id| facts.canonical(id).is_none()).collect();
    if unknown.is_empty() {
        return None;
    }
    let taken = resolver.new_identities.take(network, unknown.len());
    if let Err(delay) = taken {
        for slot in people {
            let is_known = |person: &Person| person.claims.ids().all(|id| facts.canonical(id).is_some());
            if slot.as_ref().is_ok_and(|person| !is_known(person)) {
                *slot = Err(Error::RateLimited { delay });
            }
        }
    }
    taken.ok()
}

/// Keeps of what was taken as many as were made, and gives the rest back.
pub fn settle(taken: Taken, people: &[&Person], facts: &Facts) {
    let ids = people.iter().flat_map(|person| person.claims.ids());
    let made = ids.filter_map(|id| facts.canonical(id)).filter(|known| known.created);
    taken.keep(made.map(|known| known.canonical).collect::<BTreeSet<Uuid>>().len());
}
