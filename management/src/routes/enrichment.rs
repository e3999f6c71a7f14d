//! Server-proxied enrichment: the vendors that a source asks, with the credentials to ask them with. The core
//! says which vendors there are and what their settings may be; the credentials it is never shown for that.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
    dsl::now as sql_now, insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{schema::enrichment_settings, sealed::columns};
use proto::v1::ProviderKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    custom_providers,
    dry_run::{self, DryRun, DryRunInput},
    identity_sources::unknown_vendor,
    named::{listed_rows, named_rows},
    provider_status::ProviderStatus,
    sources,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
        member::given,
        page::{Page, Paged},
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    catalog::VendorName,
    crypto::{
        audience::enrichment_origin,
        credentials::{self, Configured, CredentialRules, GivenCredentials, Origins, StoredCredentials},
    },
    provider,
    state::Management,
};

/// Input about how a source asks a vendor. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrichmentInput {
    /// True where the vendor is asked. Then the credentials are needed that its settings name, which by default are all.
    enabled: bool,
    /// Settings that differ from the vendor's `default_config` in the catalogue, all of them.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = OwnConfig, required = false)]
    config: Option<OwnConfig>,
    /// Values for the names that the catalogue lists, each 1 to 8,192 bytes without control characters. What
    /// is left out stays as it is.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    credentials: GivenCredentials,
}

/// What differs from a vendor's `default_config` in the request that it is called with.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    /// Scheme and host; https.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    /// Method of the request, `GET` or `POST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Path below the base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Headers, name to value; `{{name}}` stands for a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    /// Content of the request: JSON with variables, of GET the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_template: Option<Map<String, Value>>,
    /// Query that finds the ID in the answer: an RFC 9535 query that denotes one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    json_path: Option<String>,
    /// Time for which an ID is kept, such as `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    /// Names of the attributes that the visitor's page may see, of a vendor that has any; a list, or text with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    browser_attribute_allowlist: Option<Value>,
}

/// Settings by which a source asks a vendor, without the credentials.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentView {
    vendor: String,
    enabled: bool,
    #[schema(value_type = OwnConfig)]
    config: Value,
    /// Credentials that were given, by name.
    credentials: BTreeMap<String, Configured>,
    /// Time when any of the credentials was given last. Null: none was.
    #[serde(with = "time::serde::rfc3339::option")]
    credentials_updated_at: Option<OffsetDateTime>,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = enrichment_settings, check_for_backend(diesel::pg::Pg))]
struct EnrichmentRow {
    id: Uuid,
    vendor: String,
    enabled: bool,
    config: Value,
    sealed: Option<Vec<u8>>,
    sealed_at: Option<OffsetDateTime>,
    credentials: Vec<String>,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl EnrichmentRow {
    fn stored(&self) -> StoredCredentials<'_> {
        StoredCredentials { names: &self.credentials, sealed: self.sealed.as_deref() }
    }
}

impl From<EnrichmentRow> for EnrichmentView {
    fn from(row: EnrichmentRow) -> Self {
        Self {
            vendor: row.vendor,
            enabled: row.enabled,
            config: row.config,
            credentials: row
                .credentials
                .into_iter()
                .map(|name| (name, Configured { configured: true }))
                .collect(),
            credentials_updated_at: row.sealed_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Lists the vendors that a source asks, by name.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/enrichment", tag = "enrichment",
    params(("id" = Uuid, Path), Page), responses((status = 200, body = Paged<EnrichmentView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<EnrichmentView>>> {
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, caller.org_id, source).await?;
    let found = listed(&mut connection, caller.org_id, source, &page).await?;
    Ok(Json(found.map(Into::into)))
}

/// Shows how a source asks a vendor.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/enrichment/{vendor}", tag = "enrichment",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = EnrichmentView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Versioned<EnrichmentView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, source, &vendor).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.into()))
}

/// Has a source ask a vendor, or changes how it does. What is left out stays as it is. Credentials are sealed, and never told again.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/enrichment/{vendor}", tag = "enrichment",
    request_body = EnrichmentInput,
    params(("id" = Uuid, Path), ("vendor" = String, Path, description = "Of the catalogue; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = EnrichmentView), (status = 201, body = EnrichmentView),
        (status = 409, description = "The version is not the newest."),
        (status = 422, description = "Fields are not valid; or, as `CREDENTIAL_NOT_FOR_HOST`, the vendor would be \
            called at another origin than its credentials were given for, and they are not given again.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    seen: IfMatch,
    Body(EnrichmentInput { enabled, config, credentials }): Body<EnrichmentInput>,
) -> Result<Versioned<EnrichmentView>> {
    let org = caller.org_id;
    // Before the core is asked, which another organisation's source is no reason for.
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, org, source).await?;
    let kept = one(&mut connection, org, source, &vendor).await?.map(|kept| kept.config);
    drop(connection);
    let vendors = state.catalog.vendors().await?;
    let known = vendors.enrichment.iter().find(|known| known.name == vendor);
    let known = known.ok_or_else(|| unknown_vendor("/v1/admin/catalog/enrichment-vendors"))?;
    let names: Vec<&str> = known.credentials.iter().map(String::as_str).collect();
    let config = config.as_ref().map(provider::object).transpose()?;
    let (mut wrong, kind) = (Fields::default(), ProviderKind::Enrichment);
    let needed = if let Some(config) = &config {
        provider::check(&state.core, &mut wrong, "config.", org, kind, &vendor, config).await?
    } else {
        // They were checked when they were given.
        let kept = kept.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        let unsaid = &mut Fields::default();
        provider::check(&state.core, unsaid, "config.", org, kind, &vendor, &kept).await?
    };
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let before = one(connection, org, source, &vendor).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if enabled {
                let field = [known.field.as_str()].into_iter();
                let filler = custom_providers::filler_of(connection, org, source, field).await?;
                if let Some(why) = filler {
                    wrong.add("enabled", why);
                }
            }
            let kept = before.as_ref().map(|before| before.config.clone());
            let config = config.map(Value::Object).or(kept).unwrap_or_else(|| Value::Object(Map::new()));
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let place = columns::ENRICHMENT_SETTINGS.place(org, id);
            let stored = before.as_ref().map(EnrichmentRow::stored).unwrap_or_default();
            let default = known.default_config.as_ref().map(|default| default.base_url.as_str());
            let origin = |config| enrichment_origin(config, default.unwrap_or_default());
            let old = before.as_ref().and_then(|before| origin(&before.config));
            // The core has checked it, unless it is wrong.
            let now = origin(&config).unwrap_or_default();
            let origins = Origins { before: old.as_deref(), now: &now };
            let rules = CredentialRules {
                prefix: "credentials.",
                known: &names,
                needed: if enabled { &needed } else { &[] },
                distinct: false,
            };
            let sealed = credentials::replace(
                &state.keys,
                connection,
                place,
                stored,
                &credentials,
                origins,
                rules,
                wrong,
            );
            let sealed = sealed.await?;
            let at = (!credentials.is_empty()).then(|| enrichment_settings::sealed_at.eq(sql_now));
            let (names, sealed) = sealed.unzip();
            let sealed = (
                names.map(|names| enrichment_settings::credentials.eq(names)),
                sealed.map(|sealed| enrichment_settings::sealed.eq(sealed)),
                at,
            );
            let values = (enrichment_settings::enabled.eq(enabled), enrichment_settings::config.eq(&config));
            if before.is_none() {
                let row = (
                    enrichment_settings::id.eq(id),
                    enrichment_settings::org_id.eq(org),
                    enrichment_settings::source_id.eq(source),
                    enrichment_settings::vendor.eq(&vendor),
                );
                insert_into(enrichment_settings::table)
                    .values((row, values, sealed))
                    .execute(connection)
                    .await?;
            } else {
                let own = enrichment_settings::table
                    .filter(enrichment_settings::org_id.eq(org))
                    .filter(enrichment_settings::id.eq(id));
                update(own).set((values, sealed)).execute(connection).await?;
            }
            let after = one(connection, org, source, &vendor).await?.ok_or(Code::NotFound)?;
            let (before, after) = (before.map(EnrichmentView::from), after.into());
            let id = format!("{source}/{vendor}");
            audit::record(connection, &caller, "enrichment", &id, before.as_ref(), Some(&after)).await?;
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Tells how the vendor is, as far as this source asks it.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/enrichment/{vendor}/status", tag = "enrichment",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = ProviderStatus)))]
pub async fn status(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Json<ProviderStatus>> {
    let org = caller.org_id;
    one(&mut *state.connection().await?, org, source, &vendor).await?.ok_or(Code::NotFound)?;
    ProviderStatus::of(&state, org, source, ProviderKind::Enrichment, &vendor).await
}

/// Tries the vendor: shows the request that it would get for a visitor, reads an answer, or has it asked. Nothing is
/// stored of the visitor or the ID.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/enrichment/{vendor}/dry-run", tag = "enrichment",
    request_body = DryRunInput, params(("id" = Uuid, Path), ("vendor" = String, Path)),
    responses((status = 200, body = DryRun),
        (status = 422, description = "Fields are not valid, or `send` is true of a vendor that is not enabled.")))]
pub async fn dry_run(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Body(input): Body<DryRunInput>,
) -> Result<Json<DryRun>> {
    let found = one(&mut *state.connection().await?, caller.org_id, source, &vendor).await?;
    let found = found.ok_or(Code::NotFound)?;
    let (kind, name) = (ProviderKind::Enrichment, vendor.as_str());
    let settings = Some(found.config).filter(|_| !found.enabled);
    input.run(&state, &caller, dry_run::Provider { source, kind, name, settings }).await
}

/// Has a source ask a vendor no more, and removes its credentials. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/enrichment/{vendor}", tag = "enrichment",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            if let Some(removed) = take(connection, caller.org_id, source, &vendor).await? {
                let (id, removed) = (format!("{source}/{vendor}"), EnrichmentView::from(removed));
                audit::record(connection, &caller, "enrichment", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

named_rows!(enrichment_settings by source_id and vendor -> EnrichmentRow);
listed_rows!(enrichment_settings by source_id and vendor -> EnrichmentRow);
