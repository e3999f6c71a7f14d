//! The rules: what one event says about who is who, and what is made of it.

use proto::v1::{Refusal, RefusalReason};
use uuid::Uuid;

use super::{Claims, Graph};
use crate::identifiers::Identifier;

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
            None => _ = graph.make(browser, true),
            Some(home) if person.reset && !is_new(graph, home, browser) => _ = graph.make(browser, true),
            Some(_) => {}
        }
    }
    if let Some(user) = &person.user
        && let Err(reason) = login(graph, person.browser(), user, person.user_verified)
    {
        refuse("user_id", reason);
    }
    if let Some(browser) = person.browser() {
        let others = [("cookie_anonymous_id", person.cookie.as_ref()), ("link_token", linked)];
        for (name, other) in others {
            if let Some(other) = other
                && let Err(reason) = recognise(graph, browser, other)
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
                link.verified |= person.user_verified && person.user.as_ref() == Some(*id);
            }
        }
    }
    refusals
}

/// True where nothing is known of the identity but this browser's ID: it need not start anew.
fn is_new(graph: &Graph, home: Uuid, browser: &Identifier) -> bool {
    graph
        .clusters
        .get(&home)
        .is_some_and(|own| own.vendor_ids.is_empty() && own.links.keys().all(|id| id == browser))
}

/// Puts the user on this browser. Where somebody else was there before, the browser goes to the newest login,
/// and what the earlier person has stays theirs.
fn login(
    graph: &mut Graph,
    browser: Option<&Identifier>,
    user: &Identifier,
    verified: bool,
) -> Result<(), RefusalReason> {
    let Some((browser, own)) = browser.and_then(|browser| Some((browser, graph.home(browser)?))) else {
        if graph.home(user).is_none() {
            graph.make(user, verified);
        }
        return Ok(());
    };
    let theirs = graph.home(user);
    if theirs == Some(own) {
        return Ok(());
    }
    if graph.user(own).is_some() {
        match theirs {
            Some(theirs) if graph.admit(theirs) => graph.put(browser, theirs, true),
            // Better nobody's than somebody else's.
            Some(_) => {
                graph.make(browser, true);
                return Err(RefusalReason::TooManyLinks);
            }
            None => {
                let theirs = graph.make(user, verified);
                graph.admit(theirs);
                graph.put(browser, theirs, true);
            }
        }
        return Err(RefusalReason::DifferentUsers);
    }
    match theirs {
        Some(theirs) => graph.join(own, theirs).map(|_| ()),
        None if graph.admit(own) => {
            graph.put(user, own, verified);
            Ok(())
        }
        None => {
            graph.make(user, verified);
            Err(RefusalReason::TooManyLinks)
        }
    }
}

/// Links the ID that the browser had before, or that it has on another of the customer's domains.
fn recognise(graph: &mut Graph, browser: &Identifier, other: &Identifier) -> Result<(), RefusalReason> {
    let Some(own) = graph.home(browser) else { return Ok(()) };
    match graph.home(other) {
        Some(home) if home == own => Ok(()),
        Some(home) => graph.join(own, home).map(|_| ()),
        None if graph.admit(own) => {
            graph.put(other, own, true);
            Ok(())
        }
        None => {
            graph.make(other, true);
            Err(RefusalReason::TooManyLinks)
        }
    }
}
