//! The story of one visitor, told with real requests and answers: for the demo.

use anyhow::{Context, Result, ensure};
use proto::v1::{IdentityRef, IdentityVendorIds, VendorIdsRequest, identity_ref::Id};
use serde_json::{Value, json};

use crate::{
    browser::{Answer, Browser},
    cluster::Cluster,
    seed::Customer,
    vendor_sim::vendor,
};

/// The visitor's anonymous ID: a fixed one, so that the documented call has an answer.
const VISITOR: &str = "demo-visitor";

/// The click ID in the URL of the first page.
const CLICK: &str = "Demo-Click_1";

/// Tells the story. An answer that is not as it should be ends it with an error that says so.
pub async fn tell(cluster: &Cluster, customer: &Customer) -> Result<()> {
    let mut browser = Browser::new(&cluster.collect_url(), &customer.live_key, &customer.origin);
    browser.anonymous_id = Some(VISITOR.to_owned());

    title(
        1,
        "A page view arrives from a new visitor who consents to marketing, by a click on an advertisement.",
    );
    let consent = json!({"marketing": true});
    let first = view(&mut browser, &consent, &format!("?gclid={CLICK}")).await?;
    let offered = first.offered();
    ensure!(offered.len() == 4, "step 1: four syncs should be offered, and these were: {offered:?}");
    let fbp = browser.jar.value(&browser.collect, "_fbp").context("step 1: no _fbp was set")?.to_owned();

    for (number, name) in (2..).zip(&offered) {
        title(
            number,
            &format!("Datafly.js fires the image for {name}; the vendor's ID comes back by redirect."),
        );
        sync(&mut browser, name).await.with_context(|| format!("step {number}"))?;
    }

    title(6, "The event processor fetches the vendor IDs for delivery.");
    let ids = delivered(cluster, customer, &browser).await.context("step 6")?;
    let synced = offered.iter().map(|name| (name.as_str(), vendor(name).id));
    for (name, expected) in synced.chain([("the page's URL", CLICK), ("the _fbp cookie", &fbp)]) {
        let found = ids.vendor_ids.values().any(|id| id.value == expected);
        ensure!(found, "step 6: {name} brought {expected}, which is not among the vendor IDs");
    }

    title(7, "The visitor's next page view. Everything is synced, so nothing is offered.");
    let second = view(&mut browser, &consent, "").await?;
    ensure!(second.offered().is_empty(), "step 7: nothing should be offered: {:?}", second.offered());

    title(
        8,
        "The visitor logs in, here and on a phone: both are one person, and the phone's events find the IDs.",
    );
    let mut phone = Browser::new(&cluster.collect_url(), &customer.live_key, &customer.origin);
    phone.anonymous_id = Some("demo-phone".to_owned());
    for device in [&mut browser, &mut phone] {
        let mut login = device.page_view(&consent);
        login["type"] = json!("identify");
        login["userId"] = json!("demo-user");
        send(device, &login).await?;
    }
    let found = delivered(cluster, customer, &phone).await.context("step 8")?;
    ensure!(found.canonical_id == ids.canonical_id, "step 8: the phone should be the same person");
    ensure!(found.vendor_ids.len() >= offered.len(), "step 8: the IDs should be found from the phone");

    title(9, "The core has counted it.");
    let metrics = cluster.cores[0].metrics().await;
    say("→", &format!("GET http://{}/metrics", cluster.cores[0].addr("metrics")));
    for line in metrics.text().lines().filter(|line| line.starts_with("datafly_sync_")) {
        say(" ", line);
    }
    let succeeded = metrics.sum("datafly_sync_succeeded_total", &[]);
    ensure!(succeeded >= 4.0, "step 9: 4 syncs succeeded, and the core counted {succeeded}");
    Ok(())
}

async fn view(browser: &mut Browser, consent: &Value, query: &str) -> Result<Answer> {
    let mut event = browser.page_view(consent);
    event["context"]["page"]["url"] = json!(format!("https://shop.example.com/{query}"));
    send(browser, &event).await
}

async fn send(browser: &mut Browser, event: &Value) -> Result<Answer> {
    let batch = json!([event]);
    say("→", &format!("POST {}/v1/batch", browser.collect));
    say(" ", &format!("Authorization: Bearer {}", browser.key));
    say(" ", &format!("Origin: {}", browser.origin.as_deref().unwrap_or_default()));
    say(" ", &json!({"batch": batch}).to_string());
    let answer = browser.batch(&batch).await;
    show(&answer);
    ensure!(answer.status == 200, "the batch was answered with {}", answer.status);
    ensure!(answer.json()["accepted"] == json!(1), "the event was not accepted");
    Ok(answer)
}

async fn sync(browser: &mut Browser, name: &str) -> Result<()> {
    let hops = browser.follow(&browser.sync_url(name)).await;
    for hop in &hops {
        say("→", &format!("GET {}", hop.url));
        show(hop);
    }
    let statuses: Vec<u16> = hops.iter().map(|hop| hop.status).collect();
    ensure!(statuses == [302, 302, 200], "the chain should be 302, 302, 200, and was {statuses:?}");
    ensure!(hops.last().is_some_and(Answer::is_gif), "the last answer should be the 1×1 GIF");
    Ok(())
}

async fn delivered(cluster: &Cluster, customer: &Customer, browser: &Browser) -> Result<IdentityVendorIds> {
    let (org_id, anonymous_id) = (customer.org_id.to_string(), browser.aid().to_owned());
    say("→", &format!("gRPC {} datafly.identity.v1.ResolveService/VendorIds", cluster.cores[0].addr("grpc")));
    say(" ", "authorization: Bearer <service token with the role internal>");
    say(" ", &json!({"org_id": org_id, "identities": [{"anonymous_id": anonymous_id}]}).to_string());
    let identity = IdentityRef { id: Some(Id::AnonymousId(anonymous_id)) };
    let request = VendorIdsRequest { org_id, identities: vec![identity], fields: Vec::new() };
    let api = cluster.api(0, &cluster.secrets.operator_token)?;
    let mut answer = api.resolve().vendor_ids(request).await?.into_inner();
    let ids = answer.identities.pop().context("no answer for the identity")?;
    say("←", "OK");
    say(" ", &format!("canonical_id: {}", ids.canonical_id));
    let mut fields: Vec<_> = ids.vendor_ids.iter().collect();
    fields.sort_by_key(|(field, _)| field.as_str());
    for (field, id) in fields {
        let days = match (id.collected_at, id.expires_at) {
            (Some(from), Some(until)) => (until.seconds - from.seconds) / 86_400,
            _ => 0,
        };
        say(" ", &format!("{field}: {:?}, from {}, for {days} days", id.value, id.source().as_str_name()));
    }
    Ok(ids)
}

fn title(number: usize, text: &str) {
    println!("\n{number}. {text}\n");
}

fn show(answer: &Answer) {
    say("←", &answer.status.to_string());
    for name in ["location", "cache-control", "referrer-policy", "content-type"] {
        if let Some(value) = answer.header(name) {
            say(" ", &format!("{name}: {value}"));
        }
    }
    for cookie in answer.set_cookies() {
        say(" ", &format!("set-cookie: {cookie}"));
    }
    if answer.header("content-type") == Some("application/json") {
        say(" ", &answer.text());
    } else if answer.status == 200 {
        say(" ", &format!("({} bytes)", answer.body.len()));
    }
}

fn say(mark: &str, text: &str) {
    println!("   {mark} {text}");
}
