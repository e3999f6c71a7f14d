//! `identity-service --compare`: finds every kind of wrong value, and nothing in a world that is right.

use harness::{
    answers::{assert_accepted, assert_gif},
    recovery::compare,
    visits::{denied, granted, synced},
    world::{Options, World},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_world_that_is_right_has_no_difference() {
    let world = World::with(Options { vendors: &["pinterest", "criteo"], ..Options::default() }).await;
    let mut browser = synced(&world).await;
    assert_gif(browser.sync("criteo").await.last().unwrap());
    let mut event = browser.page_view(&granted());
    event["userId"] = json!("alice@example.com");
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    assert_accepted(&browser.view(&denied()).await, 1);
    let mut silent = world.browser();
    silent.anonymous_id = Some("an odd id: {x}".to_owned());
    assert_accepted(&silent.view(&Value::Null).await, 1);
    world.vendor_ids("nobody").await;
    let text = compare(&world).await;
    assert!(text.status.success(), "{}", text.text());
    for kind in ["canonical", "consent", "cvid", "identity", "syncs"] {
        assert!(text.text().lines().any(|line| line.starts_with(kind)), "{kind}: {}", text.text());
    }
    // What expires in PostgreSQL is as good as gone.
    world.flush_redis().await;
    assert!(compare(&world).await.status.success(), "absent is right");
}

#[tokio::test]
async fn a_wrong_value_of_each_kind_is_found() {
    let world = World::start().await;
    let browser = synced(&world).await;
    let other = "01a1fbff-b764-7516-8e07-3d984722b735";
    for (kind, field, value) in [
        ("canonical", None, other),
        ("consent", None, r#"{"signals":{"marketing":false},"sec_gpc":false,"updated_at":null}"#),
        ("cvid", Some("pin_unauth"), "secret-wrong"),
        ("syncs", Some("_due"), "pinterest=1"),
        ("identity", Some("pin_unauth"), "secret-wrong"),
    ] {
        assert!(compare(&world).await.status.success(), "{kind}");
        let keys: Vec<String> = world.redis(&["KEYS", &format!("{kind}:*")]).await;
        let key = keys.first().unwrap_or_else(|| panic!("no {kind}"));
        let dump: Vec<u8> = world.redis(&["DUMP", key]).await;
        match field {
            None => world.redis::<()>(&["SET", key, value]).await,
            Some(field) => drop(world.redis::<i64>(&["HSET", key, field, value]).await),
        }
        let found = compare(&world).await;
        assert_eq!(found.status.code(), Some(1), "{kind}: {}", found.text());
        let line = found.text().lines().find(|line| line.starts_with("different ")).map(str::to_owned);
        assert!(line.is_some_and(|line| line.contains(&format!(" {kind}:"))), "{kind}: {}", found.text());
        assert!(!found.text().contains("secret-wrong"), "a value is shown: {}", found.text());
        assert!(!found.text().contains(browser.aid()), "a visitor is named: {}", found.text());
        let mut connection = world.redis.connection().await.unwrap();
        let mut restore = bb8_redis::redis::cmd("RESTORE");
        let () = restore.arg(key).arg(0).arg(dump).arg("REPLACE").query_async(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn keys_that_stand_for_nothing_are_found() {
    let world = World::start().await;
    synced(&world).await;
    let org = world.customer.org_id;
    for (command, key) in [
        ("SET", format!("canonical:{org}:anonymous_id:ghost")),
        ("SET", format!("canonical:{org}:user_id:~LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ")),
        ("SET", format!("consent:{org}:ghost")),
        ("HSET", format!("cvid:{org}:{org}")),
        ("HSET", format!("syncs:{org}:{org}")),
        ("SET", "canonical:nonsense".to_owned()),
    ] {
        let mut arguments = vec![command, &key];
        arguments.extend(if command == "SET" { &["x"][..] } else { &["_v", "1"] });
        let _: bb8_redis::redis::Value = world.redis(&arguments).await;
        let found = compare(&world).await;
        assert_eq!(found.status.code(), Some(1), "{key}: {}", found.text());
        assert!(found.text().contains("orphan "), "{key}: {}", found.text());
        let _: i64 = world.redis(&["DEL", &key]).await;
    }
    for (key, value) in [
        (format!("consent:{org}:ghost"), r#"{"signals":null,"sec_gpc":false,"updated_at":null}"#),
        (format!("canonical:{org}:anonymous_id:ghost"), "!fill:1"),
    ] {
        let () = world.redis(&["SET", &key, value]).await;
        assert!(compare(&world).await.status.success(), "{key} may stand for nothing");
    }
}
