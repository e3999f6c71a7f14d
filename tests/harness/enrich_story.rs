//! The part of the demo's story in which providers are asked for IDs of the visitor.

use anyhow::{Context, Result, ensure};
use bb8_redis::redis;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::schema::vendor_ids;
use serde_json::{Value, json};

use crate::{
    browser::{Answer, Browser},
    control::Admin,
    enrich_sim::{CREDENTIAL, EnrichSim},
    providers::VENDORS,
    seed::Customer,
};

/// The customer's own provider, as the specification's example has it.
const CUSTOM: &str = "internal_cdp";
/// The secret that it authenticates with.
const SECRET: &str = "cdp_api_token";

/// Configures all five vendors and the customer's own provider, as a customer would, over the management API.
pub async fn set_up(admin: &Admin, source: &str, sim: &EnrichSim) {
    for vendor in VENDORS {
        let config = json!({"base_url": sim.base_url(vendor)});
        let input = json!({"enabled": true, "config": config, "credentials": sim.credentials(vendor)});
        admin.put(&format!("{source}/enrichment/{vendor}"), &input).await.expect(201);
    }
    let secret = json!({"value": format!("{CUSTOM}-{CREDENTIAL}"), "hosts": [sim.addr.to_string()]});
    admin.put(&format!("/v1/admin/secrets/{SECRET}"), &secret).await.expect(201);
    let provider = json!({
        "name": CUSTOM,
        "endpoint": format!("{}/v1/resolve", sim.base_url(CUSTOM)),
        "method": "POST",
        "authentication": {"type": "bearer", "token_secret_ref": format!("secret:{SECRET}")},
        "request_template": {"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}"},
        "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"},
        "ttl": "30d",
        "timeout": "2s",
    });
    let input = json!({"enrichment": {"custom_providers": [provider]}});
    admin.put(&format!("{source}/enrichment"), &input).await.expect(201);
}

/// The field that each provider's ID is kept in.
pub fn fields() -> Vec<(&'static str, &'static str)> {
    let built_in = VENDORS
        .iter()
        .filter_map(|vendor| Some((*vendor, identity_service::vendors::find_enrichment(vendor)?.field)));
    built_in.chain([(CUSTOM, "cdp_customer_id")]).collect()
}

/// Asks one provider, as Datafly.js does: the answer has the ID, or says why this browser is not told it.
pub async fn ask(browser: &mut Browser, provider: &str) -> Result<(Answer, String)> {
    let body = json!({"vendor": provider, "anonymous_id": browser.aid()}).to_string();
    let answer = browser.post("/v1/enrich", body.clone()).await;
    let json = answer.json();
    let is_told = json["id"].is_string() || json["reason"] == "unverified";
    ensure!(answer.status == 200 && is_told, "{provider} was answered with {} {json}", answer.status);
    Ok((answer, body))
}

/// The value of a browser's field in Redis.
pub async fn in_redis(
    redis_url: &str,
    customer: &Customer,
    browser: &Browser,
    field: &str,
) -> Result<String> {
    let mut connection = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    let key = format!("identity:{}:{}", customer.org_id, browser.aid());
    let value: Option<String> = redis::cmd("HGET").arg(&key).arg(field).query_async(&mut connection).await?;
    value.with_context(|| format!("{key} has no {field}"))
}

/// The value of a browser's field in PostgreSQL.
pub async fn in_postgres(
    database_url: &str,
    customer: &Customer,
    browser: &Browser,
    field: &str,
) -> Result<String> {
    let mut connection = AsyncPgConnection::establish(database_url).await?;
    let value = vendor_ids::table
        .filter(vendor_ids::org_id.eq(customer.org_id))
        .filter(vendor_ids::owner.eq(browser.aid()))
        .filter(vendor_ids::field.eq(field))
        .select(vendor_ids::value)
        .first(&mut connection)
        .await;
    value.with_context(|| format!("PostgreSQL has no {field}"))
}

/// What the provider was sent, with its credential as a customer may see it.
pub fn sent(sim: &EnrichSim, provider: &str) -> Result<Vec<String>> {
    let calls = sim.seen(provider);
    let call = calls.last().with_context(|| format!("{provider} was not called"))?;
    let mut lines = vec![format!("{} {}{}", call.method, sim.base_url(provider), call.target)];
    for header in ["authorization", "x-api-key"] {
        let value = call.header(header);
        if !value.is_empty() {
            lines.push(format!("{header}: {}", value.replace(CREDENTIAL, "…")));
        }
    }
    if call.json() != Value::Null {
        lines.push(call.body.clone());
    }
    Ok(lines)
}
