//! The hosts that a site's Content-Security-Policy has to allow for its syncs.

use harness::{control::Control, shop::Shop};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_has_the_hosts_of_the_enabled_vendors_and_no_others() {
    let control = Control::start().await;
    let (owner, shop) = (&control.owner, Shop::open(&control.world, &control.owner).await);
    let collect = control.world.cluster.collect_url_at(&shop.collect_name);
    let csp = async || owner.get(&format!("{}/csp", shop.pipeline)).await.expect(200);
    assert_eq!(csp().await, json!({"img_src": [collect], "directive": format!("img-src {collect}")}));

    for (vendor, sync) in [
        ("pinterest", json!({"partner_id": "1"})),
        ("amazon_aax", json!({"partner_id": "1"})),
        ("criteo", json!({"partner_id": "1", "enabled": false})),
        ("outbrain", json!({"partner_id": "1", "endpoint": "https://b1.zemanta.com:8443/usersync"})),
    ] {
        owner.put(&format!("{}/identity-sources/{vendor}", shop.pipeline), &sync).await.expect(201);
    }
    let told = csp().await;
    let mut expected = vec![
        collect.as_str(),
        "https://aax-eu.amazon-adsystem.com",
        "https://aax.amazon-adsystem.com",
        "https://b1.zemanta.com:8443",
        "https://b1sync.zemanta.com",
        "https://ct.pinterest.com",
        "https://s.amazon-adsystem.com",
    ];
    expected.sort_unstable();
    assert_eq!(told["img_src"], json!(expected));
    assert_eq!(told["directive"], json!(format!("img-src {}", expected.join(" "))));

    owner.put(&shop.source, &json!({"name": "Shop", "domains": [], "collect_hosts": []})).await.expect(200);
    for vendor in ["pinterest", "amazon_aax", "criteo", "outbrain"] {
        owner.delete(&format!("{}/identity-sources/{vendor}", shop.pipeline)).await.expect(204);
    }
    assert_eq!(csp().await, json!({"img_src": [], "directive": Value::Null}));
}
