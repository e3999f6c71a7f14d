//! The rules: what one event says about who is who, and what is made of it.

use std::collections::BTreeSet;

use proto::v1::{Refusal, RefusalReason};
use uuid::Uuid;

use super::{Claims, Graph};
use crate::{
    identifiers::{Identifier, Kind},
    storage::via::Via,
};

/// Applies what an event says, and returns what of it was refused. `linked` is the browser that its link
/// token names, where that counts. Afterwards every identifier has a canonical identity. Saying the same
/// again changes nothing.
pub fn apply(graph: &mut Graph, person: &Claims, linked: Option<&Identifier>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |identifier: &str, reason: RefusalReason| {
        refusals.push(Refusal { identifier: identifier.to_owned(), reason: reason.into() });
    };
    if let Some(browser) = person.browser() {
        match graph.home(browser) {
            None => _ = graph.make(browser, Via::Own),
            Some(home)
                if person.reset && !is_new(graph, home, browser) && !is_repeated(graph, home, person) =>
            {
                if is_outdated(graph, person) {
                    refuse("anonymous_id", RefusalReason::Outdated);
                } else {
                    begin_anew(graph, home, person, browser);
                }
            }
            Some(_) => {}
        }
        // What is refused leaves nothing behind.
        if !is_outdated(graph, person) {
            graph.resets.extend(person.replaced.iter().map(|old| (browser.value.clone(), old.value.clone())));
        }
    }
    if let Some(user) = &person.user
        && let Err(reason) = login(graph, person, user)
    {
        refuse("user_id", reason);
    }
    if let Some(browser) = person.browser() {
        let others = [
            ("cookie_anonymous_id", person.cookie.as_ref(), Via::Cookie),
            ("link_token", linked, Via::LinkToken),
        ];
        for (name, other, via) in others {
            if let Some(other) = other
                && let Err(reason) = recognise(graph, browser, other, via)
            {
                refuse(name, reason);
            }
        }
    }
    let present: Vec<&Identifier> = person.ids().chain(linked).collect();
    let now = graph.now;
    for id in &present {
        if let Some(home) = graph.home(id) {
            graph.trim(home, &present);
            let Some(cluster) = graph.clusters.get_mut(&home) else { continue };
            cluster.last_seen_on = cluster.last_seen_on.max(now.date());
            if let Some(link) = cluster.links.get_mut(*id) {
                link.last_used_at = now;
            }
            tie(graph, home, id, person);
        }
    }
    // Only now is it known who has named whom.
    let homes: BTreeSet<Uuid> =
        person.ids().chain(linked).chain(&person.replaced).filter_map(|id| graph.home(id)).collect();
    for home in homes {
        keep_apart(graph, home);
    }
    refusals
}

/// Notes how the user, and the browser that names them, have come to the identity. A stronger way takes a weaker
/// one's place; that counts as a change, so that the same message does not do it again.
fn tie(graph: &mut Graph, home: Uuid, id: &Identifier, person: &Claims) {
    let Some(cluster) = graph.clusters.get_mut(&home) else { return };
    let names_user = person.user.is_some() && cluster.user() == person.user.as_ref();
    let is_tied = names_user && (person.user.as_ref() == Some(id) || person.primary == *id);
    if let Some(link) = cluster.links.get_mut(id).filter(|link| is_tied && link.via < person.user_via) {
        link.via = person.user_via;
        graph.edits += 1;
    }
    cluster.settle();
}

/// True where nothing is known of the identity but this browser's ID: it need not start anew.
fn is_new(graph: &Graph, home: Uuid, browser: &Identifier) -> bool {
    graph
        .clusters
        .get(&home)
        .is_some_and(|own| own.vendor_ids.is_empty() && own.links.keys().all(|id| id == browser))
}

/// Takes the browser away from whoever it was. Of a reset that arrives late, what came before may have tied others of
/// before to the user whom the new person has named since.
fn begin_anew(graph: &mut Graph, home: Uuid, person: &Claims, browser: &Identifier) {
    let own = graph.clusters.get(&home).and_then(|own| own.links.get(browser));
    let has_named = graph.user(home).is_some() && own.is_some_and(|link| link.via >= Via::Claim);
    graph.resets.extend(person.replaced.iter().map(|old| (browser.value.clone(), old.value.clone())));
    graph.make(browser, Via::Own);
    if has_named {
        let gone: Vec<String> = graph.replaced_by(&browser.value).into_iter().map(str::to_owned).collect();
        for old in gone {
            part_if_weak(graph, home, &old);
        }
    }
}

/// Takes a browser out of an identity where it has not named the user itself. True where it was there, and did.
fn part_if_weak(graph: &mut Graph, home: Uuid, browser: &str) -> bool {
    let id = Identifier { kind: Kind::AnonymousId, value: browser.to_owned() };
    let via = graph.clusters.get(&home).and_then(|own| own.links.get(&id)).map(|link| link.via);
    match via {
        Some(via) if via < Via::Claim => {
            graph.part_off(&id);
            false
        }
        via => via.is_some(),
    }
}

/// Keeps apart within an identity what began by a reset and what it replaced: a login joins only those who have logged
/// in. Whoever came by a cookie leaves, the newer first.
fn keep_apart(graph: &mut Graph, home: Uuid) {
    if graph.resets.is_empty() {
        return;
    }
    let Some(own) = graph.clusters.get(&home) else { return };
    let browsers: Vec<String> =
        own.links.keys().filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.clone()).collect();
    let pairs: Vec<(&String, &String)> = browsers
        .iter()
        .flat_map(|new| {
            let gone = graph.replaced_by(new);
            browsers
                .iter()
                .filter(move |old| gone.contains(old.as_str()) && *old != new)
                .map(move |old| (new, old))
        })
        .collect();
    for (new, old) in pairs {
        let is_there = |graph: &Graph, browser: &str| {
            let id = Identifier { kind: Kind::AnonymousId, value: browser.to_owned() };
            graph.home(&id) == Some(home)
        };
        if is_there(graph, old) && part_if_weak(graph, home, new) {
            part_if_weak(graph, home, old);
        }
    }
}

/// True where the reset has had its effect already: what it replaced is known, and is not there, nor any user.
fn is_repeated(graph: &Graph, home: Uuid, person: &Claims) -> bool {
    let reset = |old: &Identifier| (person.primary.value.clone(), old.value.clone());
    !person.replaced.is_empty()
        && graph.user(home).is_none()
        && person
            .replaced
            .iter()
            .all(|old| graph.resets.contains(&reset(old)) && graph.home(old) != Some(home))
}

/// True where the event was signed before its browser came to where it is.
fn is_outdated(graph: &Graph, person: &Claims) -> bool {
    person.browser().zip(person.signed_until).is_some_and(|(browser, at)| graph.is_newer(browser, at))
}

/// Puts the user on this browser. Where somebody else was there before, the browser goes to the newest login,
/// and what the earlier person has stays theirs.
fn login(graph: &mut Graph, person: &Claims, user: &Identifier) -> Result<(), RefusalReason> {
    let via = person.user_via;
    let browser = person.browser();
    let Some((browser, own)) = browser.and_then(|browser| Some((browser, graph.home(browser)?))) else {
        if graph.home(user).is_none() {
            graph.make(user, via);
        }
        return Ok(());
    };
    let theirs = graph.home(user);
    if theirs == Some(own) {
        return Ok(());
    }
    if graph.user(own).is_some() && is_outdated(graph, person) {
        if theirs.is_none() {
            graph.make(user, via);
        }
        return Err(RefusalReason::Outdated);
    }
    if graph.user(own).is_some() {
        match theirs {
            Some(theirs) if graph.admit(theirs, via) => graph.put(browser, theirs, via),
            // Better nobody's than somebody else's.
            Some(_) => {
                graph.make(browser, Via::Own);
                return Err(RefusalReason::TooManyLinks);
            }
            None => {
                let theirs = graph.make(user, via);
                graph.admit(theirs, via);
                graph.put(browser, theirs, via);
            }
        }
        return Err(RefusalReason::DifferentUsers);
    }
    match theirs {
        Some(theirs) => graph.join(own, theirs, via).map(|_| ()),
        None if graph.admit(own, via) => {
            graph.put(user, own, via);
            Ok(())
        }
        None => {
            graph.make(user, via);
            Err(RefusalReason::TooManyLinks)
        }
    }
}

/// Links the ID that the browser had before, or that it has on another of the customer's domains.
fn recognise(
    graph: &mut Graph,
    browser: &Identifier,
    other: &Identifier,
    via: Via,
) -> Result<(), RefusalReason> {
    let Some(own) = graph.home(browser) else { return Ok(()) };
    let home = graph.home(other);
    if home != Some(own) && (graph.began_from(browser, other) || graph.began_from(other, browser)) {
        if home.is_none() {
            graph.make(other, Via::Own);
        }
        return Err(RefusalReason::Reset);
    }
    match home {
        Some(home) if home == own => Ok(()),
        Some(home) => {
            let joined = graph.join(own, home, via)?;
            graph.join_by(joined, via);
            Ok(())
        }
        None if graph.admit(own, via) => {
            graph.put(other, own, via);
            graph.join_by(own, via);
            Ok(())
        }
        None => {
            graph.make(other, Via::Own);
            Err(RefusalReason::TooManyLinks)
        }
    }
}
