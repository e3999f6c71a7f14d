//! The last use of a pipeline key.

use harness::{answers::assert_accepted, eventually, visits::granted, world::World};

#[tokio::test]
async fn the_day_of_a_key_s_last_use_is_written_down() {
    let world = World::start().await;
    let version = async || world.database.text("SELECT version::text FROM config_version").await;
    let before = version().await;
    let mut browser = world.browser();
    let three_days_ago = "UPDATE pipeline_keys SET last_used_on = (now() AT TIME ZONE 'UTC')::date - 3 WHERE environment = 'live'";
    world.database.execute(three_days_ago).await;
    // What is refused is no use.
    let mut elsewhere = world.browser();
    elsewhere.key.clone_from(&world.customer.test_key);
    elsewhere.origin = Some("https://evil.example".to_owned());
    assert_eq!(elsewhere.view(&granted()).await.status, 403);
    assert_accepted(&browser.view(&granted()).await, 1);
    let used = async |expected: &str| {
        eventually("the use to be written", async || {
            let sql = "SELECT string_agg(environment || ' ' || COALESCE(((now() AT TIME ZONE 'UTC')::date - last_used_on)::text, 'never'), \
                       ', ' ORDER BY environment) FROM pipeline_keys";
            let found = world.database.text(sql).await;
            if found == expected { Ok(()) } else { Err(found) }
        })
        .await;
    };
    used("live 0, test never").await;
    // Once a day is enough.
    world.database.execute(three_days_ago).await;
    assert_accepted(&browser.view(&granted()).await, 1);
    elsewhere.origin.clone_from(&browser.origin);
    assert_accepted(&elsewhere.view(&granted()).await, 1);
    used("live 3, test 0").await;
    assert_eq!(version().await, before, "it is no change of the settings");
}
