//! People over the management API: looked up, exported, erased and taken apart.

use harness::{
    control::Control,
    eventually,
    people::{People, login, visit},
};
use serde_json::json;
use uuid::Uuid;

/// People of the owner's organisation, once the core knows it.
async fn people(control: &Control, org: Uuid) -> People {
    let people = People::in_org(&control.world, &org.to_string());
    eventually("the core to know the organisation", async || {
        people.resolve(0, vec![visit("first")]).await.map_err(|status| status.to_string())
    })
    .await;
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_found_by_any_id_and_taken_apart_and_erased() {
    let control = Control::start().await;
    let owner = &control.owner;
    let people = people(&control, owner.org_id).await;
    let phone = people.see(0, login("phone", "a-user-of-the-test")).await.canonical_id;
    let laptop = people.see(0, visit("laptop")).await.canonical_id;
    assert_ne!(phone, laptop);
    let merged = people.see(0, login("laptop", "a-user-of-the-test")).await.canonical_id;

    let path = "/v1/admin/identities";
    let person = owner.get(&format!("{path}?user_id=a-user-of-the-test")).await.expect(200);
    assert_eq!(person["canonical_id"], merged);
    for by in [
        "anonymous_id=phone",
        "anonymous_id=laptop",
        &format!("canonical_id={phone}"),
        &format!("canonical_id={laptop}"),
    ] {
        assert_eq!(owner.get(&format!("{path}?{by}")).await.expect(200), person, "{by}");
    }
    let kinds: Vec<_> =
        person["identifiers"].as_array().unwrap().iter().map(|id| id["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 3, "{person}");

    // What can't be decoded without loss names nobody, whoever is called by what it would be read as.
    people.see(0, login("tablet", "\u{fffd}\u{fffd}")).await;
    for lossy in ["user_id=%ff%fe", "user_id=%EF%BF", "anonymous_id=%", "anonymous_id=%zz"] {
        owner.get(&format!("{path}?{lossy}")).await.refused(400, "INVALID_PARAMETER");
    }
    owner.get(&format!("{path}?user_id=%EF%BF%BD%EF%BF%BD")).await.expect(200);

    let document = owner.get(&format!("{path}/{merged}/export")).await.expect(200);
    assert_eq!(document["canonical_id"], merged);
    assert_eq!(document["merges"].as_array().unwrap().len(), 1, "{document}");

    let merge = person["merges"][0]["merge_id"].clone();
    for _ in 0..2 {
        let apart =
            owner.post(&format!("{path}/{merged}/unmerge"), &json!({"merge_id": merge})).await.expect(200);
        let own = [&phone, &laptop].into_iter().find(|id| **id != merged).unwrap();
        assert_eq!(apart["canonical_id"], **own);
    }
    for other in [json!(Uuid::now_v7()), merge] {
        let stranger = people.see(0, visit("other")).await.canonical_id;
        let answer = owner.post(&format!("{path}/{stranger}/unmerge"), &json!({"merge_id": other})).await;
        answer.refused(404, "NOT_FOUND");
    }

    for _ in 0..2 {
        owner.delete(&format!("{path}/{merged}")).await.expect(204);
        owner.get(&format!("{path}?canonical_id={merged}")).await.refused(404, "NOT_FOUND");
    }
    owner.delete(&format!("{path}/{}", Uuid::now_v7())).await.expect(204);

    // On record is what was ordered and by whom, and nothing of the person.
    let log = owner.get("/v1/admin/audit-log?resource_type=identity").await.expect(200);
    let actions = log["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap());
    let (looks, actions): (Vec<_>, Vec<_>) = actions.partition(|action| *action == "identity.looked_up");
    assert_eq!(looks.len(), 8, "each look that could find somebody, found or not: {log}");
    assert_eq!(
        actions,
        [
            "identity.erase",
            "identity.erase",
            "identity.erase",
            "identity.unmerge",
            "identity.unmerge",
            "identity.export"
        ]
    );
    let text = log.to_string();
    for id in [&phone, &laptop, "a-user-of-the-test", "laptop"] {
        assert!(!text.contains(id), "{id} is in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_needed_and_it_is_looked_for_in_the_own_organisation() {
    let control = Control::start().await;
    let owner = &control.owner;
    let people = people(&control, owner.org_id).await;
    let canonical = people.see(0, login("visitor", "a-user-of-the-test")).await.canonical_id;
    let path = "/v1/admin/identities";
    for query in [
        "",
        "?anonymous_id=a&user_id=b",
        "?anonymous_id=",
        "?name=x",
        "?canonical_id=x",
        "?user_id=%00",
        "?environment=prod",
        "?anonymous_id=a&anonymous_id=b",
    ] {
        let answer = owner.get(&format!("{path}{query}")).await;
        answer.refused(400, "INVALID_PARAMETER");
    }
    let stranger = control.another_owner().await;
    self::people(&control, stranger.org_id).await;
    for by in ["anonymous_id=visitor", "user_id=a-user-of-the-test", &format!("canonical_id={canonical}")] {
        stranger.get(&format!("{path}?{by}")).await.refused(404, "NOT_FOUND");
        owner.get(&format!("{path}?{by}&environment=test")).await.refused(404, "NOT_FOUND");
        owner.get(&format!("{path}?{by}&environment=live")).await.expect(200);
    }
    stranger.get(&format!("{path}/{canonical}/export")).await.refused(404, "NOT_FOUND");
    stranger.delete(&format!("{path}/{canonical}")).await.expect(204);
    owner.get(&format!("{path}?canonical_id={canonical}")).await.expect(200);

    // What test keys have collected is the organisation's too, and apart from the rest.
    let sibling = format!("SELECT id FROM orgs WHERE test_of = '{}'", owner.org_id);
    let sibling = control.world.database.text(&sibling).await;
    let tested = People::in_org(&control.world, &sibling).see(0, visit("tester")).await.canonical_id;
    owner.get(&format!("{path}?anonymous_id=tester")).await.refused(404, "NOT_FOUND");
    let found = owner.get(&format!("{path}?anonymous_id=tester&environment=test")).await.expect(200);
    assert_eq!(found["canonical_id"], tested);
    owner.delete(&format!("{path}/{tested}?environment=test")).await.expect(204);
    owner.get(&format!("{path}?anonymous_id=tester&environment=test")).await.refused(404, "NOT_FOUND");
}
