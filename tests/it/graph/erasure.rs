//! People erased and forgotten: no store, no log and no later call knows them.

use harness::{
    answers::{assert_accepted, assert_gif},
    people::{People, browser, canonical, cookie, give, login, user, visit},
    visits::{denied, granted},
    world::{Options, World},
};
use serde_json::Value;

use super::support::{assert_gone, assert_sound, merged, redis_texts, two_cores};

#[tokio::test]
async fn an_erased_person_is_nowhere_by_whatever_name() {
    let world = two_cores().await;
    let people = People::of(&world);
    for name in 0..3 {
        let (one, other) = merged(&world, &people).await;
        let mut page = world.browser();
        page.anonymous_id = Some("phone".to_owned());
        assert_accepted(&page.view(&denied()).await, 1);
        people.see(1, login("phone", "anna@canary.example")).await;
        let id = match name {
            0 => browser("laptop"),
            1 => user("anna@canary.example"),
            _ => canonical(&other),
        };
        let mut reading = tokio::task::JoinSet::new();
        for core in 0..8 {
            let (people, id) = (people.clone(), canonical(&one));
            reading.spawn(async move { people.vendor_ids(core, vec![id, browser("phone")]).await });
        }
        people.delete(0, id.clone()).await.unwrap();
        reading.join_all().await;
        people.delete(1, id).await.unwrap();
        let left = ["phone", "laptop", "anna@canary.example", "canary-of-", &one, &other];
        // A reader's marker holds nothing and ends by itself; those that hold something must be gone at once.
        assert_gone(&world, &left[2..4]).await;
        for id in [browser("phone"), user("anna@canary.example"), canonical(&one), canonical(&other)] {
            assert_eq!(people.canonical(id).await, "");
        }
        harness::eventually("markers to end", async || {
            let texts = redis_texts(&world).await;
            let own = texts.into_iter().find(|text| left.iter().any(|canary| text.contains(canary)));
            own.map_or(Ok(()), Err)
        })
        .await;
        assert_gone(&world, &left).await;
        let back = people.see(0, visit("phone")).await;
        assert!(back.created && back.canonical_id != one, "a stranger: {back:?}");
        assert!(people.delivered(browser("phone")).await.vendor_ids.is_empty());
        people.delete(0, browser("phone")).await.unwrap();
    }
    people.delete(0, browser("nobody")).await.unwrap();
    assert_sound(&world).await;
}

#[tokio::test]
async fn what_names_a_browser_goes_with_its_last_person_and_what_it_brought_to_others_stays() {
    let world = two_cores().await;
    let people = People::of(&world);
    people.see(0, login("home", "anna")).await;
    let mut tablet = world.browser();
    tablet.anonymous_id = Some("wandering-tablet".to_owned());
    assert_accepted(&tablet.view(&granted()).await, 1);
    assert_gif(tablet.sync("pinterest").await.last().unwrap());
    people.see(0, cookie("home", "wandering-tablet")).await;
    let brought = people.delivered(user("anna")).await.vendor_ids;
    people.see(0, login("wandering-tablet", "bert")).await;
    give(&world, browser("wandering-tablet"), "ttd_id", "canary-of-bert").await;
    people.delete(1, user("bert")).await.unwrap();
    assert_gone(&world, &["wandering-tablet", "bert"]).await;
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        assert_eq!(people.delivered(user("anna")).await.vendor_ids, brought);
    }
    let anna = people.lookup(user("anna")).await.unwrap();
    assert_eq!(anna.identifiers.len(), 2);
    let id = &anna.vendor_ids["pin_unauth"];
    assert_eq!((&id.anonymous_id, &id.user_id), (&None, &None), "nobody's any more");
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_callback_after_an_erasure_stores_nothing() {
    let world = World::start().await;
    let people = People::of(&world);
    let mut page = world.browser();
    page.view(&granted()).await;
    let callback = page.sync_to_vendor("pinterest").await;
    people.delete(0, browser(page.aid())).await.unwrap();
    assert_accepted(&page.view(&granted()).await, 1);
    assert_gif(&page.get(callback.as_str()).await);
    assert_eq!(world.vendor_id(page.aid(), "pin_unauth").await, None, "its state is older than the erasure");
}

/// A page may hold the ID of a visitor who was erased meanwhile: the sync that it starts has to end with 204,
/// also where silence is consent.
#[tokio::test]
async fn a_page_that_was_open_when_its_visitor_was_erased_sends_nobody_to_a_vendor() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    let people = People::of(&world);
    let mut page = world.browser();
    assert_accepted(&page.view(&Value::Null).await, 1);
    people.delete(0, browser(page.aid())).await.unwrap();
    assert_eq!(page.get(&page.sync_url("pinterest")).await.status, 204);
    let refused = [("vendor", "pinterest"), ("reason", "erased")];
    assert_eq!(world.metric("datafly_sync_refused_total", &refused).await, 1.0);
    assert_eq!(world.browser().sync("pinterest").await[0].status, 302, "who is unknown was not erased");
    // Who comes back is a stranger, and as welcome as any.
    assert_eq!(page.view(&Value::Null).await.offered(), ["pinterest"]);
    assert_eq!(page.get(&page.sync_url("pinterest")).await.status, 302);
}

#[tokio::test]
async fn the_reaper_takes_what_is_old_and_nothing_else() {
    let world = two_cores().await;
    let people = People::of(&world);
    for id in ["old", "back", "fresh"] {
        people.see(0, login(id, format!("{id}-user"))).await;
        give(&world, browser(id), "pin_unauth", "live").await;
        give(&world, browser(id), "ttd_id", "expired").await;
    }
    // `back` has been away long, and Redis has forgotten them.
    world
        .database
        .execute(
            "UPDATE canonicals SET last_seen_on = CURRENT_DATE - 399
         WHERE id = (SELECT canonical_id FROM links WHERE value = 'back')",
        )
        .await;
    world.flush_redis().await;
    people.see(1, visit("back")).await;
    let seen =
        "id = (SELECT canonical_id FROM links WHERE value = 'back') AND last_seen_on >= CURRENT_DATE - 1";
    assert_eq!(world.database.count("canonicals", seen).await, 1, "they were seen");
    world
        .database
        .execute(
            "UPDATE vendor_ids SET expires_at = now() - interval '8 days' WHERE field = 'ttd_id';
         UPDATE canonicals SET last_seen_on = CURRENT_DATE - 402
         WHERE id = (SELECT canonical_id FROM links WHERE value = 'old')",
        )
        .await;
    harness::eventually("the reaper", async || {
        let left = world.database.text("SELECT string_agg(value, ' ' ORDER BY value) FROM (SELECT value FROM links UNION ALL SELECT value FROM vendor_ids) all_values").await;
        if left == "back back-user fresh fresh-user live live" { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(people.canonical(browser("old")).await, "");
    assert!(people.see(0, visit("old")).await.created);
    assert_sound(&world).await;
}
