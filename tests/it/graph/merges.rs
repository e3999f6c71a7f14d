//! Merges as every core and both stores tell them: seen, bounded, refused, and taken apart again.

use harness::{
    people::{People, browser, canonical, cookie, give, login, user, visit},
    round_trips::caused,
    world::World,
};
use proto::v1::{IdentityVendorIds, RefusalReason, VendorId, identity_ref::Id};
use tonic::Code;

use super::support::{
    assert_gone, assert_own, assert_shape, assert_sound, merged, resolve_in_the_end, take_out, two_cores,
    with_an_id_each,
};

#[tokio::test]
async fn a_merge_is_seen_everywhere_and_can_be_undone() {
    let world = two_cores().await;
    let people = People::of(&world);
    let (one, other) = merged(&world, &people).await;
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        for (id, pin) in [
            (browser("phone"), "canary-of-phone"),
            (browser("laptop"), "canary-of-laptop"),
            (canonical(&one), "canary-of-laptop"),
            (canonical(&other), "canary-of-laptop"),
        ] {
            let found = people.delivered(id.clone()).await;
            assert_eq!(found.canonical_id, one, "{id:?}");
            assert_eq!(found.vendor_ids["pin_unauth"].value, pin, "{id:?}: its own, else the newest");
            assert_eq!(found.vendor_ids["ttd_id"].value, "canary-of-trade", "{id:?}: what one of them has");
        }
    }
    let person = people.lookup(canonical(&other)).await.unwrap();
    assert_eq!((&person.canonical_id, person.identifiers.len(), person.merges.len()), (&one, 2, 1));
    assert!(
        person
            .identifiers
            .iter()
            .all(|id| id.via == "own" && id.linked_at.is_some() && id.last_used_at.is_some())
    );
    let merge = &person.merges[0];
    assert_eq!((&merge.survivor_canonical_id, &merge.merged_canonical_id), (&one, &other));
    assert_eq!((merge.moved_identifiers, merge.moved_vendor_ids, merge.undone_at), (1, 2, None));

    let stranger = People::in_org(&world, &world.another_customer("explicit").await.org_id.to_string());
    assert_eq!(stranger.unmerge(0, &merge.merge_id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(stranger.lookup(canonical(&one)).await.unwrap_err().code(), Code::NotFound);
    stranger.delete(0, canonical(&one)).await.unwrap();
    let unknown = people.unmerge(0, "01a1fbff-b764-7516-8e07-3d984722b735").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert_eq!(people.canonical(browser("laptop")).await, one, "nobody else changed it");

    for core in 0..2 {
        assert_eq!(people.unmerge(core, &merge.merge_id).await.unwrap(), other, "twice is once");
    }
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        let (phone, laptop) =
            (people.delivered(browser("phone")).await, people.delivered(canonical(&other)).await);
        assert_eq!((&phone.canonical_id, &laptop.canonical_id), (&one, &other));
        assert_eq!(phone.vendor_ids.len(), 1, "{phone:?}");
        assert_eq!(phone.vendor_ids["pin_unauth"].value, "canary-of-phone", "its own");
        assert_eq!(laptop.vendor_ids.len(), 2, "{laptop:?}");
        assert_eq!(people.delivered(browser("laptop")).await, laptop);
    }
    assert!(people.lookup(canonical(&one)).await.unwrap().merges[0].undone_at.is_some());
    assert_sound(&world).await;
}

/// Merges in a row within one call, where each one's survivor is merged in turn.
#[tokio::test]
async fn merges_in_a_row_within_one_call_lead_to_the_last_survivor() {
    let world = two_cores().await;
    let people = People::of(&world);
    let ids = with_an_id_each(&world, &people, &["oldest", "older", "old"]).await;
    let subjects = vec![cookie("old", "older"), cookie("older", "oldest")];
    let answers = people.resolve(0, subjects).await.unwrap();
    assert_eq!(answers[1].canonical_id, ids[0]);
    for id in &ids {
        assert_eq!(people.delivered(canonical(id)).await.canonical_id, ids[0]);
    }
    assert_sound(&world).await;
    // Undone in the order in which they came, each has its own again.
    let mut merges = people.lookup(browser("old")).await.unwrap().merges;
    merges.sort_by_key(|merge| merge.merged_canonical_id != ids[2]);
    for merge in merges {
        people.unmerge(1, &merge.merge_id).await.unwrap();
    }
    assert_own(&people, &["oldest", "older", "old"], &ids).await;
    assert_sound(&world).await;
}

/// Merges side by side and within one another, undone in each order: whoever goes back takes their own along,
/// and leaves the others theirs.
#[tokio::test]
async fn in_whatever_order_merges_are_undone_each_browser_gets_its_own_back() {
    let world = two_cores().await;
    let people = People::of(&world);
    for (round, order) in
        [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]].iter().enumerate()
    {
        let names = ["root", "first", "second", "within"].map(|name| format!("{name}-{round}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids = with_an_id_each(&world, &people, &names).await;
        people.see(0, cookie(names[2], names[3])).await;
        for other in [names[1], names[2]] {
            people.see(1, cookie(names[0], other)).await;
        }
        for (step, merged) in order.iter().enumerate() {
            for name in &names {
                let own = people.delivered(browser(*name)).await.vendor_ids;
                assert_eq!(own["pin_unauth"].value, *name, "{order:?}, step {step}");
            }
            take_out(&people, step, &ids[*merged]).await;
        }
        assert_own(&people, &names, &ids).await;
        world.flush_redis().await;
        assert_own(&people, &names, &ids).await;
    }
    assert_sound(&world).await;
}

/// Asks both cores at once for all of these, and checks that Redis says what PostgreSQL says. A canonical ID
/// may be a merged one's, which only PostgreSQL knows: of the others Redis answers without it.
async fn assert_stores_agree(world: &World, people: &People, ids: &[Id]) -> Vec<IdentityVendorIds> {
    let ask = async |ids: &[Id]| {
        tokio::join!(people.vendor_ids(0, ids.to_vec()), people.vendor_ids(1, ids.to_vec()))
    };
    let (one, other) = ask(ids).await;
    assert_eq!(one, other, "right after the change");
    let named: Vec<Id> = ids.iter().filter(|id| !matches!(id, Id::CanonicalId(_))).cloned().collect();
    // Nobody is never kept in Redis.
    let (named, expected): (Vec<Id>, Vec<IdentityVendorIds>) =
        named.into_iter().zip(one.clone()).filter(|(_, told)| !told.canonical_id.is_empty()).unzip();
    let served = harness::eventually("Redis to answer alone", async || {
        world.postgres_proxy.take();
        let served = ask(&named).await;
        let sent = caused(world.postgres_proxy.take().0);
        if sent.is_empty() { Ok(served) } else { Err(format!("{sent:?}")) }
    })
    .await;
    assert_eq!(served, (expected.clone(), expected), "what Redis holds");
    world.flush_redis().await;
    assert_eq!(ask(ids).await, (one.clone(), other), "what PostgreSQL holds");
    one
}

#[tokio::test]
async fn after_each_change_redis_says_on_both_cores_what_postgresql_says() {
    let world = two_cores().await;
    let people = People::of(&world);
    let first = people.see(0, login("tablet", "anna")).await.canonical_id;
    let second = people.see(1, visit("laptop")).await.canonical_id;
    let bert = people.see(1, login("phone", "bert")).await.canonical_id;
    for (of, field, value) in [
        ("tablet", "pin_unauth", "of-anna"),
        ("laptop", "pin_unauth", "of-laptop"),
        ("laptop", "ttd_id", "trade-of-laptop"),
        ("phone", "pin_unauth", "of-bert"),
    ] {
        give(&world, browser(of), field, value).await;
    }
    let names = [&first, &second, &bert].map(canonical);
    let ids: Vec<Id> = [browser("tablet"), browser("laptop"), browser("phone"), user("anna"), user("bert")]
        .into_iter()
        .chain(names)
        .collect();
    // Of each ID in turn: whose it is, and the two vendor IDs.
    let told = async || {
        let all = assert_stores_agree(&world, &people, &ids).await;
        let word = |one: &IdentityVendorIds| {
            let who = [(&first, "anna"), (&second, "laptop"), (&bert, "bert")];
            let who = who.iter().find(|(name, _)| **name == one.canonical_id).map_or("-", |(_, who)| *who);
            let id = |field| one.vendor_ids.get(field).map_or("-", |id: &VendorId| id.value.as_str());
            format!("{who} {} {}", id("pin_unauth"), id("ttd_id"))
        };
        all.iter().map(word).collect::<Vec<_>>()
    };
    let (anna, laptop, bert_s, nobody) =
        ("anna of-anna -", "laptop of-laptop trade-of-laptop", "bert of-bert -", "- - -");
    world.flush_redis().await;
    assert_eq!(told().await, [anna, laptop, bert_s, anna, bert_s, anna, laptop, bert_s], "FLUSHALL");

    people.see(0, login("laptop", "anna")).await;
    let (both, tablet) = ("anna of-laptop trade-of-laptop", "anna of-anna trade-of-laptop");
    assert_eq!(told().await, [tablet, both, bert_s, both, bert_s, both, both, bert_s], "a merge");

    people.see(1, login("tablet", "bert")).await;
    assert_eq!(told().await, [bert_s, both, bert_s, both, bert_s, both, both, bert_s], "a move");

    let merge = people.lookup(user("anna")).await.unwrap().merges[0].merge_id.clone();
    people.unmerge(0, &merge).await.unwrap();
    assert_eq!(told().await, [bert_s, laptop, bert_s, anna, bert_s, anna, laptop, bert_s], "an unmerge");

    people.delete(1, browser("tablet")).await.unwrap();
    assert_eq!(told().await, [nobody, laptop, nobody, anna, nobody, anna, laptop, nobody], "an erasure");
    assert_sound(&world).await;
}

#[tokio::test]
async fn who_is_erased_after_an_inner_merge_was_undone_does_not_come_back_with_the_outer_one() {
    let world = two_cores().await;
    let people = People::of(&world);
    let own = ["of-a", "of-b", "of-c"];
    let names = with_an_id_each(&world, &people, &own).await;
    people.see(0, cookie("of-b", "of-c")).await;
    people.see(1, cookie("of-a", "of-b")).await;
    take_out(&people, 0, &names[2]).await;
    people.delete(1, browser("of-c")).await.unwrap();
    take_out(&people, 1, &names[1]).await;
    assert_own(&people, &own[..2], &names[..2]).await;
    assert_gone(&world, &["of-c", &names[2]]).await;
    assert_sound(&world).await;
}

#[tokio::test]
async fn who_is_taken_out_of_a_merge_within_a_merge_takes_their_own_from_all() {
    let world = two_cores().await;
    let people = People::of(&world);
    let mut names = Vec::new();
    for id in ["a", "b", "c"] {
        names.push(people.see(0, visit(id)).await.canonical_id);
    }
    give(&world, browser("a"), "pin_unauth", "of-a").await;
    give(&world, browser("c"), "pin_unauth", "of-c").await;
    people.see(0, cookie("b", "c")).await;
    people.see(1, cookie("a", "b")).await;
    let pins = async || {
        let mut pins = Vec::new();
        for id in [browser("a"), browser("b"), browser("c"), canonical(&names[0]), canonical(&names[2])] {
            pins.push(people.delivered(id).await.vendor_ids["pin_unauth"].value.clone());
        }
        pins
    };
    assert_eq!(pins().await, ["of-a", "of-c", "of-c", "of-c", "of-c"]);
    take_out(&people, 0, &names[2]).await;
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        assert_eq!(pins().await, ["of-a", "of-a", "of-c", "of-a", "of-c"]);
        assert_eq!(people.canonical(browser("b")).await, names[0], "the outer merge stands");
    }
    assert_sound(&world).await;
}

/// Values that came after a merge go back with the browser that brought them, if it is still there.
#[tokio::test]
async fn what_came_after_a_merge_goes_back_with_the_browser_that_brought_it() {
    let world = two_cores().await;
    let people = People::of(&world);
    let anna = people.see(0, login("annas", "anna")).await.canonical_id;
    let ids = with_an_id_each(&world, &people, &["tablet", "phone"]).await;
    people.see(1, cookie("tablet", "phone")).await;
    people.see(0, login("tablet", "anna")).await;
    for (owner, field, value) in [
        (browser("annas"), "ttd_id", "of-annas"),
        (browser("tablet"), "gclid", "of-tablet"),
        (browser("phone"), "gclid", "of-phone"),
        (user("anna"), "gclid", "of-anna"),
    ] {
        give(&world, owner, field, value).await;
    }
    // The phone goes to somebody else; what it has brought stays.
    people.see(1, login("phone", "bert")).await;
    take_out(&people, 0, &ids[0]).await;
    let told = async |id: Id| {
        let found = people.delivered(id).await;
        let values = found.vendor_ids.into_iter().map(|(field, id)| format!("{field}={}", id.value));
        (found.canonical_id, values.collect::<Vec<_>>().join(" "))
    };
    for flush in [false, true] {
        if flush {
            world.flush_redis().await;
        }
        let tablet = (ids[0].clone(), "gclid=of-tablet pin_unauth=tablet".to_owned());
        assert_eq!(told(browser("tablet")).await, tablet);
        assert_eq!(told(canonical(&ids[0])).await, tablet);
        assert_eq!(told(browser("annas")).await, (anna.clone(), "gclid=of-anna ttd_id=of-annas".to_owned()));
        let all = "gclid=of-anna pin_unauth=phone ttd_id=of-annas".to_owned();
        assert_eq!(told(user("anna")).await, (anna.clone(), all), "what the phone has left is nobody's");
        assert_eq!(told(browser("phone")).await.1, "");
    }
    assert_sound(&world).await;
}

#[tokio::test]
async fn a_merge_bomb_is_bounded_and_bothers_nobody_else() {
    let world = two_cores().await;
    let (people, other) = (People::of(&world), world.another_customer("explicit").await);
    let neighbour = People::in_org(&world, &other.org_id.to_string());
    let bombing = async {
        let mut bombers = tokio::task::JoinSet::new();
        for core in 0..2 {
            let people = people.clone();
            bombers.spawn(async move {
                let mut answers = Vec::new();
                // A call has a second: as many logins as a busy machine takes in that.
                for part in 0..200 {
                    let bots = (0..25).map(|n| login(format!("bot-{core}-{part}-{n}"), "victim")).collect();
                    answers.extend(resolve_in_the_end(&people, core, bots).await);
                }
                answers
            });
        }
        bombers.join_all().await
    };
    let living = async {
        for n in 0..50 {
            neighbour.see(n, login(format!("n-{n}"), format!("u-{n}"))).await;
        }
    };
    let (answers, ()) = tokio::join!(bombing, living);
    assert!(answers.iter().flatten().all(|one| one.error.is_none()), "all are taken");
    let linked = people.lookup(user("victim")).await.unwrap().identifiers.len();
    assert_eq!(linked, 21, "20 links a day and the user");
    let refused = world.metric("datafly_link_refusals_total", &[("reason", "too_many_links")]).await;
    assert!(refused > 9_000.0, "{refused}");
    // Days later there is room again, until there are fifty.
    for day in 0..3 {
        world
            .database
            .execute(
                "UPDATE canonicals SET linked_on = linked_on - 1;
             UPDATE links SET last_used_at = last_used_at - interval '2 days'",
            )
            .await;
        let bots = (0..20).map(|n| login(format!("late-{day}-{n}"), "victim")).collect();
        people.resolve(day, bots).await.unwrap();
    }
    let person = people.lookup(user("victim")).await.unwrap();
    assert_eq!(person.identifiers.len(), 50);
    assert!(person.identifiers.iter().any(|id| id.value == "victim"), "never the user");
    assert_eq!(person.identifiers.iter().filter(|id| id.value.starts_with("late-")).count(), 49);
    assert_eq!(
        people.canonical(browser("late-0-0")).await.is_empty(),
        !person.identifiers.iter().any(|id| id.value == "late-0-0")
    );
    assert_shape(&world).await;
}

#[tokio::test]
async fn a_refusal_is_known_without_postgresql() {
    let world = World::start().await;
    let people = People::of(&world);
    for (id, who) in [("one", "anna"), ("two", "bert")] {
        people.see(0, login(id, who)).await;
    }
    // The first time it is found out. Later ones on a busy machine may miss Redis's bound; another does.
    for _ in 0..2 {
        harness::eventually("a refusal without PostgreSQL", async || {
            world.postgres_proxy.take();
            let refused = people.see(0, cookie("one", "two")).await;
            let reasons: Vec<RefusalReason> = refused.refusals.iter().map(|one| one.reason()).collect();
            assert_eq!(reasons, [RefusalReason::DifferentUsers]);
            let sent = caused(world.postgres_proxy.take().0);
            if sent.is_empty() { Ok(()) } else { Err(format!("{sent:?}")) }
        })
        .await;
    }
    // That is no reason to keep a login out.
    let moved = people.see(0, login("one", "bert")).await;
    assert_eq!(moved.canonical_id, people.canonical(user("bert")).await);
    assert_eq!(people.lookup(user("anna")).await.unwrap().refusals.len(), 1);
}
