//! Tombstones over a rotation of the encryption key: what was issued before somebody was erased stays refused, also
//! where the key that was current then is gone.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    cluster::Secrets,
    people::{People, browser, login, visit},
    process::run,
    recovery::takes_visitors,
    signature::sign,
    system::now,
    visits::granted,
    world::World,
};
use proto::v1::Subject;
use reqwest::Method;
use serde_json::json;

/// Starts the core anew with these encryption keys, the previous one empty where there is none.
async fn restart(world: &mut World, current: &str, previous: &str) {
    let keys = [("DATAFLY_ENCRYPTION_KEY", current), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", previous)];
    world.cluster.cores[0].terminate().await;
    world.cluster.cores[0].restart_with(&keys).await.unwrap();
    takes_visitors(world).await;
}

/// Sends what the customer's server signed at `at`.
async fn signed(world: &World, anonymous_id: &str, at: i64) -> Answer {
    let mut server: Browser = world.browser();
    server.origin = None;
    let body = json!({"type": "identify", "anonymousId": anonymous_id, "userId": "anna", "messageId": "m1"});
    let body = body.to_string();
    let signature = sign(&world.customer.server_secret, &format!("{at}.{body}"));
    let request = server.request(Method::POST, "/v1/t").bearer_auth(&server.key);
    let request =
        request.header("x-datafly-signature", signature).header("x-datafly-timestamp", at.to_string());
    server.send(request.body(body)).await
}

#[tokio::test]
async fn what_was_issued_before_an_erasure_is_refused_after_the_encryption_key_was_rotated_too() {
    let mut world = World::start().await;
    let (old, new) = (world.cluster.secrets.encryption_key.clone(), Secrets::random().encryption_key);
    // Cores have the new key one after the other: this one issues, that one erases.
    restart(&mut world, &new, &old).await;
    let people = People::of(&world);
    let mut page = world.browser();
    assert_accepted(&page.view(&granted()).await, 1);
    let callback = page.sync_to_vendor("pinterest").await;
    let link_token = people.link_token(page.aid()).await;
    people.see(0, login(page.aid(), "anna")).await;
    let before = now().unix_timestamp() - 2;
    restart(&mut world, &old, &new).await;
    people.delete(0, browser(page.aid())).await.unwrap();

    let env = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", &new),
        ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old),
    ];
    let sealed = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(sealed.status.success(), "{}", sealed.text());
    restart(&mut world, &new, "").await;

    let refused = signed(&world, page.aid(), before).await;
    assert_eq!(refused.code(), "ERASED", "{}", refused.text());
    assert_accepted(&page.view(&granted()).await, 1);
    let failures = world.sync_failures("pinterest", "bad_state").await;
    assert_gif(&page.get(callback.as_str()).await);
    assert_eq!(world.sync_failures("pinterest", "bad_state").await, failures + 1.0);
    assert_eq!(world.vendor_id(page.aid(), "pin_unauth").await, None, "its state is older than the erasure");
    let led = |token| {
        let referrer = Some(format!("{}/", world.customer.origin));
        Subject { link_token: Some(token), referrer, ..visit("tablet") }
    };
    people.see(0, led(link_token)).await;
    let (own, tablet) =
        (people.canonical(browser(page.aid())).await, people.canonical(browser("tablet")).await);
    assert!(!own.is_empty() && own != tablet, "its link token is older too");
    // Nothing but the age is against them.
    assert_gif(page.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id(page.aid(), "pin_unauth").await.is_some());
    let token = people.link_token(page.aid()).await;
    people.see(0, led(token)).await;
    assert_eq!(people.canonical(browser("tablet")).await, own);
}

/// Tombstones of before keys were stored have theirs stored when a core starts that knows the encryption key.
#[tokio::test]
async fn tombstones_of_before_are_kept_too() {
    let mut world = World::start().await;
    let (old, new) = (world.cluster.secrets.encryption_key.clone(), Secrets::random().encryption_key);
    let people = People::of(&world);
    people.see(0, login("laptop", "anna")).await;
    people.delete(0, browser("laptop")).await.unwrap();
    let erased = now().unix_timestamp();
    world.database.execute("DELETE FROM tombstone_keys").await;
    restart(&mut world, &new, &old).await;
    let stored = world.database.count("tombstone_keys", "true").await;
    assert_eq!(stored, 2, "either may have been current when they were made");
    let env = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", &new),
        ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old),
    ];
    let sealed = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(sealed.status.success(), "{}", sealed.text());
    restart(&mut world, &new, "").await;
    let refused = signed(&world, "laptop", erased - 2).await;
    assert_eq!(refused.code(), "ERASED", "{}", refused.text());
}
