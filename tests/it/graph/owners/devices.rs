//! Devices of one person: each is delivered with what it holds itself, and with the person's last click.

use harness::{
    browser::Browser,
    people::{People, browser, give, login, named, user},
};
use proto::v1::IdentityVendorIds;

use super::{
    super::support::assert_sound,
    support::{Proof, claim, collecting, device, projection, prove, sync, told, visit},
};

fn fbp(page: &Browser) -> &str {
    page.jar.value(&page.collect, "_fbp").unwrap_or_else(|| panic!("no _fbp in {:?}", page.jar))
}

#[tokio::test]
async fn each_device_is_delivered_with_its_own_fbp_and_the_last_click_of_those_with_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut desktop) = (world.browser(), world.browser());
    visit(&mut phone, "?gclid=click-of-phone").await;
    prove(&world, &mut phone, "anna", Proof::UserHash).await;
    world.age("1 day").await;
    visit(&mut desktop, "").await;
    prove(&world, &mut desktop, "anna", Proof::Signed).await;
    assert_ne!(fbp(&phone), fbp(&desktop));
    // Yesterday's click is the last one; then there is another, and another on the phone.
    for (query, click) in [
        (None, "click-of-phone"),
        (Some("?gclid=click-of-desktop"), "click-of-desktop"),
        (Some("?gclid=second-click-of-phone"), "second-click-of-phone"),
    ] {
        if let Some(query) = query {
            let on_phone = query.ends_with("phone");
            visit(if on_phone { &mut phone } else { &mut desktop }, query).await;
        }
        for page in [&phone, &desktop] {
            let values = told(&world, &people, named(device(page))).await;
            assert_eq!((values["fbp"].as_str(), values["gclid"].as_str()), (fbp(page), click));
            harness::eventually("its projection to be back after FLUSHALL", async || {
                people.delivered(device(page)).await;
                let projected = projection(&world, page).await;
                if projected == values { Ok(()) } else { Err(format!("{projected:?}, not {values:?}")) }
            })
            .await;
        }
        let values = told(&world, &people, named(user("anna"))).await;
        assert_eq!((values["fbp"].as_str(), values["gclid"].as_str()), (fbp(&desktop), click), "the newest");
    }

    // What one of them has synced need not be asked for on the other, which has no value of its own.
    sync(&world, &mut desktop, "criteo", "criteo-of-desktop").await;
    let values = told(&world, &people, named(device(&phone))).await;
    assert_eq!(values["criteo_gum_id"], "criteo-of-desktop");
    assert_eq!(visit(&mut phone, "").await.offered(), ["pinterest"]);
    assert_eq!(visit(&mut desktop, "").await.offered(), [""; 0], "offered to the phone a moment ago");
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_click_on_a_device_that_only_claims_is_not_the_last_click_of_one_with_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut desktop) = (world.browser(), world.browser());
    visit(&mut phone, "?gclid=click-of-phone").await;
    claim(&mut phone, "anna").await;
    world.age("1 day").await;
    visit(&mut desktop, "").await;
    prove(&world, &mut desktop, "anna", Proof::UserHash).await;
    let clicks = async || {
        let mut clicks = Vec::new();
        for id in [device(&phone), device(&desktop), user("anna")] {
            let click = told(&world, &people, named(id)).await.remove("gclid");
            clicks.push(click.unwrap_or_else(|| "-".to_owned()));
        }
        clicks
    };
    assert_eq!(clicks().await, ["click-of-phone", "-", "click-of-phone"]);
    visit(&mut desktop.clone(), "?gclid=click-of-desktop").await;
    assert_eq!(clicks().await, ["click-of-desktop"; 3], "it is later, and on a device with a proof");
    visit(&mut phone.clone(), "?gclid=second-click-of-phone").await;
    assert_eq!(clicks().await, ["second-click-of-phone", "click-of-desktop", "click-of-desktop"]);
    assert_sound(&world).await;
}

/// Devices that leave a person leave what they brought. It is nobody's, and so as good as claimed; of several
/// the newest counts.
#[tokio::test]
async fn what_a_device_has_left_with_somebody_is_not_its_own_when_it_comes_back() {
    let world = collecting().await;
    let people = People::of(&world);
    people.see(0, login("home", "anna")).await;
    for (stay, pin) in ["first", "second"].into_iter().enumerate() {
        people.see(stay, login("tablet", "anna")).await;
        give(&world, browser("tablet"), "pin_unauth", pin).await;
        people.see(stay, login("tablet", "bert")).await;
    }
    let pin = |told: IdentityVendorIds| told.vendor_ids.get("pin_unauth").map(|id| id.value.clone());
    let left = Some("second".to_owned());
    for (at, expected) in [("bert", [None, None, left.clone(), None]), ("anna", [None, None, left, None])] {
        people.see(1, login("tablet", at)).await;
        for flush in [false, true] {
            if flush {
                world.flush_redis().await;
            }
            let mut pins = Vec::new();
            for id in [browser("tablet"), browser("home"), user("anna"), user("bert")] {
                pins.push(pin(people.delivered(id).await));
            }
            assert_eq!(pins, expected, "while the tablet is {at}'s");
        }
    }
    assert_sound(&world).await;
}
