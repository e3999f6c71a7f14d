//! Resolving one request, step by step.

use std::{cell::OnceCell, collections::HashSet};

use proto::v1::{Resolution, Subject};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Resolver, answer, consent, contacts,
    device::{self, Device},
    erased,
    facts::Facts,
    identify, newcomers,
    subject::Person,
};
use crate::{
    auth::Tenant,
    error::Result,
    first_party_ids::visit::{self, Given, Visit},
    graph::transaction::Outcome,
    storage::cache_entries::ConsentEntry,
};

/// A request that is being resolved: its people, and what has been learned and done so far.
struct Resolving<'a> {
    resolver: &'a Resolver,
    tenant: &'a Tenant,
    now: OffsetDateTime,
    /// The people of the subjects, in order. A subject that fails carries its error; the others count.
    people: Vec<Result<Person>>,
    facts: Facts,
    /// Outcomes of those who could be read, in order.
    outcomes: Vec<Outcome>,
    /// Browsers whose consent could not be stored.
    unsaved: HashSet<String>,
    given: Given,
}

impl Resolver {
    /// Resolves `subjects` in order. One that fails carries its error; the others count.
    pub async fn resolve(
        &self,
        tenant: &Tenant,
        mut subjects: Vec<Subject>,
        now: OffsetDateTime,
    ) -> Result<Vec<Resolution>> {
        if tenant.browser {
            device::choose_cookies(self, tenant.org, &mut subjects).await;
        }
        let mut resolving = Resolving::parse(self, tenant, subjects, now);
        resolving.read_ahead().await;
        resolving.refuse_erased().await?;
        resolving.identify().await;
        resolving.store_consent().await;
        resolving.collect().await;
        Ok(resolving.answer().await)
    }
}

impl<'a> Resolving<'a> {
    /// Reads the subjects. Browsers without an ID share one that is made for the request.
    fn parse(
        resolver: &'a Resolver,
        tenant: &'a Tenant,
        subjects: Vec<Subject>,
        now: OffsetDateTime,
    ) -> Self {
        let minted = OnceCell::new();
        let mint = || tenant.browser.then(|| minted.get_or_init(|| Uuid::new_v4().to_string()).clone());
        let tokens = &resolver.link_tokens;
        let mut device = Device::default();
        let mut people = Vec::with_capacity(subjects.len());
        for mut subject in subjects {
            if tenant.browser {
                device.hand_cookie(&mut subject);
            }
            let mut person = Person::parse(subject, tenant, tokens, now, mint);
            if let (Ok(person), true) = (&mut person, tenant.browser) {
                device.note(person);
            }
            people.push(person);
        }
        // A request comes from one browser, whatever IDs its events name: cookies are for the one that counts in the
        // end.
        let last = people.iter().rev().flatten().find_map(|person| person.claims.browser()).cloned();
        for person in people.iter_mut().flatten().filter(|person| person.claims.browser() != last.as_ref()) {
            person.observed.leave_cookies();
        }
        Self {
            resolver,
            tenant,
            now,
            people,
            facts: Facts::default(),
            outcomes: Vec::new(),
            unsaved: HashSet::new(),
            given: Given::default(),
        }
    }

    /// Asks Redis for everything that may be needed, in one round trip.
    async fn read_ahead(&mut self) {
        self.facts = Facts::read_ahead(self.resolver, self.tenant, &named(&self.people), self.now).await;
    }

    /// Refuses what was signed before somebody in it was erased.
    async fn refuse_erased(&mut self) -> Result<()> {
        erased::refuse(self.resolver, self.tenant, &mut self.people, &self.facts, self.now).await
    }

    /// Finds or makes everybody's canonical identity, as many as may be made, and links what belongs together.
    async fn identify(&mut self) {
        let taken = newcomers::admit(self.resolver, self.tenant, &mut self.people, &self.facts);
        let people = named(&self.people);
        self.facts.read_ways(self.resolver, self.tenant, &people, self.now).await;
        self.outcomes = identify::all(self.resolver, self.tenant, &people, &mut self.facts, self.now).await;
        if let Some(taken) = taken {
            newcomers::settle(taken, &people, &self.facts);
        }
    }

    /// Stores the consent signals that came, where they differ from what is stored.
    async fn store_consent(&mut self) {
        let (people, org) = (named(&self.people), self.tenant.org);
        consent::read_rest(self.resolver, org, &people, &mut self.facts).await;
        self.unsaved = consent::replace(self.resolver, self.tenant, &people, &mut self.facts, self.now).await;
    }

    /// Collects click IDs and generated IDs, and keeps the digests of emails and phones.
    async fn collect(&mut self) {
        let people = named(&self.people);
        let new = contacts::new(self.resolver, self.tenant, &people, &self.outcomes, &self.facts, self.now);
        let (given, ()) = tokio::join!(
            collect_ids(self.resolver, self.tenant, &people, &mut self.facts, &self.unsaved, self.now),
            contacts::store(self.resolver, self.tenant.org, new, self.now),
        );
        self.given = given;
    }

    /// Plans syncs, and puts the answers together.
    async fn answer(self) -> Vec<Resolution> {
        let Self { resolver, tenant, now, mut people, mut facts, outcomes, unsaved, mut given } = self;
        let mut outcomes = outcomes.into_iter();
        let mut resolutions = Vec::with_capacity(people.len());
        // By reference, as a person that is moved is room in the future of each call.
        for person in &mut people {
            let resolution = match person {
                Ok(person) => {
                    let outcome = outcomes.next().unwrap_or_default();
                    let saved = person.claims.anonymous_id().is_none_or(|id| !unsaved.contains(id));
                    answer::of_person(resolver, tenant, person, outcome, saved, &mut facts, &mut given, now)
                        .await
                        .unwrap_or_else(|error| answer::failed(&error))
                }
                Err(error) => answer::failed(error),
            };
            answer::count(&resolution);
            resolutions.push(resolution);
        }
        resolutions
    }
}

/// The people who could be read.
fn named(people: &[Result<Person>]) -> Vec<&Person> {
    people.iter().filter_map(|person| person.as_ref().ok()).collect()
}

/// Collects IDs for `people`, who are of one request. `unsaved` are browsers whose consent could not be stored.
async fn collect_ids(
    resolver: &Resolver,
    tenant: &Tenant,
    people: &[&Person],
    facts: &mut Facts,
    unsaved: &HashSet<String>,
    now: OffsetDateTime,
) -> Given {
    let Some(source) = tenant.source.as_deref() else { return Given::default() };
    if !people.iter().any(|person| person.observed.is_any()) {
        return Given::default();
    }
    facts.read_rest(resolver, tenant, people, now).await;
    let facts = &*facts;
    let own_signals: Vec<ConsentEntry> = people.iter().map(|person| person.own_signals()).collect();
    let visits: Vec<Visit<'_>> = people
        .iter()
        .zip(&own_signals)
        .filter_map(|(person, signals)| visit_of(person, signals, facts, unsaved))
        .collect();
    let with_cookies = people.iter().find(|person| person.observed.may_make);
    let own = with_cookies.and_then(|person| Some((person.claims.anonymous_id()?, &person.observed)));
    visit::collect(&resolver.vendor_ids, tenant, source, &visits, own, now).await
}

/// The visit of a person who brings something; none where what is stored for them could not be read. `signals` are
/// the event's own, which count for a user without a browser.
fn visit_of<'a>(
    person: &'a Person,
    signals: &'a ConsentEntry,
    facts: &'a Facts,
    unsaved: &HashSet<String>,
) -> Option<Visit<'a>> {
    let (owner, observed) = (&person.claims.primary, &person.observed);
    let known = facts.canonical(owner)?;
    let stored = facts.stored(known.canonical, person.mark)?;
    let consent = match person.claims.anonymous_id() {
        Some(browser) if unsaved.contains(browser) => return None,
        Some(browser) => facts.consent(browser)?,
        None => signals,
    };
    observed.is_any().then_some(Visit { owner, observed, stored, consent })
}
