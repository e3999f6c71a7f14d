//! The transaction that applies what the events of a request say about who is who.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use diesel_async::AsyncPgConnection;
use proto::v1::{Refusal, RefusalReason};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Claims, Graph, rules, writing};
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    pii::{Digest, tombstone::TombstoneKeys},
    storage::{
        change::Change,
        postgres::{erased, graph, identities, pii, proofs, resets},
        redis::protocol::Entry,
        via::Via,
    },
};

/// The events of one request that may change the graph, in order.
pub struct Identify {
    /// The organisation whose graph changes.
    pub org: Uuid,
    /// The events' people, in the order of the events.
    pub people: Vec<Claims>,
    /// Keys that recognise identifiers of people who were erased.
    pub tombstones: Arc<TombstoneKeys>,
    /// Time at which the change happens.
    pub now: OffsetDateTime,
}

/// Result of applying the events of a request.
#[derive(Debug, Default)]
pub struct Identified {
    /// Canonical identity of each identifier, and true where this change made it.
    pub homes: BTreeMap<Identifier, (Uuid, bool)>,
    /// Outcomes, one an event, in their order.
    pub outcomes: Vec<Outcome>,
}

/// Result of applying a single event.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Identifiers and proofs that were left out, each with the reason.
    pub refusals: Vec<Refusal>,
    /// The browser's and the cookie's canonical identity, where these are different people.
    pub distinct_users: Option<(Uuid, Uuid)>,
    /// True where the browser keeps its cookie, though the event names another ID: the two were one before, or the event
    /// is of before the reset by which the cookie's began.
    pub keeps_cookie: bool,
    /// Canonical identities that were merged into another.
    pub merged: Vec<Uuid>,
    /// True where the event took effect; false of a message that did before.
    pub is_applied: bool,
}

impl Change for Identify {
    type Output = Identified;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Identified, Vec<Entry>)> {
        let mut graph = self.lock(connection).await?;
        let proofs = self.proofs(connection).await?;
        let before = graph.clone();
        let mut spent = BTreeSet::new();
        let outcomes: Vec<Outcome> =
            self.people.iter().map(|person| play(&mut graph, person, &proofs, &mut spent)).collect();
        proofs::spend(connection, self.org, &spent, self.now).await?;
        let new = graph.resets.difference(&before.resets).cloned().collect();
        resets::record(connection, self.org, &new, self.now).await?;
        self.note(connection, &graph, &outcomes).await?;
        pii::remove(connection, self.org, &left(&before, &graph)).await?;
        let entries = writing::write(connection, self.org, &before, &mut graph, &[]).await?;
        let made = |id: &Uuid| graph.clusters.get(id).is_some_and(|cluster| cluster.made);
        let named = self.people.iter().flat_map(Claims::named);
        let homes =
            named.filter_map(|id| graph.home(id).map(|home| (id.clone(), (home, made(&home))))).collect();
        Ok((Identified { homes, outcomes }, entries))
    }
}

/// State of the proofs that came with the events.
struct Proofs {
    used: HashSet<Digest>,
    /// Link tokens of browsers that were erased after the token was made.
    erased: HashSet<Digest>,
    /// Users by the time at which they were erased.
    erased_users: HashMap<Identifier, OffsetDateTime>,
}

impl Identify {
    /// Locks everybody whom the events name, and reads them whole.
    async fn lock(&self, connection: &mut AsyncPgConnection) -> Result<Graph> {
        let ids: BTreeSet<&Identifier> = self.people.iter().flat_map(Claims::named).collect();
        let ids: Vec<Identifier> = ids.into_iter().cloned().collect();
        let found = identities::find(connection, self.org, &ids).await?;
        let roots: BTreeSet<Uuid> = found.iter().flatten().copied().collect();
        let roots: Vec<Uuid> = roots.into_iter().collect();
        identities::lock(connection, self.org, roots.iter().copied()).await?;
        let mut graph = Graph::new(graph::clusters(connection, self.org, &roots).await?, self.now);
        let may_meet = |person: &Claims| person.named().nth(1).is_some();
        if self.people.iter().any(may_meet) {
            let linked = graph.homes.keys().chain(&ids).filter(|id| id.kind == Kind::AnonymousId);
            let browsers: BTreeSet<&str> = linked.map(|id| id.value.as_str()).collect();
            let browsers: Vec<&str> = browsers.into_iter().collect();
            let found = resets::among(connection, self.org, &browsers).await?;
            graph.resets = found;
        }
        // What was found before the locks may have moved since.
        if ids.iter().zip(found).all(|(id, root)| graph.home(id) == root) {
            Ok(graph)
        } else {
            Err(Error::Moved)
        }
    }

    async fn proofs(&self, connection: &mut AsyncPgConnection) -> Result<Proofs> {
        let tokens = || self.people.iter().filter_map(|person| person.link.as_ref());
        let messages = self.people.iter().filter_map(|person| person.message);
        let digests: BTreeSet<Digest> = messages.chain(tokens().map(|token| token.digest)).collect();
        let used = proofs::used(connection, self.org, &digests).await?;
        let mut buried: HashMap<Digest, (Digest, OffsetDateTime)> = HashMap::new();
        for token in tokens() {
            for digest in self.tombstones.digests(self.org, &token.browser) {
                buried.insert(digest, (token.digest, token.issued_at));
            }
        }
        let vouched = self.people.iter().filter(|person| person.token_issued_at.is_some());
        let users = vouched.filter_map(|person| person.user.as_ref());
        let users: HashMap<Digest, &Identifier> = users
            .flat_map(|user| {
                self.tombstones.digests(self.org, user).into_iter().map(move |digest| (digest, user))
            })
            .collect();
        let digests: Vec<Digest> = buried.keys().chain(users.keys()).copied().collect();
        let found = erased::find(connection, self.org, &digests).await?;
        let (mut erased, mut erased_users) = (HashSet::new(), HashMap::new());
        for (digest, at) in found {
            erased.extend(
                buried.get(&digest).filter(|(_, issued_at)| *issued_at <= at).map(|(token, _)| *token),
            );
            erased_users.extend(users.get(&digest).map(|user| ((*user).clone(), at)));
        }
        Ok(Proofs { used, erased, erased_users })
    }

    /// Keeps count of what was refused, for whoever looks the person up.
    async fn note(
        &self,
        connection: &mut AsyncPgConnection,
        graph: &Graph,
        outcomes: &[Outcome],
    ) -> Result<()> {
        let mut refused = BTreeSet::new();
        for (person, outcome) in self.people.iter().zip(outcomes) {
            let Some(home) = graph.home(&person.primary) else { continue };
            // An identity that is made just now has no row yet.
            if graph.clusters.get(&home).is_some_and(|cluster| !cluster.made) {
                let reasons = outcome.refusals.iter();
                refused.extend(reasons.map(|one| (home, one.identifier.clone(), one.reason().as_str_name())));
            }
        }
        let refused: Vec<_> = refused.into_iter().collect();
        if refused.is_empty() {
            return Ok(());
        }
        graph::refuse(connection, self.org, &refused, self.now).await
    }
}

/// Identifiers that have left somebody who is still there: their contacts are the earlier person's.
fn left<'a>(before: &'a Graph, after: &Graph) -> Vec<&'a Identifier> {
    let has_left = |(id, home): &(&Identifier, &Uuid)| {
        after.home(id).is_some_and(|now| now != **home) && after.clusters.contains_key(*home)
    };
    before.homes.iter().filter(has_left).map(|(id, _)| id).collect()
}

/// Applies one event to the graph, and adds the proofs that it uses up to `spent`.
fn play(graph: &mut Graph, person: &Claims, proofs: &Proofs, spent: &mut BTreeSet<Digest>) -> Outcome {
    graph.said_at = person.said_at(graph.now);
    if let Some(message) = person.message
        && (proofs.used.contains(&message) || spent.contains(&message))
    {
        // A replay: it has had its effect. Whoever is unknown by now is a stranger.
        for id in person.ids() {
            if graph.home(id).is_none() {
                let is_browser = id.kind == Kind::AnonymousId;
                graph.make(id, if is_browser { Via::Own } else { person.user_via });
            }
        }
        return Outcome::default();
    }
    let (edits, merges) = (graph.edits, graph.merges.len());
    let own = graph.home(&person.primary);
    let was_one = own.is_some() && person.cookie.as_ref().is_some_and(|cookie| graph.home(cookie) == own);
    let mut linked = None;
    let mut refusals = Vec::new();
    let mut refuse = |identifier: &str| {
        let reason = RefusalReason::InvalidProof.into();
        refusals.push(Refusal { identifier: identifier.to_owned(), reason });
    };
    let erased_at = person.user.as_ref().and_then(|user| proofs.erased_users.get(user));
    let unproven;
    let person = if person.token_issued_at.zip(erased_at).is_some_and(|(issued_at, at)| issued_at <= *at) {
        refuse("identity_token");
        unproven = person.without_token();
        &unproven
    } else {
        person
    };
    if let Some(token) = &person.link {
        let known = graph.home(&token.browser);
        let is_joined = known.is_some() && person.browser().and_then(|own| graph.home(own)) == known;
        // A page sends the same URL with each of its events.
        let is_done = is_joined || spent.contains(&token.digest);
        if !is_done && (proofs.used.contains(&token.digest) || proofs.erased.contains(&token.digest)) {
            refuse("link_token");
        } else if !is_done {
            spent.insert(token.digest);
            linked = Some(&token.browser);
        }
    }
    refusals.extend(rules::apply(graph, person, linked));
    if let Some(message) = person.message.filter(|_| graph.edits > edits) {
        spent.insert(message);
    }
    let merged = graph.merges.iter().skip(merges).map(|merge| merge.merged).collect();
    let refused = refusals.iter().find(|refusal| refusal.identifier == "cookie_anonymous_id");
    let refused = refused.map(Refusal::reason).zip(person.cookie.as_ref());
    // As this event has left them: a later one may move the browser.
    let distinct_users = refused
        .filter(|(reason, _)| *reason == RefusalReason::DifferentUsers)
        .and_then(|(_, cookie)| Some((graph.home(&person.primary)?, graph.home(cookie)?)));
    let is_late = refused.is_some_and(|(reason, cookie)| {
        reason == RefusalReason::Reset && graph.began_from(cookie, &person.primary)
    });
    Outcome { refusals, distinct_users, keeps_cookie: was_one || is_late, merged, is_applied: true }
}
