//! Consent that a device denies: what it has brought answers for nobody else.

use harness::{
    answers::assert_accepted,
    browser::Browser,
    people::{People, beside, named, user},
    visits::{denied, granted},
    world::World,
};
use reqwest::Method;
use serde_json::json;

use super::{
    super::support::assert_sound,
    support::{Proof, Values, claim, collecting, device, projection, prove, sync, told, visit},
};

/// Sends a page view with Global Privacy Control, and consent that would grant.
async fn view_with_gpc(page: &mut Browser) {
    let body = json!({"batch": [page.page_view(&granted())]}).to_string();
    let request = page.request(Method::POST, "/v1/batch").bearer_auth(&page.key).header("sec-gpc", "1");
    assert_accepted(&page.send(request.body(body)).await, 1);
}

/// Checks the click and Pinterest's ID that the desktop and the person are told, and that the phone is told
/// its own.
async fn assert_told(
    world: &World,
    people: &People,
    (phone, desktop): (&Browser, &Browser),
    (click, pin): (Option<&str>, Option<&str>),
    why: &str,
) {
    let own = projection(world, phone).await;
    let seen = projection(world, desktop).await;
    let of = |values: &Values, field: &str| values.get(field).cloned();
    let expected = [click, pin].map(|value| value.map(str::to_owned));
    assert_eq!([of(&seen, "gclid"), of(&seen, "pin_unauth")], expected, "{why}: the desktop's projection");
    for id in [named(device(desktop)), named(user("anna")), beside(user("anna"), desktop.aid())] {
        let values = told(world, people, id.clone()).await;
        assert_eq!([of(&values, "gclid"), of(&values, "pin_unauth")], expected, "{why}: {id:?}");
    }
    for id in [named(device(phone)), beside(user("anna"), phone.aid())] {
        let values = told(world, people, id).await;
        assert_eq!(values, own, "{why}: its own, as in its projection");
        let own = (values["gclid"].as_str(), values["pin_unauth"].as_str());
        assert_eq!(own, ("click-of-phone", "pin-of-phone"), "{why}");
    }
    // FLUSHALL has taken the projections.
    harness::eventually("the projections to be back", async || {
        people.delivered(device(phone)).await;
        let found = (projection(world, phone).await, projection(world, desktop).await);
        if found == (own.clone(), seen.clone()) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_a_device_s_consent_denies_answers_for_nobody_else_until_it_is_granted_again() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut tablet, mut phone, mut desktop) = (world.browser(), world.browser(), world.browser());
    visit(&mut tablet, "").await;
    sync(&world, &mut tablet, "pinterest", "pin-of-tablet").await;
    visit(&mut phone, "?gclid=click-of-phone").await;
    sync(&world, &mut phone, "pinterest", "pin-of-phone").await;
    visit(&mut desktop, "").await;
    for page in [&mut tablet, &mut phone, &mut desktop] {
        prove(&world, page, "anna", Proof::UserHash).await;
    }
    let (all, others) = ((Some("click-of-phone"), Some("pin-of-phone")), (None, Some("pin-of-tablet")));
    assert_told(&world, &people, (&phone, &desktop), all, "granted").await;

    assert_accepted(&phone.view(&denied()).await, 1);
    assert_told(&world, &people, (&phone, &desktop), others, "denied").await;
    assert_accepted(&phone.view(&json!({"marketing": true, "analytics": false})).await, 1);
    assert_told(&world, &people, (&phone, &desktop), all, "another category denied").await;
    view_with_gpc(&mut phone).await;
    assert_told(&world, &people, (&phone, &desktop), others, "Global Privacy Control").await;
    assert_accepted(&phone.view(&json!({"marketing": true, "functional": true})).await, 1);
    assert_told(&world, &people, (&phone, &desktop), all, "granted again").await;

    // The desktop's consent is about what it brings itself.
    assert_accepted(&desktop.view(&denied()).await, 1);
    assert_told(&world, &people, (&phone, &desktop), all, "the desktop's denied").await;

    // Nor does a person who has nobody else have anything.
    assert_accepted(&phone.view(&denied()).await, 1);
    assert_accepted(&tablet.view(&denied()).await, 1);
    assert_told(&world, &people, (&phone, &desktop), (None, None), "all denied").await;
    assert_sound(&world).await;
}

#[tokio::test]
async fn the_person_s_consent_is_that_of_those_who_have_shown_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut stranger) = (world.browser(), world.browser());
    visit(&mut phone, "").await;
    assert_accepted(&phone.view(&denied()).await, 1);
    prove(&world, &mut phone, "anna", Proof::Signed).await;
    visit(&mut stranger, "").await;
    claim(&mut stranger, "anna").await;
    assert_accepted(&stranger.view(&json!({"marketing": true, "functional": true})).await, 1);
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        let [own, person] = [device(&phone), user("anna")];
        let (own, person) = (people.delivered(own).await.consent, people.delivered(person).await.consent);
        assert_eq!(person, own, "nobody who only claims speaks for the person");
        assert!(own.is_some_and(|own| own.json().contains("false")));
    }
    assert_sound(&world).await;
}
