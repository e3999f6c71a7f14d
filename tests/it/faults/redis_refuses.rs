//! Redis that runs and says that it does not serve: it loads, it lost its primary, it wants a password, it
//! can't save. Each state is as if it were away, is told apart, and is over when its cause is.

use std::time::Duration;

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    health::redis_is,
    recovery::{assert_healed, writes_reach_redis},
    visits::{denied, granted, synced},
    within,
    world::World,
};
use proto::v1::IdentityVendorIds;

/// Time within which Redis is used again after the fault.
const RECOVERY_LIMIT: Duration = Duration::from_secs(2);

/// A visitor, and what delivery gets for them.
struct KnownVisitor {
    browser: Browser,
    ids: IdentityVendorIds,
}

impl KnownVisitor {
    async fn of(world: &World) -> Self {
        let browser = synced(world).await;
        let ids = world.vendor_ids(browser.aid()).await;
        Self { browser, ids }
    }

    /// Checks what holds while Redis refuses with `code`: visitors are served, and changes are stored and
    /// left for repair.
    async fn is_served(&mut self, world: &World, code: &str) {
        within(Duration::from_secs(2), &format!("{code} to be counted"), async || {
            assert_accepted(&self.browser.view(&granted()).await, 1);
            assert_accepted(&self.browser.view(&denied()).await, 1);
            match world.metric("datafly_redis_errors_total", &[("kind", code)]).await {
                0.0 => Err("it is not".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        let denied =
            format!("anonymous_id = '{}' AND signals::json->>'marketing' = 'false'", self.browser.aid());
        assert_eq!(world.database.count("consent", &denied).await, 1, "{code}");
        assert!(world.database.count("redis_repairs", "true").await > 0, "{code} left no repair");
        self.is_known(world).await;
        assert_accepted(&world.browser().view(&granted()).await, 1);
    }

    /// Checks that delivery gets what it got before, and the consent that was taken last.
    async fn is_known(&self, world: &World) {
        let ids = world.vendor_ids(self.browser.aid()).await;
        assert_eq!((&ids.canonical_id, &ids.vendor_ids), (&self.ids.canonical_id, &self.ids.vendor_ids));
        assert_eq!(ids.consent.and_then(|consent| consent.json), Some(denied().to_string()));
    }

    /// Checks what holds when the cause is gone.
    async fn returns_to_redis(self, world: &World) {
        writes_reach_redis(world, RECOVERY_LIMIT).await;
        redis_is(world, "SERVING").await;
        self.is_known(world).await;
        assert_healed(world).await;
    }
}

/// Checks that the log says that Redis is not used, and not for each visitor. The cause is the counter's to
/// tell: what showed first may have been an answer that was late, or a connection that closed.
async fn assert_told(world: &World) {
    let told = eventually("it to be said", async || {
        let log = world.cluster.cores[0].log();
        match log.iter().filter(|line| line.contains("redis is not used")).count() {
            0 => Err("it is not".to_owned()),
            told => Ok(told),
        }
    })
    .await;
    assert!(told < 5, "{told} times");
}

#[tokio::test]
async fn while_it_loads_visitors_are_served() {
    let mut world = World::start().await;
    let mut known = KnownVisitor::of(&world).await;
    let fill = "for n = 1, 5400 do redis.call('SET', 'filler:' .. n, string.rep('x', 100)) end";
    let () = world.redis.ask(&["EVAL", fill, "0"]).await.unwrap();
    let () = world.redis.ask(&["SAVE"]).await.unwrap();
    world.redis.kill9().await;
    redis_is(&world, "NOT_SERVING").await;
    // A millisecond a key, with a look at its clients every few.
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    world.redis.revive_with(&slow).await.unwrap();
    known.is_served(&world, "LOADING").await;
    redis_is(&world, "NOT_SERVING").await;
    within(Duration::from_secs(20), "the dump to be loaded", async || {
        match world.redis.ask::<String>(&["INFO", "persistence"]).await {
            Ok(info) if info.contains("\nloading:0") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    known.returns_to_redis(&world).await;
}

#[tokio::test]
async fn while_its_primary_is_gone_visitors_are_served() {
    let world = World::start().await;
    let mut known = KnownVisitor::of(&world).await;
    let () = world.redis(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    // Nobody listens there.
    let () = world.redis(&["REPLICAOF", "127.0.0.1", "1"]).await;
    known.is_served(&world, "MASTERDOWN").await;
    redis_is(&world, "NOT_SERVING").await;
    assert_told(&world).await;
    world.redis.follow(None).await.unwrap();
    known.returns_to_redis(&world).await;
}

#[tokio::test]
async fn while_it_wants_a_password_visitors_are_served() {
    let world = World::start().await;
    let mut known = KnownVisitor::of(&world).await;
    let mut admin = world.redis.connection().await.unwrap();
    let mut ask = async |command: &[&str]| {
        let mut request = bb8_redis::redis::cmd(command[0]);
        let _: bb8_redis::redis::Value = request.arg(&command[1..]).query_async(&mut admin).await.unwrap();
    };
    ask(&["CONFIG", "SET", "requirepass", "secret"]).await;
    // Connections that stand are let alone, and serve; that no other can be opened is counted.
    within(Duration::from_secs(10), "NOAUTH to be counted", async || {
        match world.metric("datafly_redis_errors_total", &[("kind", "NOAUTH")]).await {
            0.0 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    redis_is(&world, "SERVING").await;
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    known.is_served(&world, "NOAUTH").await;
    redis_is(&world, "NOT_SERVING").await;
    assert_told(&world).await;
    ask(&["CONFIG", "SET", "requirepass", ""]).await;
    known.returns_to_redis(&world).await;
}

#[tokio::test]
async fn while_it_can_not_save_visitors_are_served() {
    let world = World::start().await;
    let mut known = KnownVisitor::of(&world).await;
    world.redis.let_save(false).unwrap();
    let saves = async |state: &str| {
        let () = world.redis(&["BGSAVE"]).await;
        within(Duration::from_secs(10), "a dump to have ended", async || {
            match world.redis.ask::<String>(&["INFO", "persistence"]).await {
                Ok(info) if info.contains(&format!("rdb_last_bgsave_status:{state}")) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    let () =
        world.redis(&["CONFIG", "SET", "save", "3600 1000000", "stop-writes-on-bgsave-error", "yes"]).await;
    saves("err").await;
    known.is_served(&world, "MISCONF").await;
    for _ in 0..20 {
        assert_accepted(&known.browser.view(&granted()).await, 1);
        assert_accepted(&known.browser.view(&denied()).await, 1);
    }
    redis_is(&world, "SERVING").await;
    world.redis.let_save(true).unwrap();
    saves("ok").await;
    known.returns_to_redis(&world).await;
    // Once a state, not once a change.
    let log = world.cluster.cores[0].log();
    for (said, times) in [("redis refuses writes", 1), ("redis takes writes again", 1)] {
        assert_eq!(log.iter().filter(|line| line.contains(said)).count(), times, "{said}");
    }
}
