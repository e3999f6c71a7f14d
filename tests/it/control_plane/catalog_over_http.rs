//! The catalogue over the management API: what the core says, also while it is away for a moment.

use harness::{
    control::{Admin, Control, start_management},
    shop::Shop,
};
use proto::v1::{ListCollectedVendorsRequest, ListEnrichmentVendorsRequest, ListSyncVendorsRequest};
use serde_json::{Value, json};

const LISTS: [&str; 4] = ["sync-vendors", "enrichment-vendors", "generated-ids", "profile-providers"];

async fn names(admin: &Admin, list: &str) -> Vec<String> {
    let list = admin.get(&format!("/v1/admin/catalog/{list}")).await.expect(200);
    assert_eq!((&list["has_more"], &list["next_cursor"]), (&json!(false), &Value::Null), "{list}");
    let vendors = list["data"].as_array().unwrap().iter();
    vendors.map(|vendor| vendor["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_are_those_of_the_core_with_all_that_it_says_of_them() {
    let control = Control::start().await;
    let (owner, mut core) = (&control.owner, control.world.admin().catalog());
    let answer = core.list_sync_vendors(ListSyncVendorsRequest {}).await.unwrap().into_inner();
    let (sync, guide) = (answer.vendors, answer.guide.unwrap());
    let enrichment =
        core.list_enrichment_vendors(ListEnrichmentVendorsRequest {}).await.unwrap().into_inner().vendors;
    let collected =
        core.list_collected_vendors(ListCollectedVendorsRequest {}).await.unwrap().into_inner().vendors;
    assert_eq!(
        names(owner, LISTS[0]).await,
        sync.iter().map(|vendor| vendor.name.clone()).collect::<Vec<_>>()
    );
    assert_eq!(
        names(owner, LISTS[1]).await,
        enrichment.iter().map(|vendor| vendor.name.clone()).collect::<Vec<_>>()
    );
    assert_eq!(
        names(owner, LISTS[2]).await,
        collected.iter().map(|vendor| vendor.name.clone()).collect::<Vec<_>>()
    );

    let one = async |list: &str, name: &str| {
        let list = owner.get(&format!("/v1/admin/catalog/{list}")).await.expect(200);
        list["data"].as_array().unwrap().iter().find(|vendor| vendor["name"] == name).unwrap().clone()
    };
    let own = sync.iter().find(|vendor| vendor.name == "trade_desk").unwrap();
    assert_eq!(
        one(LISTS[0], "trade_desk").await,
        json!({
            "name": "trade_desk", "label": own.label, "field": own.field,
            "partner_label": own.partner_label, "partner_help": own.partner_help,
            "default_ttl_days": own.default_ttl_days, "category": "marketing",
            "mode": "registered", "evidence": "observed", "evidence_source": own.evidence_source,
            "csp_hosts": own.csp_hosts, "default_endpoint": own.default_endpoint,
            "callback": "{collect_url}/v1/sync/trade_desk/callback?ttd_id=%%TDID%%",
            "setup_help": own.setup_help, "delivery_help": own.delivery_help,
            "conversions_field": null, "gvl_id": 21,
        })
    );
    let snapchat = one(LISTS[0], "snapchat").await;
    let taken = (&snapchat["conversions_field"], &snapchat["gvl_id"]);
    assert_eq!(taken, (&json!("user_data.sc_cookie1"), &Value::Null));
    let told = owner.get("/v1/admin/catalog/sync-vendors?limit=1").await.expect(200)["guide"].clone();
    let visitors = guide.visitors.iter();
    let visitors: Vec<Value> =
        visitors.map(|row| json!({"visitor": row.visitor, "outcome": row.outcome})).collect();
    assert_eq!(
        told,
        json!({
            "partner_id": guide.partner_id, "ttl": guide.ttl, "consent_mode": guide.consent_mode,
            "expectation": guide.expectation, "visitors": visitors, "helps": guide.helps,
            "does_not_help": guide.does_not_help,
        })
    );
    assert_eq!(one(LISTS[0], "pinterest").await["callback"], Value::Null);
    let uid2 = one(LISTS[1], "uid2").await;
    let credentials: Vec<&Value> =
        uid2["credentials"].as_array().unwrap().iter().map(|credential| &credential["name"]).collect();
    assert_eq!(credentials, ["api_key", "client_secret"], "{uid2}");
    assert_eq!(uid2["host"], "prod.uidapi.com");
    assert!(uid2["default_config"]["base_url"].is_string() && uid2["help"].is_string(), "{uid2}");
    let template = one(LISTS[1], "liveramp_ats").await["default_config"]["request_template"].clone();
    assert_eq!(template, json!({"identifiers": ["{{sha256_email}}"]}));
    let meta = one(LISTS[2], "meta").await;
    assert!(
        meta["click_ids"].as_array().unwrap().iter().any(|id| id["parameters"] == json!(["fbclid"])),
        "{meta}"
    );
    assert!(meta["generated_ids"].as_array().unwrap().iter().any(|id| id["cookie"] == "_fbp"), "{meta}");

    for list in LISTS {
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = owner.get(&format!("/v1/admin/catalog/{list}?limit=2{cursor}")).await.expect(200);
            paged.extend(
                page["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|vendor| vendor["name"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, names(owner, list).await);
        owner.get(&format!("/v1/admin/catalog/{list}?cursor=!")).await.refused(400, "INVALID_PARAMETER");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_can_be_changed_while_the_core_is_away_for_a_moment() {
    let mut control = Control::start().await;
    let owner = control.owner.clone();
    let shop = Shop::open(&control.world, &owner).await;
    let before = owner.get("/v1/admin/catalog/sync-vendors").await.expect(200);
    control.world.cluster.cores[0].kill9().await;
    let source = format!("{}/identity-sources/pinterest", shop.pipeline);
    // Past the second in which it would not be asked again.
    harness::eventually("management to notice", async || {
        assert_eq!(owner.get("/v1/admin/catalog/sync-vendors").await.expect(200), before);
        let failures = control.management[0].metrics().await.sum("datafly_core_failures_total", &[]);
        if failures > 0.0 { Ok(()) } else { Err("it has not asked".to_owned()) }
    })
    .await;
    owner.put(&source, &json!({"partner_id": "1"})).await.expect(201);
    owner
        .put(&format!("{}/identity-sources/nobody", shop.pipeline), &json!({"partner_id": "1"}))
        .await
        .refused(404, "NOT_FOUND");

    // A process that has never reached the core can't say what vendors there are; the rest works.
    let process = start_management(&control.world, &control.jwt_secret, &[]).await.unwrap();
    let cold = owner.at(&process);
    for list in LISTS {
        let answer = cold.get(&format!("/v1/admin/catalog/{list}")).await;
        answer.refused(503, "UNAVAILABLE");
        assert_eq!(answer.retry_after, Some(1));
    }
    cold.put(&source, &json!({"partner_id": "2"})).await.refused(503, "UNAVAILABLE");
    assert_eq!(cold.get(&source).await.expect(200)["partner_id"], "1");
    cold.delete(&source).await.expect(204);

    control.world.cluster.cores[0].restart().await.unwrap();
    harness::eventually("the core to be reached again", async || {
        let answer = cold.get("/v1/admin/catalog/sync-vendors").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.json.to_string()) }
    })
    .await;
}
