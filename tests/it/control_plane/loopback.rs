//! Hosts on loopback or private addresses, which only the operator allows.

use harness::{
    control::{Control, start_management},
    eventually,
    visits::granted,
};
use serde_json::json;

/// Authorities that are no public host's.
const INSIDE: [&str; 12] = [
    "localhost",
    "localhost:3000",
    "shop.localhost",
    "127.0.0.1",
    "127.1:8443",
    "2130706433",
    "10.0.0.7",
    "172.16.3.4:8443",
    "192.168.1.1",
    "169.254.169.254",
    "[::1]:8443",
    "[fd00::1]",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_host_of_settings_is_inside_unless_the_operator_says_so() {
    let control = Control::start().await;
    let open = &control.owner;
    let closed =
        start_management(&control.world, &control.jwt_secret, &[("ALLOW_LOOPBACK", "")]).await.unwrap();
    let owner = open.at(&closed);
    let made = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await;
    let source = format!("/v1/admin/sources/{}", made.text("id"));
    let vendor = format!("/v1/admin/pipelines/{}/identity-sources/pinterest", made.text("pipeline_id"));
    for host in INSIDE {
        let url = format!("https://{host}");
        // `localhost` may be plain where it is allowed.
        let plain = format!("http://{host}");
        for domain in [host, &url, &plain] {
            let body = json!({"name": "Shop", "domains": ["shop.example", domain]});
            let answer = owner.put(&source, &body).await;
            answer.refused(422, "VALIDATION_FAILED");
            assert_eq!(answer.fields(), ["domains[1]"], "{domain}");
        }
        for url in [&url, &plain] {
            let body = json!({"name": "Shop", "collect_hosts": [{"url": url}]});
            let answer = owner.put(&source, &body).await;
            answer.refused(422, "VALIDATION_FAILED");
            assert_eq!(answer.fields(), ["collect_hosts[0].url"], "{url}");
            owner.post("/v1/admin/sources", &body).await.refused(422, "VALIDATION_FAILED");
            let answer =
                owner.put(&vendor, &json!({"partner_id": "1", "endpoint": format!("{url}/sync")})).await;
            answer.refused(422, "VALIDATION_FAILED");
            assert!(answer.fields().iter().all(|field| field == "endpoint"), "{url}: {answer:?}");
        }
    }
    let public = json!({"name": "Shop", "domains": ["shop.example", "8.8.8.8", "capacitor://localhost"],
        "collect_hosts": [{"url": "https://localhost.shop.example"}]});
    owner.put(&source, &public).await.expect(200);
    owner.put(&vendor, &json!({"partner_id": "1", "endpoint": "https://ct.example.com/"})).await.expect(201);

    let inside = json!({"name": "Shop", "domains": ["shop.example", "8.8.8.8", "http://localhost:3000", "10.0.0.7"],
        "collect_hosts": [{"url": "https://localhost.shop.example"}, {"url": "http://127.0.0.1:8080"}]});
    open.put(&source, &inside).await.expect(200);
    // What is there is kept by whoever changes something else.
    let kept = owner.put(&source, &json!({"name": "Boutique"})).await.expect(200);
    assert_eq!(kept["domains"].as_array().unwrap().len(), 4, "{kept}");
}

/// A core reads the same settings, and obeys such a host only where it is allowed there.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_leaves_such_hosts_out() {
    let mut control = Control::start().await;
    let mut browser = control.world.browser();
    assert_eq!(browser.view(&granted()).await.status, 200);
    let core = &mut control.world.cluster.cores[0];
    core.terminate().await;
    core.restart_with(&[("ALLOW_LOOPBACK", "")]).await.unwrap();
    eventually("the collect host to be left out", async || {
        let answer = browser.view(&granted()).await;
        match (answer.status, &*answer.code()) {
            (421, "HOST_NOT_ALLOWED") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
