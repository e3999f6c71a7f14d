//! Many writers at once, over two cores and over cores that are killed: one graph, and no error shown.

use std::collections::BTreeSet;

use harness::{
    eventually,
    people::{People, browser, cookie, login, user, visit},
};
use proto::v1::IdentityVendorIds;
use tokio::task::JoinSet;

use super::support::{assert_shape, assert_sound, resolve_in_the_end, two_cores, vendor_ids_of};

#[tokio::test]
async fn sixty_four_clients_with_one_user_and_a_ring_of_cookies_end_as_one() {
    let world = two_cores().await;
    let people = People::of(&world);
    let mut racing = JoinSet::new();
    for client in 0..64 {
        let (from, to) = (client % 3, (client + 1) % 3);
        for subject in [
            login(format!("device-{}", client % 16), "anna"),
            cookie(format!("ring-{from}"), format!("ring-{to}")),
        ] {
            let people = people.clone();
            racing.spawn(async move { resolve_in_the_end(&people, client, vec![subject]).await });
        }
    }
    let answers = racing.join_all().await.concat();
    assert!(answers.iter().all(|one| one.error.is_none()), "{answers:?}");
    let devices: Vec<_> = (0..16).map(|n| browser(format!("device-{n}"))).chain([user("anna")]).collect();
    let ring: Vec<_> = (0..3).map(|n| browser(format!("ring-{n}"))).collect();
    for ids in [devices, ring] {
        for core in 0..2 {
            let found = people.vendor_ids(core, ids.clone()).await;
            let canonicals: BTreeSet<String> = found.into_iter().map(|one| one.canonical_id).collect();
            assert_eq!(canonicals.len(), 1, "{canonicals:?}");
        }
    }
    assert_eq!(world.database.count("canonicals", "merged_into IS NULL").await, 2);
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_core_killed_among_merges_leaves_each_before_or_after() {
    let mut world = two_cores().await;
    let people = People::of(&world);
    for round in 0..5_u32 {
        let pair = |n| (format!("a-{round}-{n}"), format!("b-{round}-{n}"));
        let all = (0..30).map(pair).flat_map(|(a, b)| [visit(a), visit(b)]).collect();
        people.resolve(1, all).await.unwrap();
        let mut merging = JoinSet::new();
        for (a, b) in (0..30).map(pair) {
            let people = people.clone();
            merging.spawn(async move { people.resolve(0, vec![cookie(a, b)]).await });
        }
        for _ in 0..=round {
            merging.join_next().await;
        }
        world.cluster.cores[0].kill9().await;
        merging.join_all().await;
        // PostgreSQL may be at what the killed one has asked for last.
        eventually("all transactions to end", async || {
            let others = "datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
            match world.database.count("pg_stat_activity", others).await {
                0 => Ok(()),
                sessions => Err(format!("{sessions} sessions are at work")),
            }
        })
        .await;
        // The other core serves what the killed one has left.
        for (a, b) in (0..30).map(pair) {
            let found = people.vendor_ids(1, vec![browser(&a), browser(&b)]).await;
            let sql = format!("SELECT count(DISTINCT canonical_id) FROM links WHERE value IN ('{a}', '{b}')");
            let stored = world.database.text(&sql).await;
            let one = found[0].canonical_id == found[1].canonical_id;
            assert_eq!(one, stored == "1", "{a}: {found:?}, PostgreSQL has {stored}");
            people.see(1, cookie(&a, &b)).await;
            let found = people.vendor_ids(1, vec![browser(a), browser(b)]).await;
            assert_eq!(found[0].canonical_id, found[1].canonical_id);
        }
        world.cluster.cores[0].restart().await.unwrap();
    }
    assert_eq!(world.database.count("canonicals", "merged_into IS NULL").await, 150);
    assert_eq!(world.database.count("merge_history", "true").await, 150, "each merge is recorded once");
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_thousand_pairs_who_share_a_device_are_never_fused() {
    let world = two_cores().await;
    let people = People::of(&world);
    let device = |n: usize| format!("device-{n}");
    let mut last = Vec::new();
    for (round, who) in ["anna", "bert", "anna", "bert"].into_iter().enumerate() {
        let mut sharing = JoinSet::new();
        for part in 0..4 {
            let people = people.clone();
            sharing.spawn(async move {
                // A call has a second, and a busy machine takes half of one for 250 logins.
                for first in (part * 250..(part + 1) * 250).step_by(25) {
                    let subjects = (first..first + 25).map(|n| {
                        let mut subject = login(device(n), format!("{who}-{n}"));
                        subject.cookie_anonymous_id = Some(format!("cookie-{who}-{n}"));
                        subject
                    });
                    let answers = resolve_in_the_end(&people, part, subjects.collect()).await;
                    assert!(answers.iter().all(|one| one.error.is_none()), "{answers:?}");
                }
            });
        }
        sharing.join_all().await;
        let ids: Vec<_> = (0..1000).map(|n| browser(device(n))).collect();
        let users: Vec<_> = (0..1000).map(|n| user(format!("{who}-{n}"))).collect();
        let (now, users) = tokio::join!(vendor_ids_of(&people, 0, &ids), vendor_ids_of(&people, 1, &users));
        let canonicals = |found: &[IdentityVendorIds]| {
            found.iter().map(|one| one.canonical_id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(canonicals(&now), canonicals(&users), "each device is with its newest login");
        if round == 0 {
            // What their device collects while they are logged in stays theirs.
            world.database.execute(
                "INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at, owner)
                 SELECT org_id, canonical_id, 'pin_unauth', value, 'sync', now(), now() + interval '90 days',
                     'device-' || split_part(value, '-', 2)
                 FROM links WHERE kind = 1",
            )
            .await;
            world.flush_redis().await;
        }
        last = users;
    }
    assert!(last.iter().all(|bert| bert.vendor_ids.is_empty()), "nothing of Anna's is Bert's");
    let annas: Vec<_> = (0..1000).map(|n| user(format!("anna-{n}"))).collect();
    let annas = vendor_ids_of(&people, 0, &annas).await;
    for (n, anna) in annas.iter().enumerate() {
        assert_eq!(anna.vendor_ids["pin_unauth"].value, format!("anna-{n}"));
    }
    let left = world.database.count("vendor_ids", "owner = '' AND owner_kind = 0").await;
    assert_eq!(left, 1000, "whose device has gone to somebody else");
    assert_eq!(world.database.count("links", "kind = 1").await, 2000);
    assert_eq!(world.database.count("canonicals", "merged_into IS NULL").await, 2000);
    assert_shape(&world).await;
}
