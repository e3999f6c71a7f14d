//! Vendor IDs that end: what is left, and what stands behind them, is shown, with an event and without one.

use std::time::Duration;

use harness::{
    browser::Browser,
    people::{People, named, user},
    within,
    world::World,
};

use proto::v1::identity_ref::Id;

use super::{
    super::support::assert_sound,
    support::{Proof, Values, collecting, device, fields, projection, prove, sync, told, visit},
};

/// Time after which no projection lacks a field that lives.
const PROJECTION_LIMIT: Duration = Duration::from_secs(60);

/// Has a device's own value end in a moment, and Redis forget what it knew.
async fn let_end(world: &World, page: &Browser, field: &str) {
    let sql = format!(
        "UPDATE vendor_ids SET expires_at = now() + interval '3 seconds'
         WHERE field = '{field}' AND owner = '{}'",
        page.aid()
    );
    world.database.execute(&sql).await;
    world.flush_redis().await;
}

/// Has both cores fill Redis again. They may differ: a value may end between the one's answer and the other's.
async fn fill(people: &People, ids: &[Id]) {
    for core in 0..2 {
        people.vendor_ids(core, ids.to_vec()).await;
    }
}

/// Waits until every value that was to end has ended.
async fn ended(world: &World) {
    harness::eventually("the values to end", async || {
        match world
            .database
            .count("vendor_ids", "expires_at BETWEEN now() AND now() + interval '1 day'")
            .await
        {
            0 => Ok(()),
            rows => Err(format!("{rows} live")),
        }
    })
    .await;
}

/// Waits until the projection of a device is this, without asking the core for anything.
async fn projected(world: &World, page: &Browser, expected: &Values) {
    within(PROJECTION_LIMIT, "the projection to be written anew", async || {
        let found = projection(world, page).await;
        if found == *expected { Ok(()) } else { Err(format!("{found:?}, not {expected:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_field_that_ends_leaves_the_others_in_the_projection_also_where_nobody_comes() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut laptop) = (world.browser(), world.browser());
    for page in [&mut phone, &mut laptop] {
        visit(page, "").await;
        sync(&world, page, "criteo", "criteo-of-both").await;
        sync(&world, page, "pinterest", "pin-that-ends").await;
    }
    let mut left = Vec::new();
    for page in [&phone, &laptop] {
        let mut values = told(&world, &people, named(device(page))).await;
        assert_eq!(fields(&values), ["criteo_gum_id", "fbp", "pin_unauth"]);
        values.remove("pin_unauth");
        left.push(values);
    }
    for page in [&phone, &laptop] {
        let_end(&world, page, "pin_unauth").await;
    }
    // Redis holds both until then, if the machine is not too slow for that.
    fill(&people, &[device(&phone), device(&laptop)]).await;
    ended(&world).await;
    // One has an event, and nobody comes for the other.
    visit(&mut laptop, "").await;
    projected(&world, &laptop, &left[1]).await;
    projected(&world, &phone, &left[0]).await;
    for (page, left) in [&phone, &laptop].into_iter().zip(&left) {
        assert_eq!(told(&world, &people, named(device(page))).await, *left);
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn when_a_value_ends_the_one_that_stands_behind_it_answers_at_once() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut desktop) = (world.browser(), world.browser());
    for (page, pin) in [(&mut phone, "pin-of-phone"), (&mut desktop, "pin-of-desktop")] {
        visit(page, "").await;
        sync(&world, page, "pinterest", pin).await;
        prove(&world, page, "anna", Proof::UserHash).await;
    }
    let ids = [device(&phone), device(&desktop), user("anna")];
    let pins = async || {
        let mut pins = Vec::new();
        for id in ids.clone() {
            pins.push(people.delivered(id).await.vendor_ids["pin_unauth"].value.clone());
        }
        pins
    };
    assert_eq!(pins().await, ["pin-of-phone", "pin-of-desktop", "pin-of-desktop"]);
    let_end(&world, &desktop, "pin_unauth").await;
    fill(&people, &ids).await;
    ended(&world).await;
    assert_eq!(pins().await, ["pin-of-phone"; 3]);
    let values = told(&world, &people, named(device(&desktop))).await;
    projected(&world, &desktop, &values).await;
    assert_eq!(fields(&values), ["fbp", "pin_unauth"]);
    // The vendor is asked for another when the schedule says so, not before.
    assert_eq!(visit(&mut desktop, "").await.offered(), ["criteo"]);
    assert_sound(&world).await;
}
