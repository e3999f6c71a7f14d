//! Identity sources: the vendors that a pipeline syncs with. The core says which vendors there are.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, dsl::exists,
    insert_into, select,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    rows::IdentitySource,
    schema::{collect_hosts, identity_sources},
};
use serde::{Deserialize, Serialize};
use serve::{
    Authority,
    origin::{is_origin_inside, redirect_target},
};
use time::OffsetDateTime;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    custom_providers,
    named::{listed_rows, named_rows},
    pipelines, sources,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        fields::Fields,
        member::{Member, given},
        page::{Page, Paged},
        permission::Permission,
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    catalog::VendorName,
    state::Management,
};

/// Longest partner ID, in bytes (the column's bound).
const MAX_PARTNER_ID_BYTES: usize = 256;
/// Longest endpoint, in bytes: with its parameters it is to fit into any browser's and proxy's request line.
const MAX_ENDPOINT_BYTES: usize = 1024;
/// Longest life of an ID in days, which is that of a cookie in browsers.
const MAX_TTL_DAYS: i32 = 400;

/// Input about how a pipeline syncs with a vendor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentitySourceInput {
    /// Public tag or pixel ID that you have at the vendor: `partner_label` and `partner_help` of the
    /// catalogue say which. 1 to 256 printable ASCII characters.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]([ -~]*[!-~])?$")]
    partner_id: String,
    /// Days for which an ID is kept, 1 to 400. Null, or absent where the vendor is new: its `default_ttl_days` as it
    /// is now.
    #[serde(default)]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 400)]
    ttl_days: Member<i32>,
    /// True where the sync is offered to browsers, as it is with a new vendor.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
    /// URL that browsers are sent to instead of the vendor's `default_endpoint`: https, or http on loopback;
    /// without credentials and fragment. Outside the vendor's own domain it needs `settings:delete`. Null: the vendor's.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1024)]
    endpoint: Member<String>,
    /// True where the sync is kept from browsers whose engine blocks third parties (Safari, Firefox, all of iOS): they
    /// bring no ID, or one that is of use on your site alone. False with a new vendor.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    supported_browsers_only: Option<bool>,
}

/// Refusal of an endpoint to whom may not remove: browsers are sent there, with what the vendor is told.
const OUTSIDE: &str =
    "An endpoint outside the vendor's own domain needs the right to remove settings (admin).";

/// A vendor that a pipeline syncs with.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = identity_sources, check_for_backend(diesel::pg::Pg))]
pub struct IdentitySourceView {
    vendor: String,
    partner_id: String,
    ttl_days: i32,
    enabled: bool,
    /// URL that browsers are sent to. Null: the vendor's own.
    endpoint: Option<String>,
    /// True where the sync is kept from browsers whose engine blocks third parties.
    supported_browsers_only: bool,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Lists the vendors that a pipeline syncs with, by name.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}/identity-sources", tag = "identity-sources",
    params(("id" = Uuid, Path), Page), responses((status = 200, body = Paged<IdentitySourceView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(pipeline): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<IdentitySourceView>>> {
    let mut connection = state.connection().await?;
    pipelines::exists(&mut connection, caller.org_id, pipeline).await?;
    let found = listed(&mut connection, caller.org_id, pipeline, &page).await?;
    Ok(Json(found))
}

/// Shows how a pipeline syncs with a vendor.
#[utoipa::path(get, path = "/v1/admin/pipelines/{id}/identity-sources/{vendor}", tag = "identity-sources",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = IdentitySourceView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, vendor): Under<VendorName>,
) -> Result<Versioned<IdentitySourceView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, pipeline, &vendor.0).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found))
}

/// Has a pipeline sync with a vendor, or changes how it does. What is left out stays as it is.
#[utoipa::path(put, path = "/v1/admin/pipelines/{id}/identity-sources/{vendor}", tag = "identity-sources",
    request_body = IdentitySourceInput,
    params(("id" = Uuid, Path), ("vendor" = String, Path, description = "Of the catalogue; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = IdentitySourceView), (status = 201, body = IdentitySourceView),
        (status = 409, description = "The version is not the newest.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, vendor): Under<VendorName>,
    seen: IfMatch,
    Body(input): Body<IdentitySourceInput>,
) -> Result<Versioned<IdentitySourceView>> {
    let (org, vendor) = (caller.org_id, vendor.0);
    // Before the core is asked, which another organisation's pipeline is no reason for.
    pipelines::exists(&mut *state.connection().await?, org, pipeline).await?;
    let vendors = state.catalog.vendors().await?;
    let known = vendors.sync.iter().find(|known| known.name == vendor);
    let known = known.ok_or_else(|| unknown_vendor("/v1/admin/catalog/sync-vendors"))?;
    input.check(state.allow_loopback)?;
    let default = i32::try_from(known.default_ttl_days).unwrap_or(MAX_TTL_DAYS);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let locked = pipelines::locked(connection, org, pipeline).await?;
            let before = one(connection, org, pipeline, &vendor).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            let kept = before.as_ref();
            let row = IdentitySource {
                org_id: org,
                pipeline_id: pipeline,
                vendor: vendor.clone(),
                partner_id: input.partner_id,
                ttl_days: input.ttl_days.or(kept.map(|kept| kept.ttl_days)).unwrap_or(default),
                enabled: input.enabled.or(kept.map(|kept| kept.enabled)).unwrap_or(true),
                endpoint: input.endpoint.or(kept.and_then(|kept| kept.endpoint.clone())),
                supported_browsers_only: input
                    .supported_browsers_only
                    .or(kept.map(|kept| kept.supported_browsers_only))
                    .unwrap_or(false),
            };
            leads_elsewhere(connection, org, row.endpoint.as_deref()).await?;
            let stays = kept.is_some_and(|kept| kept.endpoint == row.endpoint);
            let may = caller.role.may(Permission::DeleteSettings);
            if !stays && !may && !is_of_vendor(row.endpoint.as_deref(), &known.default_endpoint) {
                return Err(ApiError::with_message(Code::Forbidden, OUTSIDE));
            }
            if row.enabled {
                let field = std::iter::once(known.field.as_str());
                let filler = custom_providers::filler_of(connection, org, locked.source_id, field).await?;
                filler.map_or(Ok(()), |why| Err(ApiError::field("enabled", why)))?;
            }
            let values = (
                identity_sources::partner_id.eq(row.partner_id.clone()),
                identity_sources::ttl_days.eq(row.ttl_days),
                identity_sources::enabled.eq(row.enabled),
                identity_sources::endpoint.eq(row.endpoint.clone()),
                identity_sources::supported_browsers_only.eq(row.supported_browsers_only),
            );
            let after: IdentitySourceView = insert_into(identity_sources::table)
                .values(row)
                .on_conflict((identity_sources::pipeline_id, identity_sources::vendor))
                .do_update()
                .set(values)
                .returning(IdentitySourceView::as_returning())
                .get_result(connection)
                .await?;
            let id = format!("{pipeline}/{vendor}");
            audit::record(connection, &caller, "identity_source", &id, before.as_ref(), Some(&after)).await?;
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Ends a pipeline's syncs with a vendor. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/pipelines/{id}/identity-sources/{vendor}", tag = "identity-sources",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Under(pipeline, VendorName(vendor)): Under<VendorName>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            pipelines::locked(connection, caller.org_id, pipeline).await?;
            if let Some(removed) = take(connection, caller.org_id, pipeline, &vendor).await? {
                let id = format!("{pipeline}/{vendor}");
                audit::record(connection, &caller, "identity_source", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

impl IdentitySourceInput {
    fn check(&self, allow_loopback: bool) -> Result<()> {
        let mut wrong = Fields::default();
        let id = &self.partner_id;
        // Nothing invisible, which comes along when an ID is copied from a page.
        let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && id.trim() == id;
        // In a path these are no name but a way up, however they are escaped.
        let is_dots = matches!(id.as_str(), "." | "..");
        wrong.check(
            is_plain && !is_dots && (1..=MAX_PARTNER_ID_BYTES).contains(&id.len()),
            "partner_id",
            "must be 1 to 256 printable ASCII characters, without a space at either end, and not only dots",
        );
        let ttl_is_bounded = match self.ttl_days {
            Member::Given(days) => (1..=MAX_TTL_DAYS).contains(&days),
            Member::Absent | Member::Null => true,
        };
        wrong.check(ttl_is_bounded, "ttl_days", format!("must be 1 to {MAX_TTL_DAYS}"));
        wrong.check(
            !matches!(&self.endpoint, Member::Given(endpoint) if !is_endpoint(endpoint)),
            "endpoint",
            "must be an https URL, or an http one on loopback, without credentials and fragment",
        );
        let is_inside = matches!(&self.endpoint, Member::Given(endpoint) if is_origin_inside(endpoint));
        wrong.check(allow_loopback || !is_inside, "endpoint", sources::INSIDE);
        wrong.done()
    }
}

/// Tells whether browsers can be sent to a URL: the core takes it, and with its parameters it fits into a
/// request line.
fn is_endpoint(text: &str) -> bool {
    text.len() <= MAX_ENDPOINT_BYTES && redirect_target(text).is_some()
}

/// True where an endpoint is the vendor's own, or under the same registrable domain (publicsuffix.org).
fn is_of_vendor(endpoint: Option<&str>, default: &str) -> bool {
    let domain = |url: &str| -> Option<String> {
        let url = Url::parse(url).ok()?;
        psl::domain_str(url.domain()?.trim_end_matches('.')).map(str::to_owned)
    };
    endpoint.is_none_or(|endpoint| domain(endpoint).is_some_and(|own| Some(own) == domain(default)))
}

/// Refuses an endpoint at a collect host of the organisation's: browsers would be sent round in a circle.
async fn leads_elsewhere(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    endpoint: Option<&str>,
) -> Result<()> {
    let host = endpoint.and_then(|url| Authority::of(&Url::parse(url).ok()?));
    let Some(host) = host else { return Ok(()) };
    let own = collect_hosts::table
        .filter(collect_hosts::org_id.eq(org))
        .filter(collect_hosts::authority.eq(host.as_str()));
    if select(exists(own)).get_result(connection).await? {
        return Err(ApiError::field("endpoint", "must not be at one of your collect hosts"));
    }
    Ok(())
}

/// Makes the 404 that says where the vendors are listed.
pub fn unknown_vendor(listed_at: &'static str) -> ApiError {
    ApiError::with_message(Code::NotFound, format!("There is no such vendor; see {listed_at}."))
}

named_rows!(identity_sources by pipeline_id and vendor -> IdentitySourceView);
listed_rows!(identity_sources by pipeline_id and vendor -> IdentitySourceView);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_vendor_s_under_its_registrable_domain() {
        let default = "https://ct.pinterest.com/user/";
        for own in
            ["https://ct.pinterest.com/other", "https://PINTEREST.com.", "https://a.b.pinterest.com:8443/x"]
        {
            assert!(is_of_vendor(Some(own), default), "{own}");
        }
        assert!(is_of_vendor(None, default));
        for outside in [
            "https://pinterest.com.evil.example/",
            "https://evil-pinterest.com/",
            "https://pinterest.co.uk/",
            "https://com/",
            "http://127.0.0.1:9/",
        ] {
            assert!(!is_of_vendor(Some(outside), default), "{outside}");
        }
        assert!(!is_of_vendor(Some("https://one.github.io/"), "https://two.github.io/"));
        assert!(!is_of_vendor(Some("http://127.0.0.1:9/"), "http://127.0.0.1:9/"), "no name, no domain");
    }

    #[test]
    fn an_endpoint_is_bounded() {
        let long = format!("https://ct.example/{}", "x".repeat(MAX_ENDPOINT_BYTES));
        assert!(
            is_endpoint("https://ct.example/user/?a=b")
                && !is_endpoint(&long)
                && !is_endpoint("//ct.example")
        );
    }
}
