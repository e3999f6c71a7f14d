//! Audiences that credentials have by their settings: what they are bound to when they are given, and what those of
//! before there were audiences are bound to when they are next touched.

use std::collections::{BTreeSet, HashMap};

use diesel::{
    ExpressionMethods, PgAnyJsonExpressionMethods, QueryDsl, QueryableByName, sql_query,
    sql_types::{Array, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::{
    schema::custom_providers,
    sealed::{
        audience::{BoundCredentials, BoundSecret},
        columns::{self, Column},
    },
};
use serde_json::Value;
use serve::origin::{host_of, origin_of};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Origin of each vendor of enrichment where settings name none, as far as the core has told.
pub type VendorOrigins = HashMap<String, String>;

/// Origin that an enrichment vendor is called at; none where neither names a host.
pub fn enrichment_origin(config: &Value, default_base_url: &str) -> Option<String> {
    origin_of(text(config, "base_url").unwrap_or(default_base_url))
}

/// Origin that a tenant of Amperity is called at; none where it has no name.
pub fn amperity_origin(config: &Value) -> Option<String> {
    amperity_at(text(config, "base_url"), text(config, "tenant_subdomain"))
}

fn amperity_at(base_url: Option<&str>, subdomain: Option<&str>) -> Option<String> {
    match base_url {
        Some(base_url) => origin_of(base_url),
        None => origin_of(&format!("https://{}.amperity.com", subdomain?)),
    }
}

fn text<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    config.get(name)?.as_str()
}

/// Hosts of the custom providers that refer to a secret.
pub async fn hosts_of_users(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    secret: &str,
) -> diesel::QueryResult<Vec<String>> {
    let reference =
        custom_providers::settings.retrieve_as_object("authentication").retrieve_as_text("token_secret_ref");
    let users = custom_providers::table
        .filter(custom_providers::org_id.eq(org))
        .filter(reference.eq(format!("secret:{secret}")));
    let settings: Vec<Value> = users.select(custom_providers::settings).load(connection).await?;
    let hosts: BTreeSet<String> =
        settings.iter().filter_map(|settings| host_of(text(settings, "endpoint")?)).collect();
    Ok(hosts.into_iter().collect())
}

/// Use of a sealed value by its settings.
#[derive(QueryableByName)]
struct Use {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    /// URL that the settings name.
    #[diesel(sql_type = Nullable<Text>)]
    url: Option<String>,
    /// Name of the vendor, the tenant or the secret.
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

const ENRICHMENT: &str =
    "SELECT id, config->>'base_url' AS url, vendor AS name FROM enrichment_settings WHERE id = ANY($1)";
const PROFILE: &str = "SELECT id, config->>'base_url' AS url, config->>'tenant_subdomain' AS name \
    FROM profile_providers WHERE id = ANY($1)";
const SECRET: &str = "SELECT s.id, p.settings->>'endpoint' AS url, s.name FROM secrets s \
    JOIN custom_providers p ON p.org_id = s.org_id \
        AND p.settings->'authentication'->>'token_secret_ref' = 'secret:' || s.name \
    WHERE s.id = ANY($1)";

/// Origins, or hosts, that the values of these rows have by their settings.
pub async fn of_rows(
    connection: &mut AsyncPgConnection,
    column: Column,
    rows: &[Uuid],
    vendors: &VendorOrigins,
) -> diesel::QueryResult<HashMap<Uuid, BTreeSet<String>>> {
    let sql = match column {
        columns::ENRICHMENT_SETTINGS => ENRICHMENT,
        columns::PROFILE_PROVIDERS => PROFILE,
        columns::SECRETS => SECRET,
        _ => return Ok(HashMap::new()),
    };
    let uses: Vec<Use> = sql_query(sql).bind::<Array<SqlUuid>, _>(rows).load(connection).await?;
    let mut audiences: HashMap<Uuid, BTreeSet<String>> = HashMap::new();
    for Use { id, url, name } in uses {
        let (url, name) = (url.as_deref(), name.as_deref());
        let audience = match column {
            columns::SECRETS => url.and_then(host_of),
            columns::PROFILE_PROVIDERS => amperity_at(url, name),
            _ => url.map_or_else(|| vendors.get(name?).cloned(), origin_of),
        };
        audiences.entry(id).or_default().extend(audience);
    }
    Ok(audiences)
}

/// Binds a value of before there were audiences; none where it has an audience, or there is none to be had.
pub fn bind(column: Column, plain: &[u8], audience: &BTreeSet<String>) -> Option<Zeroizing<Vec<u8>>> {
    let first = audience.first()?;
    if column == columns::SECRETS {
        let secret = BoundSecret::parse(plain).filter(|secret| secret.hosts.is_empty())?;
        let hosts = audience.iter().cloned().collect();
        return Some(BoundSecret { hosts, ..secret }.to_plain());
    }
    let credentials = BoundCredentials::parse(plain).filter(|credentials| credentials.origin.is_none())?;
    Some(BoundCredentials { origin: Some(first.clone()), ..credentials }.to_plain())
}

/// Logs that a value of before there were audiences has one from now on, which happens once to each.
pub fn note_bound(table: &str, row: Uuid, audience: &str) {
    tracing::warn!(table, %row, audience, "credentials without an audience are bound to the one that they have now");
}
