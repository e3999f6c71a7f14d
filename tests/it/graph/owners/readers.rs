//! Every way to join a person, and every route by which a browser is told something: what is told is what the table
//! in the code says, and the manual has the same.

use std::fs;

use harness::{
    answers::assert_accepted,
    browser::Browser,
    people::{People, user},
    visits::granted,
    world::World,
};
use identity_service::storage::via::{Opens, Reader, TABLE, Via};
use serde_json::{Value, json};

use super::{
    super::support::assert_sound,
    support::{Proof, claim, collecting, device, page_view, prove, sync, visit},
};

/// Paths of the edge that tell a browser something of its identity.
fn paths(reader: Reader) -> &'static [&'static str] {
    match reader {
        Reader::SetCookie | Reader::PendingSyncs => &["/v1/batch", "/v1/t", "/v1/p", "/v1/i"],
        Reader::Link => &["/v1/link"],
    }
}

/// Paths that tell nothing of it: an image, or the way to the vendor, whatever is known; and what a provider has told
/// this browser's own call, which `enrich/trust` looks at.
const SILENT: [&str; 3] = ["/v1/sync/{vendor}", "/v1/sync/{vendor}/callback", "/v1/enrich"];

/// A token for a link, as the page asks for it.
async fn link_token(page: &mut Browser) -> String {
    let answer = page.post("/v1/link", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["link_token"].as_str().unwrap().to_owned()
}

/// Opens a page to which a link with this token on one of the customer's pages has led.
async fn arrive(page: &mut Browser, token: &str) {
    let mut event = page_view(page, &format!("?_dfl={token}"));
    event["context"]["page"]["referrer"] = json!("https://shop.example.com/");
    assert_accepted(&page.batch(&json!([event])).await, 1);
}

/// Has the device come to `user`, whose other device this is, in one way.
async fn join(world: &World, way: Via, user: &str, device: &mut Browser, other: &mut Browser) {
    match way {
        Via::Own => {}
        Via::LinkToken => {
            let token = link_token(other).await;
            arrive(device, &token).await;
        }
        Via::Cookie => {
            device.jar.set(&device.collect.clone(), "_dfid", other.aid());
            assert_accepted(&device.view(&granted()).await, 1);
        }
        Via::Claim => _ = claim(device, user).await,
        Via::IdentityToken => prove(world, device, user, Proof::IdentityToken).await,
        Via::UserHash => prove(world, device, user, Proof::UserHash).await,
        Via::Signed => prove(world, device, user, Proof::Signed).await,
    }
}

/// The way in which the device has come to where it is.
async fn way_of(people: &People, page: &Browser) -> String {
    let found = people.lookup(device(page)).await.unwrap().identifiers;
    found.into_iter().find(|id| id.value == page.aid()).unwrap().via
}

/// The value of the cookie that the answers to a page view set, on a device that has lost it.
async fn given_back(page: &Browser, name: &str) -> String {
    let mut bare = page.clone();
    bare.jar.clear();
    let answer = visit(&mut bare, "").await;
    let cookies = answer.set_cookies();
    let own = cookies.iter().find_map(|cookie| cookie.strip_prefix(&format!("{name}="))?.split(';').next());
    own.unwrap_or_else(|| panic!("no {name} in {cookies:?}")).to_owned()
}

#[tokio::test]
async fn each_way_to_join_opens_to_a_browser_what_the_table_says() {
    let world = collecting().await;
    let people = People::of(&world);
    for (way, row) in TABLE {
        let user_id = format!("user-{}", way.word());
        let (mut own, mut other) = (world.browser(), world.browser());
        visit(&mut other, "").await;
        sync(&world, &mut other, "pinterest", "pin-of-other").await;
        prove(&world, &mut other, &user_id, Proof::Signed).await;
        visit(&mut own, "").await;
        join(&world, way, &user_id, &mut own, &mut other).await;
        assert_eq!(way_of(&people, &own).await, way.word());
        let person = people.canonical(user(&user_id)).await;
        assert_eq!(people.canonical(device(&own)).await == person, way != Via::Own);

        for (reader, opens) in Reader::ALL.into_iter().zip(row) {
            // Leases of what was offered before go.
            world.flush_redis().await;
            let told = match reader {
                Reader::SetCookie => {
                    let cookie = |page: &Browser| page.jar.value(&page.collect, "_fbp").unwrap().to_owned();
                    let told = given_back(&own, "_fbp").await;
                    assert!(told == cookie(&own) || told == cookie(&other));
                    if told == cookie(&own) { Opens::Own } else { Opens::Person }
                }
                Reader::PendingSyncs => {
                    let offered = visit(&mut own, "").await.offered();
                    assert!(offered.contains(&"criteo".to_owned()), "{offered:?}");
                    if offered.contains(&"pinterest".to_owned()) { Opens::Own } else { Opens::Person }
                }
                // Whoever brings it has come by a link, however well the one it was made for is known.
                Reader::Link => {
                    let mut third = world.browser();
                    visit(&mut third, "").await;
                    let token = link_token(&mut own).await;
                    arrive(&mut third, &token).await;
                    assert_eq!(people.canonical(device(&third)).await, people.canonical(device(&own)).await);
                    match way_of(&people, &third).await.as_str() {
                        "own" | "link_token" => Opens::Own,
                        _ => Opens::Person,
                    }
                }
            };
            assert_eq!((told, way.opens(reader)), (opens, opens), "{way:?} {reader:?}");
        }
    }
    assert_sound(&world).await;
}

#[test]
fn every_route_of_the_edge_is_a_reader_or_tells_nothing() {
    let read = |path: &str| {
        fs::read_to_string(format!("{}/../http-edge/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    // Those of the document, which is made from the routes, and those that are in no document.
    let document: Value = serde_json::from_str(&read("openapi.json")).unwrap();
    let source = read("src/routes/mod.rs");
    let others = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let documented = document["paths"].as_object().unwrap().keys().map(String::as_str);
    let mut routes: Vec<&str> = documented.chain(others).collect();
    let mut known: Vec<&str> = Reader::ALL.into_iter().flat_map(paths).chain(&SILENT).copied().collect();
    for list in [&mut routes, &mut known] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(routes, known, "a new route is a `Reader`, with its column in the table, or tells nothing");
}

#[test]
fn the_manual_has_the_table() {
    let manual =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/identity-and-consent.md")).unwrap();
    for (way, row) in TABLE {
        let cells = row.map(|opens| match opens {
            Opens::Own => "its own",
            Opens::Person => "the person's",
        });
        let line = format!("| `{}` | {} |", way.word(), cells.join(" | "));
        assert!(manual.contains(&line), "{line}");
    }
}
