//! Page views, and the vendors' cookies in their answers.

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    world::{Options, World},
};
use proto::v1::{IdentityRef, LookupRequest, Person, identity_ref::Id};
use serde_json::{Value, json};

pub(super) const PAGE_URL: &str = "https://shop.example.com/";

/// Vendors whose IDs are made, whatever is synced.
pub(super) const GENERATING_VENDORS: &[&str] = &["google", "meta", "tiktok", "snapchat", "reddit"];

pub(super) const GENERATED_COOKIES: [&str; 5] = ["_fbp", "_ttp", "_ga", "_scid", "_rdt_uuid"];

pub(super) async fn collecting(
    vendors: &'static [&'static str],
    generated: &'static [&'static str],
) -> World {
    World::with(Options { vendors, generated, ..Options::default() }).await
}

pub(super) fn both() -> Value {
    json!({"marketing": true, "analytics": true})
}

/// Sends a page view of `PAGE_URL` with this query.
pub(super) async fn visit(browser: &mut Browser, consent: &Value, query: &str) -> Answer {
    let mut event = browser.page_view(consent);
    event["context"]["page"]["url"] = json!(format!("{PAGE_URL}{query}"));
    let answer = browser.batch(&json!([event])).await;
    assert_accepted(&answer, 1);
    answer
}

/// Names of the vendors' cookies in an answer, sorted.
pub(super) fn set(answer: &Answer) -> Vec<String> {
    let names =
        answer.set_cookies().into_iter().filter_map(|cookie| Some(cookie.split_once('=')?.0.to_owned()));
    let mut names: Vec<String> = names.filter(|name| name != "_dfid").collect();
    names.sort();
    names
}

pub(super) fn cookie<'a>(browser: &'a Browser, name: &str) -> &'a str {
    browser.jar.value(&browser.collect, name).unwrap_or_else(|| panic!("no {name} in {:?}", browser.jar))
}

pub(super) async fn lookup(world: &World, browser: &Browser) -> Person {
    let identity = Some(IdentityRef { id: Some(Id::AnonymousId(browser.aid().to_owned())), browser: None });
    let request = LookupRequest { org_id: world.customer.org_id.to_string(), identity };
    world.admin().people().lookup(request).await.unwrap().into_inner().person.unwrap()
}

pub(super) fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}
