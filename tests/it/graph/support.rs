//! Worlds, calls and checks that the tests of the graph share.

use std::time::{Duration, Instant};

use harness::{
    EVENTUALLY_LIMIT,
    people::{People, browser, canonical, cookie, give, visit},
    recovery::{assert_healed, assert_no_open_transaction},
    world::{Options, World},
};
use proto::{
    reason_of,
    v1::{ErrorReason, IdentityVendorIds, Merge, Resolution, Subject, identity_ref::Id},
};
use tokio::time::sleep;
use tonic::{Code, Status};

pub(super) async fn two_cores() -> World {
    World::with(Options { cores: 2, ..Options::default() }).await
}

/// Two browsers with a vendor ID each, merged and without a user; the survivor is the first, and the second's
/// ID is the newer one.
pub(super) async fn merged(world: &World, people: &People) -> (String, String) {
    let one = people.see(0, visit("phone")).await.canonical_id;
    let other = people.see(1, visit("laptop")).await.canonical_id;
    give(world, browser("phone"), "pin_unauth", "canary-of-phone").await;
    give(world, browser("laptop"), "pin_unauth", "canary-of-laptop").await;
    give(world, browser("laptop"), "ttd_id", "canary-of-trade").await;
    let joined = people.see(0, cookie("phone", "laptop")).await;
    assert_eq!((joined.canonical_id, joined.merged_from), (one.clone(), vec![other.clone()]));
    (one, other)
}

/// Browsers that are strangers to one another, each with a vendor ID that is its name, and their canonical
/// IDs. The later, the younger, and so is its vendor ID.
pub(super) async fn with_an_id_each(world: &World, people: &People, names: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for name in names {
        let id = people.see(0, visit(*name)).await.canonical_id;
        give(world, browser(*name), "pin_unauth", name).await;
        ids.push(id);
    }
    ids
}

/// Checks that each browser stands on its own, with its own vendor ID.
pub(super) async fn assert_own(people: &People, names: &[&str], ids: &[String]) {
    for (name, id) in names.iter().zip(ids) {
        for named in [browser(*name), canonical(id)] {
            let found = people.delivered(named).await;
            assert_eq!((&found.canonical_id, found.vendor_ids["pin_unauth"].value.as_str()), (id, *name));
        }
    }
}

/// Takes the merge of a canonical ID into another apart again.
pub(super) async fn take_out(people: &People, core: usize, merged: &str) {
    let merges = people.lookup(canonical(merged)).await.unwrap().merges;
    let is_it = |merge: &&Merge| merge.merged_canonical_id == merged && merge.undone_at.is_none();
    let merge = merges.iter().find(is_it).unwrap_or_else(|| panic!("{merged} is not merged: {merges:?}"));
    assert_eq!(people.unmerge(core, &merge.merge_id).await.unwrap(), merged);
}

/// Keys of Redis, each with what it holds.
pub(super) async fn redis_texts(world: &World) -> Vec<String> {
    let mut texts = Vec::new();
    for key in world.redis::<Vec<String>>(&["KEYS", "*"]).await {
        let kind: String = world.redis(&["TYPE", &key]).await;
        let text = match kind.as_str() {
            "hash" => world.redis::<Vec<String>>(&["HGETALL", &key]).await.join(" "),
            "string" => world.redis::<Option<String>>(&["GET", &key]).await.unwrap_or_default(),
            _ => String::new(),
        };
        texts.push(format!("{key} {text}"));
    }
    texts
}

/// Checks that no store and no log has any of these texts.
pub(super) async fn assert_gone(world: &World, canaries: &[&str]) {
    let tables = world.database.text("SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace").await;
    for table in tables.split_whitespace() {
        for canary in canaries {
            let rows = world
                .database
                .count(&format!("{table} t"), &format!("position('{canary}' IN t::text) > 0"))
                .await;
            assert_eq!(rows, 0, "{canary} in {table}");
        }
    }
    for text in redis_texts(world).await {
        for canary in canaries {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
    }
    for core in &world.cluster.cores {
        for canary in canaries {
            assert_eq!(core.log().iter().find(|line| line.contains(canary)), None);
        }
    }
}

/// Reasons that a machine gives that is busy with other tests.
pub(super) const LATE_REASONS: [ErrorReason; 3] =
    [ErrorReason::DeadlineExceeded, ErrorReason::Unavailable, ErrorReason::Overloaded];

pub(super) fn is_late(status: &Status) -> bool {
    // Whose deadline passes on the way has no reason of ours, nor who meets the end of a connection: a core
    // closes each after some minutes.
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
        || reason_of(status).is_some_and(|found| LATE_REASONS.contains(&found.reason))
}

/// Time between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Resolves subjects in one call, and again where a busy machine was late.
pub(super) async fn resolve_in_the_end(
    people: &People,
    core: usize,
    subjects: Vec<Subject>,
) -> Vec<Resolution> {
    // No `eventually`, whose future can't be spawned.
    let began = Instant::now();
    loop {
        match people.resolve(core, subjects.clone()).await {
            Err(status) if is_late(&status) && began.elapsed() < EVENTUALLY_LIMIT => sleep(RETRY_PAUSE).await,
            answer => return answer.unwrap(),
        }
    }
}

/// Vendor IDs as delivery gets them, in calls of a size that a busy machine answers in time though Redis
/// holds nothing.
pub(super) async fn vendor_ids_of(people: &People, core: usize, ids: &[Id]) -> Vec<IdentityVendorIds> {
    let mut found = Vec::new();
    for part in ids.chunks(200) {
        found.extend(people.vendor_ids(core, part.to_vec()).await);
    }
    found
}

/// Checks what holds of every graph, whatever was done to it.
pub(super) async fn assert_sound(world: &World) {
    assert_healed(world).await;
    assert_shape(world).await;
}

/// Checks what holds of every graph in PostgreSQL alone: Redis takes long to compare where there are
/// thousands of people.
pub(super) async fn assert_shape(world: &World) {
    assert_no_open_transaction(world).await;
    for (what, table, condition) in [
        (
            "links to what is merged",
            "links l JOIN canonicals c ON c.org_id = l.org_id AND c.id = l.canonical_id",
            "c.merged_into IS NOT NULL",
        ),
        (
            "chains",
            "canonicals c JOIN canonicals r ON r.org_id = c.org_id AND r.id = c.merged_into",
            "r.merged_into IS NOT NULL",
        ),
        (
            "merged into nothing",
            "canonicals c",
            "merged_into IS NOT NULL AND NOT EXISTS (SELECT FROM canonicals r WHERE r.org_id = c.org_id AND r.id = c.merged_into)",
        ),
        (
            "two users",
            "(SELECT FROM links WHERE kind = 1 GROUP BY org_id, canonical_id HAVING count(*) > 1) two",
            "true",
        ),
        (
            "vendor IDs of what is merged",
            "vendor_ids v JOIN canonicals c ON c.org_id = v.org_id AND c.id = v.canonical_id",
            "c.merged_into IS NOT NULL",
        ),
        (
            "schedules of what is merged",
            "sync_attempts s JOIN canonicals c ON c.org_id = s.org_id AND c.id = s.canonical_id",
            "c.merged_into IS NOT NULL",
        ),
        (
            "owners who are not there",
            "vendor_ids v",
            "owner <> '' AND NOT EXISTS (SELECT FROM links l WHERE l.org_id = v.org_id AND l.kind = v.owner_kind
                AND l.value = v.owner AND l.canonical_id = v.canonical_id)",
        ),
        (
            "schedules of browsers that are not there",
            "sync_attempts s",
            "anonymous_id <> '' AND NOT EXISTS (SELECT FROM links l WHERE l.org_id = s.org_id AND l.kind = 0
                AND l.value = s.anonymous_id AND l.canonical_id = s.canonical_id)",
        ),
        (
            "browsers tied to a user who is not there",
            "links l",
            "kind = 0 AND via IN ('signed', 'user_hash', 'identity_token', 'claim') AND NOT EXISTS (
                SELECT FROM links u WHERE u.org_id = l.org_id AND u.kind = 1 AND u.canonical_id = l.canonical_id)",
        ),
        ("users who came as browsers do", "links", "kind = 1 AND via IN ('own', 'cookie', 'link_token')"),
        ("deadlocks", "pg_stat_database", "datname = current_database() AND deadlocks > 0"),
    ] {
        assert_eq!(world.database.count(table, condition).await, 0, "{what}");
    }
}
