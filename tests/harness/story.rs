//! The story of one visitor, told with real requests and answers: for the demo.

use anyhow::{Context, Result, ensure};
use proto::v1::{IdentityVendorIds, VendorIdsRequest, identity_ref::Id};
use serde_json::{Value, json};

use crate::{
    browser::{Answer, Browser},
    cluster::Cluster,
    delivery_story,
    enrich_sim::EnrichSim,
    enrich_story,
    people::named,
    profile_story,
    seed::Customer,
    signature::user_hash,
    vendor_sim::{VENDORS, vendor},
};

/// The visitor's anonymous ID: a fixed one, so that the documented call has an answer.
const VISITOR: &str = "demo-visitor";

/// The click ID in the URL of the first page.
const CLICK: &str = "Demo-Click_1";

/// Tells the story. An answer that is not as it should be ends it with an error that says so.
pub async fn tell(
    cluster: &Cluster,
    customer: &Customer,
    providers: &EnrichSim,
    (database_url, redis_url): (&str, &str),
) -> Result<()> {
    let mut browser = Browser::new(&cluster.collect_url(), &customer.live_key, &customer.origin);
    browser.anonymous_id = Some(VISITOR.to_owned());

    let mut steps = Steps::default();
    steps.next(
        "A page view arrives from a new visitor who consents to marketing, by a click on an advertisement.",
    );
    let consent = json!({"marketing": true});
    let mut page = view(&mut browser, &consent, &format!("?gclid={CLICK}")).await?;
    ensure!(!page.offered().is_empty(), "syncs should be offered");
    let fbp = browser.jar.value(&browser.collect, "_fbp").context("no _fbp was set")?.to_owned();

    // An answer offers five at most; the next page's brings more.
    let mut synced = Vec::new();
    while !page.offered().is_empty() {
        for name in page.offered() {
            steps.next(&format!(
                "Datafly.js fires the image for {name}; the vendor's ID comes back by redirect."
            ));
            sync(&mut browser, &name).await.with_context(|| format!("the sync with {name}"))?;
            synced.push(name);
        }
        steps.next("The visitor's next page view. What is synced is not offered again.");
        page = view(&mut browser, &consent, "").await?;
    }
    ensure!(synced.len() == VENDORS.len(), "every vendor should be synced once, and these were: {synced:?}");

    steps.next("The event processor fetches the vendor IDs for delivery.");
    let ids = delivered(cluster, customer, &browser).await.context("delivery")?;
    let brought = synced.iter().map(|name| (name.as_str(), vendor(name).id));
    for (name, expected) in brought.chain([("the page's URL", CLICK), ("the _fbp cookie", &fbp)]) {
        let found = ids.vendor_ids.values().any(|id| id.value == expected);
        ensure!(found, "{name} brought {expected}, which is not among the vendor IDs");
    }

    steps.next(
        "The visitor leaves an email; Datafly.js asks for IDs by it, and the core calls each provider.",
    );
    let mut identify = browser.page_view(&consent);
    identify["type"] = json!("identify");
    identify["traits"] = json!({"email": "demo@example.com"});
    send(&mut browser, &identify).await?;
    let mut enriched = Vec::new();
    for (provider, field) in enrich_story::fields() {
        let (answer, body) = enrich_story::ask(&mut browser, provider).await?;
        say("→", &format!("POST {}/v1/enrich", browser.collect));
        say(" ", &body);
        for line in enrich_story::sent(providers, provider)? {
            say("  ⇢", &line);
        }
        show(&answer);
        let value = enrich_story::in_redis(redis_url, customer, &browser, field).await?;
        say(" ", &format!("Redis: HGET identity:{}:{} {field} = {value:?}", customer.org_id, browser.aid()));
        let stored = enrich_story::in_postgres(database_url, customer, &browser, field).await?;
        ensure!(stored == value, "PostgreSQL should have the same {field}, and has {stored:?}");
        say(" ", &format!("PostgreSQL: vendor_ids has {field} = {stored:?} of {}", browser.aid()));
        enriched.push((field, value));
    }
    let ids = delivered(cluster, customer, &browser).await.context("delivery after enrichment")?;
    for (field, value) in enriched {
        let found = ids.vendor_ids.get(field).is_some_and(|id| id.value == value);
        ensure!(found, "{field} should be delivered");
    }

    steps.next(
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
    let found = delivered(cluster, customer, &phone).await.context("delivery for the phone")?;
    ensure!(found.canonical_id == ids.canonical_id, "the phone should be the same person");
    ensure!(found.vendor_ids.len() >= synced.len(), "the IDs should be found from the phone");

    steps.next("A shopper comes whom Amperity knows, and logs in with a hash of the shop's server.");
    let mut shopper = shopper(cluster, customer, &consent).await.context("profiles")?;

    steps.next("The shopper buys. The order is accepted, kept until it is delivered, and sent to Amperity with all of it.");
    delivery_story::buy(&mut shopper).await?;
    let order = delivery_story::arrived(providers).await?;
    say(
        "→",
        &format!("{} {} (Amperity-Tenant: {})", order.method, order.target, order.header("amperity-tenant")),
    );
    say(" ", &order.body);

    steps.next("The core has counted it.");
    let metrics = cluster.cores[0].metrics().await;
    say("→", &format!("GET http://{}/metrics", cluster.cores[0].addr("metrics")));
    for line in metrics.text().lines().filter(|line| line.starts_with("datafly_sync_")) {
        say(" ", line);
    }
    let succeeded: usize = synced
        .iter()
        .filter(|name| metrics.sum("datafly_sync_succeeded_total", &[("vendor", name)]) >= 1.0)
        .count();
    ensure!(succeeded == synced.len(), "the core counted {succeeded} of {} syncs", synced.len());
    Ok(())
}

/// A visitor before a login, and after it: what delivery and the page are told of their profile.
async fn shopper(cluster: &Cluster, customer: &Customer, consent: &Value) -> Result<Browser> {
    let mut shopper = Browser::new(&cluster.collect_url(), &customer.live_key, &customer.origin);
    shopper.anonymous_id = Some("demo-shopper-laptop".to_owned());
    view(&mut shopper, consent, "").await?;
    let known = json!({"Persona": "Value Hunter", "LifetimeTier": "gold", "CreditLimit": 9000});
    let seen = json!({"Persona": "Value Hunter", "LifetimeTier": "gold"});
    for (told, page) in [(json!({}), json!({})), (known, seen)] {
        if page != json!({}) {
            let mut login = shopper.page_view(consent);
            login["type"] = json!("identify");
            login["userId"] = json!(profile_story::USER);
            login["context"]["userHash"] = json!(user_hash(&customer.server_secret, profile_story::USER));
            send(&mut shopper, &login).await?;
        }
        let profile = profile_story::for_delivery(cluster, customer, &shopper).await?;
        say("→", "gRPC ProfileService/Profile amperity, for delivery");
        let told = profile_story::attributes(profile, &told)?;
        say("←", &format!("partner_attrs.amperity = {told}"));
        let answer = profile_story::on_page(&mut shopper).await;
        say("→", &format!("GET {}/v1/enrich?provider=amperity, of the page", shopper.collect));
        show(&answer);
        let attributes = answer.json()["attributes"].clone();
        ensure!(answer.status == 200 && attributes == page, "the page was told {attributes}");
    }
    Ok(shopper)
}

/// The numbers of the story's steps.
#[derive(Default)]
struct Steps(usize);

impl Steps {
    /// Begins the next step, with its title.
    fn next(&mut self, title: &str) {
        self.0 += 1;
        println!("\n{}. {title}\n", self.0);
    }
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
    let identity = named(Id::AnonymousId(anonymous_id));
    let request = VendorIdsRequest {
        org_id,
        identities: vec![identity],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
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
