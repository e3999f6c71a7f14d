//! `CatalogService`: lists the vendors that are built in, and helps whoever sets providers up.

mod destinations;
mod providers;

use std::sync::Arc;

use proto::v1::{
    CheckProviderRequest, CheckProviderResponse, ClickId, CollectedVendor, Credential, DryRunProviderRequest,
    DryRunProviderResponse, EnrichmentConfig, EnrichmentPreset, EnrichmentVendor, Evidence, GeneratedId,
    ListCollectedVendorsRequest, ListCollectedVendorsResponse, ListDestinationsRequest,
    ListDestinationsResponse, ListEnrichmentVendorsRequest, ListEnrichmentVendorsResponse,
    ListProfileProvidersRequest, ListProfileProvidersResponse, ListSyncVendorsRequest,
    ListSyncVendorsResponse, ProfileProvider, ProviderField, ProviderStatusRequest, ProviderStatusResponse,
    SyncGuide, SyncMode, SyncVendor, VisitorOutlook, catalog_service_server::CatalogService,
};
use tonic::{Request, Response, Status};
use url::Url;

use crate::{
    app::App,
    enrich::config,
    profile::catalogue,
    vendors::{self, Vendor, enrichment::Preset, sync::Mode, sync_url},
};

/// The implementation of `CatalogService`.
pub struct Service {
    /// The core that it calls.
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl CatalogService for Service {
    async fn list_sync_vendors(
        &self,
        _: Request<ListSyncVendorsRequest>,
    ) -> Result<Response<ListSyncVendorsResponse>, Status> {
        let vendors = vendors::ALL.iter().filter_map(sync_vendor).collect();
        Ok(Response::new(ListSyncVendorsResponse { vendors, guide: Some(sync_guide()) }))
    }

    async fn list_collected_vendors(
        &self,
        _: Request<ListCollectedVendorsRequest>,
    ) -> Result<Response<ListCollectedVendorsResponse>, Status> {
        let mut vendors: Vec<CollectedVendor> =
            vendors::ALL.iter().filter(|vendor| vendor.is_collected()).map(collected_vendor).collect();
        vendors.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(ListCollectedVendorsResponse { vendors }))
    }

    async fn list_enrichment_vendors(
        &self,
        _: Request<ListEnrichmentVendorsRequest>,
    ) -> Result<Response<ListEnrichmentVendorsResponse>, Status> {
        let vendors = vendors::ALL.iter().filter_map(enrichment_vendor).collect();
        Ok(Response::new(ListEnrichmentVendorsResponse { vendors }))
    }

    async fn list_profile_providers(
        &self,
        _: Request<ListProfileProvidersRequest>,
    ) -> Result<Response<ListProfileProvidersResponse>, Status> {
        let providers = catalogue::ALL.iter().map(profile_provider).collect();
        Ok(Response::new(ListProfileProvidersResponse { providers }))
    }

    async fn list_destinations(
        &self,
        _: Request<ListDestinationsRequest>,
    ) -> Result<Response<ListDestinationsResponse>, Status> {
        Ok(Response::new(ListDestinationsResponse { destinations: destinations::all() }))
    }

    async fn check_provider(
        &self,
        request: Request<CheckProviderRequest>,
    ) -> Result<Response<CheckProviderResponse>, Status> {
        Ok(Response::new(self.check(request.into_inner()).await?))
    }

    async fn dry_run_provider(
        &self,
        request: Request<DryRunProviderRequest>,
    ) -> Result<Response<DryRunProviderResponse>, Status> {
        Ok(Response::new(self.dry_run(request.into_inner()).await?))
    }

    async fn provider_status(
        &self,
        request: Request<ProviderStatusRequest>,
    ) -> Result<Response<ProviderStatusResponse>, Status> {
        Ok(Response::new(self.status(request.into_inner()).await?))
    }
}

fn sync_vendor(vendor: &Vendor) -> Option<SyncVendor> {
    let record = vendor.sync.as_ref()?;
    let mode = match record.mode {
        Mode::Redirect { .. } => SyncMode::Redirect,
        Mode::Append { .. } => SyncMode::Append,
        Mode::Registered { .. } => SyncMode::Registered,
    };
    Some(SyncVendor {
        name: record.name.to_owned(),
        label: vendor.label.to_owned(),
        field: record.field.to_owned(),
        partner_label: record.partner_label.to_owned(),
        partner_help: record.help.partner.to_owned(),
        default_ttl_days: record.ttl_days.into(),
        category: record.need.category.to_owned(),
        mode: mode.into(),
        evidence: evidence(record.evidence).into(),
        evidence_source: record.evidence_source.to_owned(),
        csp_hosts: csp_hosts(record),
        default_endpoint: record.endpoint.to_owned(),
        callback_template: sync_url::registered_callback(record, "{collect_url}").unwrap_or_default(),
        conversions_field: record.conversions_field.map(str::to_owned),
        setup_help: record.help.setup.to_owned(),
        delivery_help: record.help.delivery.to_owned(),
        gvl_id: record.need.gvl_id.map(u32::from),
    })
}

fn sync_guide() -> SyncGuide {
    let guide = vendors::SYNC_GUIDE;
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let outlook = |&(visitor, outcome): &(&str, &str)| VisitorOutlook {
        visitor: visitor.to_owned(),
        outcome: outcome.to_owned(),
    };
    SyncGuide {
        partner_id: guide.partner_id.to_owned(),
        ttl: guide.ttl.to_owned(),
        consent_mode: guide.consent_mode.to_owned(),
        expectation: guide.expectation.to_owned(),
        visitors: guide.visitors.iter().map(outlook).collect(),
        helps: texts(guide.helps),
        does_not_help: texts(guide.does_not_help),
    }
}

/// The hosts that browsers are sent to, that of the endpoint first.
fn csp_hosts(record: &vendors::SyncVendor) -> Vec<String> {
    let chain = record.chain_hosts.iter().map(|&host| host.to_owned());
    std::iter::once(host(record.endpoint)).chain(chain).collect()
}

fn collected_vendor(vendor: &Vendor) -> CollectedVendor {
    let click_ids = vendor.click_ids.iter().map(|record| ClickId {
        field: record.field.to_owned(),
        parameters: record.params.iter().map(|&param| param.to_owned()).collect(),
        ttl_days: record.days.into(),
        category: record.need.category.to_owned(),
        conversions_field: record.conversions_field.map(str::to_owned),
    });
    let generated_ids = vendor.generated_ids.iter().map(|record| GeneratedId {
        field: record.field.to_owned(),
        cookie: record.cookie.to_owned(),
        ttl_days: record.days.into(),
        category: record.need.category.to_owned(),
        unless_synced: record.unless_synced,
        conversions_field: record.conversions_field.map(str::to_owned),
    });
    CollectedVendor {
        name: vendor.name.to_owned(),
        click_ids: click_ids.collect(),
        generated_ids: generated_ids.collect(),
    }
}

fn enrichment_vendor(vendor: &'static Vendor) -> Option<EnrichmentVendor> {
    let record = vendor.enrichment.as_ref()?;
    let credentials = record.credentials.iter();
    let headers = record.headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Some(EnrichmentVendor {
        name: record.name.to_owned(),
        label: vendor.label.to_owned(),
        field: record.field.to_owned(),
        help: record.help.to_owned(),
        credentials: credentials.clone().map(|credential| credential.name.to_owned()).collect(),
        evidence: evidence(record.evidence).into(),
        evidence_source: record.evidence_source.to_owned(),
        credential_fields: credentials
            .map(|credential| Credential {
                name: credential.name.to_owned(),
                label: credential.label.to_owned(),
                help: credential.help.to_owned(),
            })
            .collect(),
        default_config: Some(EnrichmentConfig {
            base_url: record.base_url.to_owned(),
            method: record.method.to_owned(),
            path: record.path.to_owned(),
            headers: headers.collect(),
            json_path: record.json_path.to_owned(),
            ttl: record.ttl.to_owned(),
            request_template: proto::json::of_text(record.request),
        }),
        host: host(record.base_url),
        presets: record.presets.iter().map(|preset| enrichment_preset(record, preset)).collect(),
    })
}

fn enrichment_preset(record: &'static vendors::EnrichmentVendor, preset: &Preset) -> EnrichmentPreset {
    let settings = serde_json::from_str(preset.settings).unwrap_or_default();
    EnrichmentPreset {
        name: preset.name.to_owned(),
        help: preset.help.to_owned(),
        config: proto::json::of_text(preset.settings),
        credentials: config::credentials(record, &settings),
        evidence: evidence(preset.evidence).into(),
        evidence_source: preset.evidence_source.to_owned(),
    }
}

fn profile_provider(record: &catalogue::ProfileProvider) -> ProfileProvider {
    let field = |field: &catalogue::Field| ProviderField {
        key: field.key.to_owned(),
        label: field.label.to_owned(),
        r#type: field.kind.to_owned(),
        required: field.is_required,
        help: field.help.to_owned(),
    };
    ProfileProvider {
        name: record.name.to_owned(),
        label: record.label.to_owned(),
        help: record.help.to_owned(),
        fields: record.fields.iter().map(field).collect(),
    }
}

fn evidence(evidence: vendors::Evidence) -> Evidence {
    match evidence {
        vendors::Evidence::Documented => Evidence::Documented,
        vendors::Evidence::Observed => Evidence::Observed,
        vendors::Evidence::SpecOnly => Evidence::SpecOnly,
    }
}

/// Takes the host from a URL of ours.
fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
