//! Devices that only claim a user: they add and change nothing for those that have shown a proof.

use harness::{
    browser::Browser,
    people::{People, beside, canonical, cookie, login, named, user, vouched},
    visits::make_due,
    world::World,
};
use proto::v1::{Refusal, RefusalReason, Resolution};

use super::{
    super::support::{assert_sound, two_cores},
    support::{Proof, Values, claim, collecting, device, fields, first, prove, sync, told, visit, with},
};

/// Users, and the proof with which each of them comes.
const PROOFS: [(&str, Proof); 3] =
    [("anna", Proof::Signed), ("bert", Proof::UserHash), ("carl", Proof::IdentityToken)];

/// Checks what is told where the first device has shown a proof and the other has not: the first one has its
/// own alone, the other its own before the first one's, and the user the first one's before the other's.
async fn assert_told(
    world: &World,
    people: &People,
    user_id: &str,
    (proven, of_proven): (&Browser, &Values),
    (claiming, of_claiming): (&Browser, &Values),
) {
    let person = canonical(people.canonical(user(user_id)).await);
    for (page, expected) in [(proven, of_proven), (claiming, &first(of_claiming, of_proven))] {
        assert_eq!(told(world, people, named(device(page))).await, *expected);
        let answer = people.delivered(device(page)).await;
        for id in [person.clone(), user(user_id), device(page)] {
            assert_eq!(
                people.delivered_for(beside(id, page.aid())).await,
                answer,
                "with the device beside it"
            );
        }
    }
    for id in [person, user(user_id)] {
        assert_eq!(told(world, people, named(id)).await, first(of_proven, of_claiming));
    }
}

#[tokio::test]
async fn who_only_claims_a_user_changes_nothing_for_the_device_that_has_shown_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    for (user_id, proof) in PROOFS {
        let (mut a, mut b) = (world.browser(), world.browser());
        visit(&mut a, "?gclid=click-of-a").await;
        sync(&world, &mut a, "pinterest", "pin-of-a").await;
        prove(&world, &mut a, user_id, proof).await;
        let of_a = told(&world, &people, named(device(&a))).await;
        assert_eq!(fields(&of_a), ["fbp", "gclid", "pin_unauth"]);

        // B has been somebody before, with values in fields that A lacks.
        visit(&mut b, "?epik=click-of-b").await;
        sync(&world, &mut b, "criteo", "criteo-of-b").await;
        let of_b = told(&world, &people, named(device(&b))).await;
        assert_eq!(fields(&of_b), ["criteo_gum_id", "epik", "fbp"]);
        assert_ne!(of_a["fbp"], of_b["fbp"]);
        assert_eq!(claim(&mut b, user_id).await.offered(), ["pinterest"], "A's sync puts off A alone");
        assert_told(&world, &people, user_id, (&a, &of_a), (&b, &of_b)).await;

        // Then B brings all that A has, and later.
        visit(&mut b, "?gclid=click-of-b").await;
        sync(&world, &mut b, "pinterest", "pin-of-b").await;
        let of_b = with(&of_b, [("gclid", "click-of-b"), ("pin_unauth", "pin-of-b")]);
        assert_told(&world, &people, user_id, (&a, &of_a), (&b, &of_b)).await;

        // Each is offered what is due by its own schedule, and takes its own lease.
        make_due(&world, &a).await;
        assert_eq!(visit(&mut b, "").await.offered(), [""; 0], "B has synced a moment ago");
        assert_eq!(visit(&mut a, "").await.offered(), ["criteo", "pinterest"], "though B has synced");
        assert_eq!(visit(&mut a, "").await.offered(), [""; 0], "offered a moment ago");
        sync(&world, &mut a, "criteo", "criteo-of-a").await;
        sync(&world, &mut a, "pinterest", "second-pin-of-a").await;
        let of_a = with(&of_a, [("criteo_gum_id", "criteo-of-a"), ("pin_unauth", "second-pin-of-a")]);
        assert_told(&world, &people, user_id, (&a, &of_a), (&b, &of_b)).await;
        make_due(&world, &b).await;
        assert_eq!(visit(&mut a, "").await.offered(), [""; 0], "A has synced a moment ago");
        assert_eq!(visit(&mut b, "").await.offered(), ["criteo", "pinterest"], "though A has synced");
        assert_eq!(visit(&mut b, "").await.offered(), [""; 0], "offered a moment ago");

        // Taken apart, each has its own, and its own schedule.
        let merges = people.lookup(user(user_id)).await.unwrap().merges;
        assert_eq!(merges.len(), 1);
        people.unmerge(1, &merges[0].merge_id).await.unwrap();
        for (id, expected) in [(device(&a), &of_a), (user(user_id), &of_a), (device(&b), &of_b)] {
            assert_eq!(told(&world, &people, named(id)).await, *expected);
        }
        assert_eq!(visit(&mut a, "").await.offered(), [""; 0]);
        assert_eq!(visit(&mut b, "").await.offered(), ["criteo", "pinterest"]);
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn whoever_claims_a_user_first_gains_nothing_when_the_owner_comes_with_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    for (user_id, proof) in PROOFS {
        let (mut a, mut b) = (world.browser(), world.browser());
        visit(&mut b, "?gclid=click-of-b&epik=click-of-b").await;
        sync(&world, &mut b, "pinterest", "pin-of-b").await;
        claim(&mut b, user_id).await;
        let of_b = told(&world, &people, named(device(&b))).await;
        assert_eq!(told(&world, &people, named(user(user_id))).await, of_b, "nobody has shown a proof");

        visit(&mut a, "").await;
        sync(&world, &mut a, "pinterest", "pin-of-a").await;
        let of_a = told(&world, &people, named(device(&a))).await;
        prove(&world, &mut a, user_id, proof).await;
        assert_told(&world, &people, user_id, (&a, &of_a), (&b, &of_b)).await;
        assert_eq!(visit(&mut a, "").await.offered(), ["criteo"]);
        assert_eq!(visit(&mut b, "").await.offered(), ["criteo"], "each has its own lease");
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn of_two_that_only_claim_each_has_its_own_and_the_user_the_newest_until_one_shows_a_proof() {
    let world = collecting().await;
    let people = People::of(&world);
    let (mut phone, mut laptop) = (world.browser(), world.browser());
    visit(&mut phone, "?gclid=click-of-phone&epik=click-of-phone").await;
    sync(&world, &mut phone, "pinterest", "pin-of-phone").await;
    let of_phone = told(&world, &people, named(device(&phone))).await;
    visit(&mut laptop, "?gclid=click-of-laptop").await;
    sync(&world, &mut laptop, "criteo", "criteo-of-laptop").await;
    sync(&world, &mut laptop, "pinterest", "pin-of-laptop").await;
    let of_laptop = told(&world, &people, named(device(&laptop))).await;
    for page in [&mut phone, &mut laptop] {
        claim(page, "anna").await;
    }
    let both =
        [(device(&phone), first(&of_phone, &of_laptop)), (device(&laptop), first(&of_laptop, &of_phone))];
    for (id, expected) in both {
        assert_eq!(told(&world, &people, named(id)).await, expected, "their own, and what the other has");
    }
    assert_eq!(told(&world, &people, named(user("anna"))).await, first(&of_laptop, &of_phone), "the newest");

    // They share a schedule and its leases: whoever synced last puts off both.
    make_due(&world, &phone).await;
    assert_eq!(visit(&mut phone, "").await.offered(), [""; 0], "the laptop has synced a moment ago");
    make_due(&world, &laptop).await;
    assert_eq!(visit(&mut phone, "").await.offered(), ["criteo", "pinterest"]);
    assert_eq!(visit(&mut laptop, "").await.offered(), [""; 0], "offered to the phone a moment ago");

    prove(&world, &mut phone, "anna", Proof::UserHash).await;
    assert_told(&world, &people, "anna", (&phone, &of_phone), (&laptop, &of_laptop)).await;
    sync(&world, &mut phone, "pinterest", "second-pin-of-phone").await;
    assert_eq!(visit(&mut phone, "").await.offered(), ["criteo"]);
    assert_eq!(visit(&mut laptop, "").await.offered(), ["criteo", "pinterest"], "its own alone");
    assert_sound(&world).await;
}

/// Somebody claims a person's user ID for browser after browser, so that the person's own devices find no room.
#[tokio::test]
async fn claims_without_end_leave_room_for_the_devices_of_the_owner() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    page.see(0, login("laptop", "anna")).await;
    let bots = (0..30).map(|n| login(format!("bot-{n}"), "anna")).collect();
    page.resolve(0, bots).await.unwrap();
    let anna = people.canonical(user("anna")).await;
    let refused = |told: &Resolution| told.refusals.iter().map(Refusal::reason).collect::<Vec<_>>();
    let late = page.see(1, login("late", "anna")).await;
    assert_eq!(refused(&late), [RefusalReason::TooManyLinks]);
    // One has an old cookie, which counts as a link of today as well.
    page.see(0, cookie("phone", "phone-of-yesterday")).await;
    for (core, told) in [
        page.see(0, vouched(&world, login("phone", "anna"))).await,
        page.see(1, vouched(&world, login("laptop", "anna"))).await,
        people.see(0, login("till", "anna")).await,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!((told.canonical_id.as_str(), refused(&told)), (anna.as_str(), vec![]), "{core}");
    }
    let late = page.see(1, login("late", "anna")).await;
    assert_eq!(refused(&late), [RefusalReason::TooManyLinks]);
    assert_sound(&world).await;
}
