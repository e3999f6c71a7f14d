//! The catalogue: vendors that there are, and what a customer has to know of each. The core says it; nothing
//! of it is repeated here.

mod view;

use axum::{Json, extract::State};

use self::view::{CollectedVendor, Destination, EnrichmentVendor, ProfileProvider, SyncVendor, SyncVendors};
use crate::{
    api::{
        error::Result,
        page::{Page, Paged},
        query::Query,
    },
    state::Management,
};

/// Lists the vendors of gateway sync, with help for whoever sets them up.
#[utoipa::path(get, path = "/v1/admin/catalog/sync-vendors", tag = "catalog", params(Page),
    responses((status = 200, body = SyncVendors)))]
pub async fn sync_vendors(
    State(state): State<Management>,
    Query(page): Query<Page>,
) -> Result<Json<SyncVendors>> {
    let vendors = state.catalog.vendors().await?;
    let page = paged(&page, &vendors.sync, |vendor| &vendor.name)?.map(SyncVendor::from);
    Ok(Json(SyncVendors { page, guide: vendors.sync_guide.clone().into() }))
}

/// Lists the vendors of enrichment.
#[utoipa::path(get, path = "/v1/admin/catalog/enrichment-vendors", tag = "catalog", params(Page),
    responses((status = 200, body = Paged<EnrichmentVendor>)))]
pub async fn enrichment_vendors(
    State(state): State<Management>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<EnrichmentVendor>>> {
    let vendors = state.catalog.vendors().await?;
    Ok(Json(paged(&page, &vendors.enrichment, |vendor| &vendor.name)?.map(EnrichmentVendor::from)))
}

/// Lists the providers of profiles, with the fields of a form for their settings.
#[utoipa::path(get, path = "/v1/admin/catalog/profile-providers", tag = "catalog", params(Page),
    responses((status = 200, body = Paged<ProfileProvider>)))]
pub async fn profile_providers(
    State(state): State<Management>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<ProfileProvider>>> {
    let vendors = state.catalog.vendors().await?;
    Ok(Json(paged(&page, &vendors.profiles, |provider| &provider.name)?.map(ProfileProvider::from)))
}

/// Lists the destinations of events, with the fields of a form for their settings and the blueprints that events are sent
/// by.
#[utoipa::path(get, path = "/v1/admin/catalog/destinations", tag = "catalog", params(Page),
    responses((status = 200, body = Paged<Destination>)))]
pub async fn destinations(
    State(state): State<Management>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<Destination>>> {
    let vendors = state.catalog.vendors().await?;
    Ok(Json(paged(&page, &vendors.destinations, |own| &own.name)?.map(Destination::from)))
}

/// Lists the vendors of which click IDs and generated IDs are collected.
#[utoipa::path(get, path = "/v1/admin/catalog/generated-ids", tag = "catalog", params(Page),
    responses((status = 200, body = Paged<CollectedVendor>)))]
pub async fn generated_ids(
    State(state): State<Management>,
    Query(page): Query<Page>,
) -> Result<Json<Paged<CollectedVendor>>> {
    let vendors = state.catalog.vendors().await?;
    Ok(Json(paged(&page, &vendors.collected, |vendor| &vendor.name)?.map(CollectedVendor::from)))
}

/// Cuts the page of `all` that is asked for, in their order.
fn paged<T: Clone>(page: &Page, all: &[T], name: impl Fn(&T) -> &str) -> Result<Paged<T>> {
    let after = page.after::<String>()?;
    let begin = after.map_or(0, |after| {
        // Behind the end where the vendor is gone, which ends the list.
        all.iter().position(|vendor| name(vendor) == after).map_or(all.len(), |at| at + 1)
    });
    let rows = usize::try_from(page.rows()).unwrap_or(usize::MAX);
    let rows = all.iter().skip(begin).take(rows).cloned().collect();
    Ok(page.of(rows, |vendor| name(vendor).to_owned()))
}
