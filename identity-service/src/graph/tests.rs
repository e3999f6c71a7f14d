//! The rules, one by one.

use proto::v1::RefusalReason;
use time::{Duration, macros::datetime};

use super::*;
use crate::storage::postgres::rows::VendorIdRow;

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
        user_verified: false,
        cookie: ids.next().flatten(),
        link: None,
        reset: false,
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
    Graph { merges: Vec::new(), edits: 0, now, ..graph }
}

fn together(graph: &Graph, one: &str, other: &str) -> bool {
    graph.home(&id(one)) == graph.home(&id(other)) && graph.home(&id(one)).is_some()
}

fn give(graph: &mut Graph, whom: &str, value: &str, collected_at: OffsetDateTime) {
    let canonical_id = graph.home(&id(whom)).unwrap();
    let row = VendorIdRow {
        canonical_id,
        field: "gclid".to_owned(),
        value: value.to_owned(),
        source: "click".to_owned(),
        collected_at,
        expires_at: collected_at + Duration::days(90),
        anonymous_id: None,
        pipeline_id: None,
    };
    graph.clusters.get_mut(&canonical_id).unwrap().vendor_ids.insert(row.field.clone(), row);
}

fn given(graph: &Graph, whom: &str) -> Option<String> {
    let cluster = graph.clusters.get(&graph.home(&id(whom))?)?;
    cluster.vendor_ids.get("gclid").map(|row| row.value.clone())
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
    assert_eq!(given(&graph, "new").as_deref(), Some("later"));
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
    assert_eq!((given(&graph, "u1").as_deref(), given(&graph, "tablet")), (Some("u1's"), None));
    say(&mut graph, "phone u1 -");
    let refused = say(&mut graph, "phone u1 tablet");
    assert_eq!(refused, [("cookie_anonymous_id".to_owned(), RefusalReason::DifferentUsers)]);
    assert!(graph.merges.is_empty() && !together(&graph, "phone", "tablet"));
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
