//! The way in which each identifier came to its person, and the owner of each vendor ID, as Lookup and Export
//! tell them.

use harness::{
    people::{People, browser, canonical, cookie, give, login, named, user, visit, vouched},
    world::World,
};
use prost_types::{Struct, value::Kind};
use proto::v1::{ExportRequest, Subject, VendorId, identity_ref::Id};

use super::super::support::{assert_sound, take_out, two_cores};

/// The identifiers of a person, each with its way, as Lookup tells them and Export too.
async fn ways(world: &World, people: &People, id: Id) -> String {
    let person = people.lookup(id.clone()).await.unwrap();
    let mut told: Vec<String> =
        person.identifiers.iter().map(|one| format!("{} {}", one.value, one.via)).collect();
    told.sort();
    let document = export(world, id).await;
    let mut exported: Vec<String> = members(&document, "identifiers")
        .iter()
        .map(|one| format!("{} {}", text(one, "value").unwrap(), text(one, "via").unwrap()))
        .collect();
    exported.sort();
    assert_eq!(exported, told, "Export tells the same");
    told.join(", ")
}

async fn export(world: &World, id: Id) -> Struct {
    let (org_id, identity) = (world.customer.org_id.to_string(), Some(named(id)));
    let answer = world.admin().people().export(ExportRequest { org_id, identity }).await.unwrap();
    answer.into_inner().document.unwrap()
}

/// The objects in a list of a document.
fn members(document: &Struct, name: &str) -> Vec<Struct> {
    let Some(Kind::ListValue(list)) = document.fields[name].kind.clone() else { panic!("{name} is no list") };
    let object = |value: prost_types::Value| match value.kind {
        Some(Kind::StructValue(object)) => object,
        other => panic!("{other:?} in {name}"),
    };
    list.values.into_iter().map(object).collect()
}

/// The text of a member; none where it is null.
fn text(object: &Struct, name: &str) -> Option<String> {
    match object.fields.get(name).and_then(|value| value.kind.clone()) {
        Some(Kind::StringValue(text)) => Some(text),
        Some(Kind::NullValue(_)) => None,
        other => panic!("{name} is {other:?}"),
    }
}

/// An event of a browser that comes from another domain of the customer's, where it is another browser.
async fn arrival(world: &World, page: &People, at: &str, from: &str) -> Subject {
    let referrer = Some(format!("{}/", world.customer.origin));
    Subject { link_token: Some(page.link_token(from).await), referrer, ..visit(at) }
}

#[tokio::test]
async fn a_browser_is_its_own_while_there_is_no_user_and_then_came_by_what_joined_it() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    people.see(0, visit("alone")).await;
    assert_eq!(ways(&world, &people, browser("alone")).await, "alone own");
    page.see(1, cookie("one", "two")).await;
    assert_eq!(ways(&world, &people, browser("two")).await, "one own, two own");
    page.see(0, visit("there")).await;
    page.see(1, arrival(&world, &page, "here", "there").await).await;
    assert_eq!(ways(&world, &people, browser("here")).await, "here own, there own");

    // Another browser of theirs names a user.
    page.see(0, login("one", "anna")).await;
    assert_eq!(ways(&world, &people, user("anna")).await, "anna claim, one claim, two cookie");
    page.see(0, login("there", "bert")).await;
    assert_eq!(ways(&world, &people, user("bert")).await, "bert claim, here link_token, there claim");

    // They meet somebody who has one.
    for browser in ["late", "later", "latest"] {
        page.see(0, visit(browser)).await;
    }
    page.see(0, cookie("one", "late")).await;
    page.see(1, cookie("later", "one")).await;
    page.see(0, cookie("two", "unseen")).await;
    page.see(1, arrival(&world, &page, "latest", "one").await).await;
    let expected =
        "anna claim, late cookie, later cookie, latest link_token, one claim, two cookie, unseen cookie";
    assert_eq!(ways(&world, &people, user("anna")).await, expected);
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_stronger_way_takes_a_weaker_one_s_place_and_never_the_other_way() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    let claimed = || login("tablet", "anna");
    let hashed = || vouched(&world, claimed());
    page.see(1, login("home", "anna")).await;
    let told = async || ways(&world, &people, user("anna")).await;
    assert_eq!(told().await, "anna claim, home claim");
    // Twice and by either core: what one of them knows already, the other may not.
    for (caller, subject, way) in [
        (&page, claimed(), "claim"),
        (&page, hashed(), "user_hash"),
        (&page, claimed(), "user_hash"),
        (&people, claimed(), "signed"),
        (&page, hashed(), "signed"),
        (&page, claimed(), "signed"),
    ] {
        for core in [0, 1, 0] {
            caller.see(core, subject.clone()).await;
            assert_eq!(told().await, format!("anna {way}, home claim, tablet {way}"));
        }
    }
    // Each browser for itself; the user has the strongest of all.
    page.see(0, vouched(&world, login("home", "anna"))).await;
    page.see(1, login("phone", "anna")).await;
    assert_eq!(told().await, "anna signed, home user_hash, phone claim, tablet signed");
    // A hash of somebody else's vouches for nothing.
    let forged =
        Subject { user_hash: vouched(&world, login("x", "bert")).user_hash, ..login("phone", "anna") };
    let refused = page.see(0, forged).await.refusals;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(told().await, "anna signed, home user_hash, phone claim, tablet signed");
    // Nobody vouches for the cookie's browser.
    people.see(1, Subject { cookie_anonymous_id: Some("old".to_owned()), ..login("home", "anna") }).await;
    assert_eq!(told().await, "anna signed, home signed, old cookie, phone claim, tablet signed");
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_user_id_has_the_strongest_way_that_vouched_for_it_also_where_no_browser_is_named() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    let alone = |user_id: &str| Subject { user_id: Some(user_id.to_owned()), ..Subject::default() };
    people.see(0, alone("anna")).await;
    assert_eq!(ways(&world, &people, user("anna")).await, "anna signed");
    page.see(1, login("phone", "anna")).await;
    assert_eq!(ways(&world, &people, user("anna")).await, "anna signed, phone claim");
    page.see(0, login("tablet", "bert")).await;
    for core in [0, 1] {
        people.see(core, alone("bert")).await;
        assert_eq!(ways(&world, &people, user("bert")).await, "bert signed, tablet claim");
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_browser_that_goes_elsewhere_begins_anew_with_the_way_of_that_login() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    people.see(0, login("tablet", "anna")).await;
    people.see(0, login("phone", "bert")).await;
    page.see(1, login("tablet", "bert")).await;
    assert_eq!(ways(&world, &people, user("anna")).await, "anna signed");
    assert_eq!(ways(&world, &people, user("bert")).await, "bert signed, phone signed, tablet claim");
    // Somebody whom nobody has named before.
    page.see(0, vouched(&world, login("tablet", "carl"))).await;
    assert_eq!(ways(&world, &people, user("carl")).await, "carl user_hash, tablet user_hash");
    // Back again, by a claim: what a core remembers of the signed call does not count any more.
    for core in [0, 1] {
        page.see(core, login("tablet", "anna")).await;
        assert_eq!(ways(&world, &people, user("anna")).await, "anna signed, tablet claim");
    }
    people.see(0, login("tablet", "anna")).await;
    assert_eq!(ways(&world, &people, user("anna")).await, "anna signed, tablet signed");

    page.see(1, Subject { reset: true, ..visit("tablet") }).await;
    assert_eq!(ways(&world, &people, browser("tablet")).await, "tablet own");
    page.see(0, Subject { reset: true, ..login("tablet", "anna") }).await;
    assert_eq!(ways(&world, &people, browser("tablet")).await, "anna signed, tablet claim");
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_browser_that_an_un_merge_leaves_without_a_user_is_its_own() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    people.see(0, login("home", "anna")).await;
    let apart = page.see(0, visit("tablet")).await.canonical_id;
    page.see(1, cookie("tablet", "phone")).await;
    people.see(0, login("tablet", "anna")).await;
    assert_eq!(
        ways(&world, &people, user("anna")).await,
        "anna signed, home signed, phone cookie, tablet signed"
    );
    take_out(&people, 1, &apart).await;
    assert_eq!(ways(&world, &people, canonical(&apart)).await, "phone own, tablet own");
    assert_eq!(ways(&world, &people, user("anna")).await, "anna signed, home signed");
    // It comes as it comes then, not as it came before.
    page.see(0, login("phone", "anna")).await;
    assert_eq!(
        ways(&world, &people, user("anna")).await,
        "anna signed, home signed, phone claim, tablet cookie"
    );
    assert_sound(&world).await;
}

#[tokio::test]
async fn the_owner_of_each_vendor_id_is_named() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    people.see(0, login("phone", "anna")).await;
    for browser in ["laptop", "lent"] {
        page.see(1, login(browser, "anna")).await;
    }
    for (owner, field, value) in [
        (browser("phone"), "pin_unauth", "pin-of-phone"),
        (browser("laptop"), "pin_unauth", "pin-of-laptop"),
        (browser("lent"), "ttd_id", "trade-of-lent"),
        (browser("laptop"), "muid", "muid-of-laptop"),
        (user("anna"), "gclid", "click-of-anna"),
    ] {
        give(&world, owner, field, value).await;
    }
    page.see(0, login("lent", "bert")).await;

    let person = people.lookup(user("anna")).await.unwrap();
    let owner = |id: &VendorId| match (&id.anonymous_id, &id.user_id) {
        (Some(browser), None) => format!("browser {browser}"),
        (None, Some(user)) => format!("user {user}"),
        (None, None) => "nobody".to_owned(),
        both => panic!("{both:?}"),
    };
    let line = |(field, id): (&String, &VendorId)| format!("{field} {} {}", id.value, owner(id));
    assert_eq!(
        person.vendor_ids.iter().map(line).collect::<Vec<_>>(),
        [
            "gclid click-of-anna user anna",
            "muid muid-of-laptop browser laptop",
            "pin_unauth pin-of-phone browser phone",
            "ttd_id trade-of-lent nobody",
        ],
        "what the person is delivered with"
    );
    let mut brought: Vec<_> = person
        .identifiers
        .iter()
        .flat_map(|one| one.vendor_ids.iter().map(|entry| format!("{}: {}", one.value, line(entry))))
        .collect();
    brought.sort();
    assert_eq!(
        brought,
        [
            "anna: gclid click-of-anna user anna",
            "laptop: muid muid-of-laptop browser laptop",
            "laptop: pin_unauth pin-of-laptop browser laptop",
            "phone: pin_unauth pin-of-phone browser phone",
        ],
        "what each has brought"
    );

    let document = export(&world, user("anna")).await;
    let owner = |row: &Struct| match row.fields.get("owner").and_then(|owner| owner.kind.clone()) {
        Some(Kind::StructValue(owner)) => {
            format!("{} {}", text(&owner, "kind").unwrap(), text(&owner, "value").unwrap())
        }
        Some(Kind::NullValue(_)) => "nobody".to_owned(),
        other => panic!("{other:?}"),
    };
    let mut exported: Vec<_> = members(&document, "vendor_ids")
        .iter()
        .map(|row| format!("{}: {} {}", owner(row), text(row, "field").unwrap(), text(row, "value").unwrap()))
        .collect();
    exported.sort();
    assert_eq!(
        exported,
        [
            "anonymous_id laptop: muid muid-of-laptop",
            "anonymous_id laptop: pin_unauth pin-of-laptop",
            "anonymous_id phone: pin_unauth pin-of-phone",
            "nobody: ttd_id trade-of-lent",
            "user_id anna: gclid click-of-anna",
        ]
    );
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_signed_call_of_a_user_alone_vouches_for_them_whatever_redis_knows() {
    let world = two_cores().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    page.see(0, login("phone", "anna")).await;
    let anna = async || {
        let found = people.lookup(user("anna")).await.unwrap().identifiers;
        found.into_iter().find(|id| id.kind == "user_id").unwrap().via
    };
    assert_eq!(anna().await, "claim");
    world.flush_redis().await;
    people.see(1, Subject { user_id: Some("anna".to_owned()), ..Subject::default() }).await;
    assert_eq!(anna().await, "signed");
    assert_sound(&world).await;
}
