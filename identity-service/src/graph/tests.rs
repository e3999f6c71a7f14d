//! The rules, one by one.

use proto::v1::RefusalReason;
use time::{Duration, macros::datetime};

use super::*;
use crate::storage::postgres::rows::{Owner, VendorIdRow};

const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

fn id(text: &str) -> Identifier {
    let kind = if text.starts_with('u') { Kind::UserId } else { Kind::AnonymousId };
    Identifier { kind, value: text.to_owned() }
}

/// `browser user cookie`, each `-` for none.
fn person(text: &str) -> Claims {
    let mut ids = text.split(' ').map(|text| Some(id(text)).filter(|_| text != "-"));
    let browser = ids.next().flatten();
    let user = ids.next().flatten();
    Claims {
        primary: browser.or_else(|| user.clone()).unwrap(),
        user,
        user_via: Via::Claim,
        token_issued_at: None,
        cookie: ids.next().flatten(),
        link: None,
        reset: false,
        replaced: Vec::new(),
        signed_until: None,
        message: None,
    }
}

fn say(graph: &mut Graph, text: &str) -> Vec<(String, RefusalReason)> {
    let refusals = rules::apply(graph, &person(text), None);
    refusals.into_iter().map(|refusal| (refusal.identifier.clone(), refusal.reason())).collect()
}

fn graph() -> Graph {
    Graph::new(Vec::new(), NOW)
}

/// The graph as the next transaction finds it.
fn stored(mut graph: Graph, now: OffsetDateTime) -> Graph {
    for cluster in graph.clusters.values_mut() {
        cluster.made = false;
    }
    Graph { merges: Vec::new(), edits: 0, now, said_at: now, ..graph }
}

fn together(graph: &Graph, one: &str, other: &str) -> bool {
    graph.home(&id(one)) == graph.home(&id(other)) && graph.home(&id(one)).is_some()
}

/// Gives a browser or user an ID of its own.
fn give(graph: &mut Graph, whom: &str, value: &str, collected_at: OffsetDateTime) {
    let canonical_id = graph.home(&id(whom)).unwrap();
    let row = VendorIdRow {
        canonical_id,
        field: "gclid".to_owned(),
        owner: Owner::of(&id(whom)),
        value: value.to_owned(),
        source: "click".to_owned(),
        collected_at,
        expires_at: collected_at + Duration::days(90),
        pipeline_id: None,
        is_withheld: false,
    };
    graph.clusters.get_mut(&canonical_id).unwrap().put_id(row, NOW);
}

/// The IDs of somebody's identity, each as `owner:value`.
fn given(graph: &Graph, whom: &str) -> Vec<String> {
    let cluster = &graph.clusters[&graph.home(&id(whom)).unwrap()];
    assert!(cluster.vendor_ids.values().all(|row| row.canonical_id == cluster.id));
    cluster.vendor_ids.values().map(|row| format!("{}:{}", row.owner.text(), row.value)).collect()
}

fn via(graph: &Graph, whom: &str) -> Via {
    graph.clusters[&graph.home(&id(whom)).unwrap()].links[&id(whom)].via
}

#[test]
fn what_belongs_together_is_one_in_any_order() {
    let mut says = ["a u -", "b u -", "c - b", "d - a"];
    for _ in 0..says.len() {
        says.rotate_left(1);
        let mut graph = graph();
        for text in says {
            assert_eq!(say(&mut graph, text), []);
            graph = stored(graph, NOW);
        }
        assert!(["b", "c", "d", "u"].into_iter().all(|other| together(&graph, "a", other)), "{says:?}");
        assert_eq!(graph.clusters.len(), 1);
        let edits = says.iter().map(|text| say(&mut graph, text).len()).sum::<usize>() + graph.edits;
        assert_eq!(edits, 0, "saying it again changes nothing");
    }
}

#[test]
fn the_one_with_a_user_survives_else_the_older_and_knowledge_goes_along() {
    let mut graph = graph();
    say(&mut graph, "old - -");
    say(&mut graph, "new - -");
    say(&mut graph, "a u -");
    give(&mut graph, "old", "earlier", NOW - Duration::hours(1));
    give(&mut graph, "a", "later", NOW);
    graph = stored(graph, NOW);
    let (old, known) = (graph.home(&id("old")), graph.home(&id("u")));
    say(&mut graph, "old - new");
    assert_eq!(graph.home(&id("new")), old);
    say(&mut graph, "a - old");
    assert_eq!(graph.home(&id("old")), known);
    assert_eq!(given(&graph, "new"), ["a:later", "old:earlier"]);
    assert_eq!(graph.merges.len(), 2);
}

#[test]
fn two_users_are_never_one_and_the_browser_goes_to_the_newest_login() {
    let mut graph = graph();
    say(&mut graph, "tablet u1 -");
    give(&mut graph, "tablet", "u1's", NOW);
    graph = stored(graph, NOW);
    assert_eq!(say(&mut graph, "tablet u2 -"), [("user_id".to_owned(), RefusalReason::DifferentUsers)]);
    assert!(together(&graph, "tablet", "u2") && !together(&graph, "u1", "u2"));
    assert_eq!((given(&graph, "u1"), given(&graph, "tablet")), (vec![":u1's".to_owned()], vec![]));
    say(&mut graph, "phone u1 -");
    let refused = say(&mut graph, "phone u1 tablet");
    assert_eq!(refused, [("cookie_anonymous_id".to_owned(), RefusalReason::DifferentUsers)]);
    assert!(graph.merges.is_empty() && !together(&graph, "phone", "tablet"));
}

#[test]
fn claims_without_end_do_not_drop_a_browser_that_has_shown_a_proof() {
    let (mut graph, mut now) = (graph(), NOW);
    prove(&mut graph, "a u -", Via::UserHash);
    for n in 0..60 {
        // A few a day, all of them later than the proof.
        now += Duration::hours(2);
        graph = stored(graph, now);
        say(&mut graph, &format!("b{n} u -"));
    }
    let cluster = &graph.clusters[&graph.home(&id("u")).unwrap()];
    assert_eq!((cluster.links.len(), via(&graph, "a")), (MAX_IDENTIFIERS, Via::UserHash));
    assert!(together(&graph, "a", "u") && graph.home(&id("b0")).is_none());
}

#[test]
fn a_reset_makes_a_stranger_once() {
    let mut graph = graph();
    say(&mut graph, "a u -");
    graph = stored(graph, NOW);
    let reset = Claims { reset: true, ..person("a - -") };
    rules::apply(&mut graph, &reset, None);
    assert!(!together(&graph, "a", "u"));
    graph = stored(graph, NOW);
    rules::apply(&mut graph, &reset, None);
    assert_eq!(graph.edits, 0, "it is one already");
}

#[test]
fn twenty_links_a_day_and_fifty_identifiers_at_most() {
    let (mut graph, mut now) = (graph(), NOW);
    say(&mut graph, "b0 u -");
    for day in 0..4 {
        for n in 0..30 {
            now += Duration::seconds(1);
            graph = stored(graph, now);
            let name = format!("b{}", day * 30 + n + 1);
            let refused = say(&mut graph, &format!("{name} u -"));
            let allowed = if day == 0 { 19 } else { 20 };
            let expected =
                if n < allowed { vec![] } else { vec![("user_id".to_owned(), RefusalReason::TooManyLinks)] };
            assert_eq!(refused, expected, "{day} {n}");
            assert!(graph.home(&id(&name)).is_some(), "the event counts all the same");
        }
        now += Duration::days(1);
    }
    let cluster = &graph.clusters[&graph.home(&id("u")).unwrap()];
    assert_eq!(cluster.links.len(), MAX_IDENTIFIERS);
    assert!(graph.home(&id("b0")).is_none(), "unused longest");
    assert!(together(&graph, "u", "b110"));
}

fn prove(graph: &mut Graph, text: &str, via: Via) {
    rules::apply(graph, &Claims { user_via: via, ..person(text) }, None);
}

#[test]
fn a_browser_s_way_is_the_strongest_by_which_it_named_the_user_or_how_it_joined() {
    let mut graph = graph();
    say(&mut graph, "a - -");
    assert_eq!(via(&graph, "a"), Via::Own);
    say(&mut graph, "a u -");
    assert_eq!((via(&graph, "a"), via(&graph, "u")), (Via::Claim, Via::Claim));
    say(&mut graph, "b - a");
    rules::apply(&mut graph, &person("c - -"), Some(&id("a")));
    assert_eq!((via(&graph, "b"), via(&graph, "c")), (Via::Cookie, Via::LinkToken));
    prove(&mut graph, "b u -", Via::UserHash);
    say(&mut graph, "b u -");
    assert_eq!(
        (via(&graph, "b"), via(&graph, "u")),
        (Via::UserHash, Via::UserHash),
        "a claim takes nothing back"
    );
    prove(&mut graph, "c u -", Via::Signed);
    assert_eq!(
        (via(&graph, "a"), via(&graph, "c"), via(&graph, "u")),
        (Via::Claim, Via::Signed, Via::Signed)
    );
}

#[test]
fn browsers_that_came_together_before_there_was_a_user_came_to_them_in_that_way() {
    let mut graph = graph();
    say(&mut graph, "b - a");
    rules::apply(&mut graph, &person("c - -"), Some(&id("d")));
    prove(&mut graph, "a u -", Via::Signed);
    say(&mut graph, "c u2 -");
    assert_eq!((via(&graph, "a"), via(&graph, "b")), (Via::Signed, Via::Cookie));
    assert_eq!((via(&graph, "c"), via(&graph, "d")), (Via::Claim, Via::LinkToken));
}

#[test]
fn a_proof_does_not_go_along_to_another_user_nor_into_a_reset() {
    let mut graph = graph();
    prove(&mut graph, "a u1 -", Via::Signed);
    say(&mut graph, "a u2 -");
    assert_eq!(
        (via(&graph, "a"), via(&graph, "u1"), via(&graph, "u2")),
        (Via::Claim, Via::Signed, Via::Claim)
    );
    prove(&mut graph, "a u2 -", Via::UserHash);
    rules::apply(&mut graph, &Claims { reset: true, ..person("a - -") }, None);
    assert_eq!(via(&graph, "a"), Via::Own);
}

#[test]
fn of_what_nobody_owns_any_more_the_newest_that_lives_stays() {
    let mut graph = graph();
    for (browser, days) in [("a", 3), ("b", 100), ("c", 2)] {
        say(&mut graph, &format!("{browser} u1 -"));
        give(&mut graph, browser, browser, NOW - Duration::days(days));
    }
    for browser in ["a", "b", "c"] {
        say(&mut graph, &format!("{browser} u2 -"));
    }
    assert_eq!((given(&graph, "u1"), given(&graph, "u2")), (vec![":c".to_owned()], vec![]));
}

#[test]
fn taken_apart_each_has_its_own_and_a_proof_is_no_proof_of_nobody() {
    let mut graph = graph();
    say(&mut graph, "a u -");
    say(&mut graph, "b - -");
    give(&mut graph, "b", "of-b", NOW);
    graph = stored(graph, NOW);
    let (root, merged) = (graph.home(&id("a")).unwrap(), graph.home(&id("b")).unwrap());
    prove(&mut graph, "b u -", Via::Signed);
    give(&mut graph, "a", "of-a", NOW);
    give(&mut graph, "b", "later-of-b", NOW + Duration::hours(1));
    let links = graph.merges[0].moved.links.clone();
    let mut cluster = graph.clusters.remove(&root).unwrap();
    let mut apart = cluster.part(merged, &links, NOW);
    apart.settle();
    assert_eq!(apart.links.values().map(|link| link.via).collect::<Vec<_>>(), [Via::Own]);
    let values = |own: &Cluster| own.vendor_ids.values().map(|row| row.value.clone()).collect::<Vec<_>>();
    assert_eq!((values(&cluster), values(&apart)), (vec!["of-a".to_owned()], vec!["later-of-b".to_owned()]));
}

#[test]
fn a_signed_event_undoes_no_newer_link_and_its_own_counts_from_when_it_was_signed() {
    let mut graph = graph();
    let mut signed = |text: &str, seconds: i64, reset: bool| {
        let at = NOW - Duration::minutes(1) + Duration::seconds(seconds);
        let claims = Claims { signed_until: Some(at), user_via: Via::Signed, reset, ..person(text) };
        graph.said_at = claims.said_at(graph.now);
        let refusals = rules::apply(&mut graph, &claims, None);
        let refused: Vec<_> = refusals.iter().map(|one| (one.identifier.clone(), one.reason())).collect();
        (refused, graph.user(graph.home(&id("a")).unwrap()).map(|user| user.value.clone()))
    };
    let outdated = |what: &str| vec![(what.to_owned(), RefusalReason::Outdated)];
    let moved = || vec![("user_id".to_owned(), RefusalReason::DifferentUsers)];
    let on = |user: &str| Some(user.to_owned());
    assert_eq!(signed("a u1 -", 10, false), (vec![], on("u1")));
    // They arrive in any order, all of them late.
    assert_eq!(signed("a u2 -", 30, false), (moved(), on("u2")));
    assert_eq!(signed("a u1 -", 20, false), (outdated("user_id"), on("u2")));
    assert_eq!(
        signed("a u3 -", 20, false),
        (outdated("user_id"), on("u2")),
        "who has an identity all the same"
    );
    assert_eq!(signed("a - -", 20, true), (outdated("anonymous_id"), on("u2")));
    assert_eq!(signed("a u1 -", 30, false), (moved(), on("u1")), "of one moment the later to come counts");
    assert_eq!(signed("a - -", 40, true), (vec![], None));
    assert_eq!(signed("a u2 -", 600, false), (vec![], on("u2")), "its clock is ahead");
    assert_eq!(signed("a u1 -", 61, false), (moved(), on("u1")));
    assert!(graph.home(&id("u3")).is_some());
}

#[test]
fn claims_do_not_use_up_the_links_of_a_day_that_proofs_need() {
    let mut graph = graph();
    for n in 0..30 {
        rules::apply(&mut graph, &person(&format!("bot{n} u1 -")), None);
    }
    let links = |graph: &Graph| graph.clusters[&graph.home(&id("u1")).unwrap()].links.len();
    assert_eq!(links(&graph), 21, "twenty and the user");
    // Whatever the phone has been linked with today goes along.
    rules::apply(&mut graph, &person("phone - old"), None);
    for (device, via) in [("phone", Via::IdentityToken), ("desktop", Via::UserHash), ("till", Via::Signed)] {
        let refused =
            rules::apply(&mut graph, &Claims { user_via: via, ..person(&format!("{device} u1 -")) }, None);
        assert!(refused.is_empty() && together(&graph, device, "u1"), "{device}: {refused:?}");
    }
    assert_eq!(links(&graph), 25);
    assert_eq!(say(&mut graph, "late u1 -"), [("user_id".to_owned(), RefusalReason::TooManyLinks)]);
    // Proofs have a bound of their own.
    for n in 0..30 {
        prove(&mut graph, &format!("own{n} u1 -"), Via::Signed);
    }
    assert_eq!(links(&graph), 21 + 20);
}

#[test]
fn a_reset_that_is_refused_keeps_nobody_apart() {
    let mut graph = graph();
    say(&mut graph, "b u1 -");
    let mut graph = stored(graph, NOW);
    let late =
        |signed_until| Claims { reset: true, replaced: vec![id("c")], signed_until, ..person("b - -") };
    let refused = rules::apply(&mut graph, &late(Some(NOW - Duration::hours(1))), None);
    assert_eq!(refused[0].reason(), RefusalReason::Outdated);
    assert!(graph.resets.is_empty());
    assert!(rules::apply(&mut graph, &late(None), None).is_empty());
    assert_eq!(graph.resets.len(), 1);
}
