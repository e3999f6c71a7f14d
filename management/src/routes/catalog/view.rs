//! Vendors as the API shows them: the core's messages as JSON.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::page::Paged;

/// Evidence that there is for a vendor's endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The vendor documents it.
    Documented,
    /// Seen in public code, not documented by the vendor.
    Observed,
    /// Only this product's specification names it: agree with the vendor on it before you rely on it.
    SpecOnly,
}

/// Way in which a vendor returns the ID.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The callback's URL travels in a parameter; a macro or a parameter brings the ID.
    Redirect,
    /// The ID is glued to the end of the callback's URL.
    Append,
    /// The callback's URL has to be agreed with the vendor: `callback`.
    Registered,
}

/// A vendor of gateway sync.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncVendor {
    /// Name of the vendor in paths and metrics.
    name: String,
    /// Name of the vendor for people.
    label: String,
    /// The field of an identity that holds the ID.
    field: String,
    /// The partner ID in the vendor's own words.
    partner_label: String,
    /// Help for people: where to find it.
    partner_help: String,
    /// Days for which an ID is kept unless you say else.
    default_ttl_days: u32,
    /// The consent category that is needed.
    category: String,
    /// Way in which the vendor returns the ID. Null: not known here yet.
    mode: Option<Mode>,
    /// Evidence that there is for the endpoint. Null: not known here yet.
    evidence: Option<Evidence>,
    /// Public page or repository that shows the endpoint. Null: none.
    evidence_source: Option<String>,
    /// Hosts that your pages' CSP must allow in `img-src`; with another `endpoint`, also that one's.
    csp_hosts: Vec<String>,
    /// URL that browsers are sent to unless you say else.
    default_endpoint: String,
    /// Callback to agree on with the vendor: its ID comes in the place of its macro, and `{collect_url}`
    /// stands for scheme and host of your collect host. Null: nothing.
    callback: Option<String>,
    /// Help for people: what to ask the vendor for first, and how sure it is that it sends browsers back.
    setup_help: String,
    /// Help for people: what delivery can do with the ID.
    delivery_help: String,
    /// Member of the vendor's conversions API that takes the ID. Null: none is documented.
    conversions_field: Option<String>,
    /// ID of the vendor on IAB's Global Vendor List. Null: it is not on it.
    gvl_id: Option<u32>,
}

/// A page of the vendors of gateway sync, and help that is not about one vendor.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncVendors {
    /// The page's vendors.
    #[serde(flatten)]
    pub page: Paged<SyncVendor>,
    /// Help on gateway sync as a whole.
    pub guide: SyncGuide,
}

/// Help on gateway sync as a whole, for people who set it up.
#[derive(Debug, Serialize, ToSchema)]
pub struct SyncGuide {
    /// Difference between the partner ID of a sync and what server-side delivery takes.
    partner_id: String,
    /// Price of a shorter life of IDs, and of a longer one.
    ttl: String,
    /// Warning to show beside a pipeline's `consent_mode`.
    consent_mode: String,
    /// Share of visitors of whom an ID can be expected.
    expectation: String,
    /// Kinds of visitors, those with ad blockers among them, each with what becomes of a sync.
    visitors: Vec<VisitorOutlook>,
    /// Ways to match visitors whom syncs don't reach.
    helps: Vec<String>,
    /// Ways that are thought to, and don't.
    does_not_help: Vec<String>,
}

/// Outlook for syncs of one kind of visitor.
#[derive(Debug, Serialize, ToSchema)]
pub struct VisitorOutlook {
    /// Kind of visitor.
    visitor: String,
    /// Outcome of a sync.
    outcome: String,
}

/// A vendor of enrichment.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentVendor {
    /// Name of the vendor in paths and metrics.
    name: String,
    /// Name of the vendor for people.
    label: String,
    /// The field of an identity that holds the ID.
    field: String,
    /// Help for people: what the vendor does and needs, and where its public contract differs from the
    /// defaults.
    help: String,
    /// Credentials that have to be configured to call it.
    credentials: Vec<CredentialField>,
    /// Settings that hold unless you say else. Null: not known here yet.
    default_config: Option<EnrichmentConfig>,
    /// The host that is called, for a firewall. No browser calls it, so a CSP needs none.
    host: String,
    /// Evidence that there is for the contract. Null: not known here yet.
    evidence: Option<Evidence>,
    /// Public page or repository that shows the contract. Null: none.
    evidence_source: Option<String>,
    /// Other contracts of the vendor that are public, as settings to begin with.
    presets: Vec<EnrichmentPreset>,
}

/// Settings that follow a public contract of a vendor which differs from its `default_config`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentPreset {
    /// Name of the contract.
    name: String,
    /// Help for people: what to put in the places of `YOUR_…`, and what else is to be known.
    help: String,
    /// Settings to begin with, for `config` of a source's enrichment.
    config: Map<String, Value>,
    /// Names of the credentials that these settings need.
    credentials: Vec<String>,
    /// Evidence that there is for the contract.
    evidence: Option<Evidence>,
    /// Public page or repository that shows the contract. Null: none.
    evidence_source: Option<String>,
}

/// A value of a vendor's credentials.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialField {
    /// Name of the value in settings.
    name: String,
    /// Name of the value in the vendor's own words.
    label: String,
    /// Help for people: where to find it.
    help: String,
}

/// Request that a vendor of enrichment is called with.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentConfig {
    /// Scheme and host of the vendor.
    base_url: String,
    /// Method of the request, `GET` or `POST`.
    method: String,
    /// Path below the base URL.
    path: String,
    /// Headers, name to value; `{{name}}` stands for a credential.
    headers: BTreeMap<String, String>,
    /// Content of the request: JSON with variables, of GET the parameters.
    request_template: Map<String, Value>,
    /// Query that finds the ID in the answer (RFC 9535).
    json_path: String,
    /// Time for which an ID is kept, such as `90d`.
    ttl: String,
}

/// A provider of profiles.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProfileProvider {
    /// Name of the provider in paths and metrics.
    name: String,
    /// Name of the provider for people.
    label: String,
    /// Help for people: what it gives, and what it needs.
    help: String,
    /// Fields of its settings, in the order of a form.
    fields: Vec<ProviderField>,
}

/// A destination of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct Destination {
    /// Name of the destination in paths and metrics.
    name: String,
    /// Name of the destination for people.
    label: String,
    /// Help for people: what it gets, and what it needs.
    help: String,
    /// Fields of its settings, in the order of a form.
    fields: Vec<ProviderField>,
    /// Blueprint that events are sent by: its global mappings, and the events of each preset. Null: events are sent as
    /// they came.
    #[schema(value_type = Option<Object>)]
    blueprint: Option<Value>,
    /// Vendors whose match keys may be sent along.
    match_keys: Vec<String>,
}

/// A field of a provider's settings.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderField {
    /// Name of the field in settings.
    key: String,
    /// Name of the field for people.
    label: String,
    /// Way in which a form takes it: `string`, `secret`, `textarea` (JSON), `csv` or `boolean`.
    #[serde(rename = "type")]
    kind: String,
    /// True where settings need it.
    required: bool,
    /// Help for people: what it is, and where it is found.
    help: String,
}

/// A vendor of which IDs are collected without asking it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CollectedVendor {
    /// Name of the vendor in paths.
    name: String,
    /// Click IDs that its advertisements add to the URL of the page they lead to.
    click_ids: Vec<ClickId>,
    /// IDs that its script would make and keep in a cookie.
    generated_ids: Vec<GeneratedId>,
}

/// A click ID of a vendor.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClickId {
    /// The field of an identity that holds it.
    field: String,
    /// Names of the URL's parameter.
    parameters: Vec<String>,
    /// Days for which the ID is kept.
    ttl_days: u32,
    /// The consent category that is needed.
    category: String,
}

/// An ID that is made in the vendor's own format.
#[derive(Debug, Serialize, ToSchema)]
pub struct GeneratedId {
    /// The field of an identity that holds it.
    field: String,
    /// Name of the vendor's cookie.
    cookie: String,
    /// Days for which the ID is kept.
    ttl_days: u32,
    /// The consent category that is needed.
    category: String,
    /// True where the ID is made only where the vendor's sync, which assigns the same ID, is off.
    unless_synced: bool,
}

impl From<v1::SyncVendor> for SyncVendor {
    fn from(vendor: v1::SyncVendor) -> Self {
        Self {
            mode: match vendor.mode() {
                v1::SyncMode::Unspecified => None,
                v1::SyncMode::Redirect => Some(Mode::Redirect),
                v1::SyncMode::Append => Some(Mode::Append),
                v1::SyncMode::Registered => Some(Mode::Registered),
            },
            evidence: evidence(vendor.evidence()),
            name: vendor.name,
            label: vendor.label,
            field: vendor.field,
            partner_label: vendor.partner_label,
            partner_help: vendor.partner_help,
            default_ttl_days: vendor.default_ttl_days,
            category: vendor.category,
            evidence_source: given(vendor.evidence_source),
            csp_hosts: vendor.csp_hosts,
            default_endpoint: vendor.default_endpoint,
            callback: given(vendor.callback_template),
            setup_help: vendor.setup_help,
            delivery_help: vendor.delivery_help,
            conversions_field: vendor.conversions_field,
            gvl_id: vendor.gvl_id,
        }
    }
}

impl From<v1::SyncGuide> for SyncGuide {
    fn from(guide: v1::SyncGuide) -> Self {
        let outlook = |v1::VisitorOutlook { visitor, outcome }| VisitorOutlook { visitor, outcome };
        Self {
            partner_id: guide.partner_id,
            ttl: guide.ttl,
            consent_mode: guide.consent_mode,
            expectation: guide.expectation,
            visitors: guide.visitors.into_iter().map(outlook).collect(),
            helps: guide.helps,
            does_not_help: guide.does_not_help,
        }
    }
}

impl From<v1::EnrichmentVendor> for EnrichmentVendor {
    fn from(vendor: v1::EnrichmentVendor) -> Self {
        Self {
            evidence: evidence(vendor.evidence()),
            name: vendor.name,
            label: vendor.label,
            field: vendor.field,
            help: vendor.help,
            credentials: vendor.credential_fields.into_iter().map(Into::into).collect(),
            default_config: vendor.default_config.map(Into::into),
            host: vendor.host,
            evidence_source: given(vendor.evidence_source),
            presets: vendor.presets.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::EnrichmentPreset> for EnrichmentPreset {
    fn from(preset: v1::EnrichmentPreset) -> Self {
        Self {
            evidence: evidence(preset.evidence()),
            name: preset.name,
            help: preset.help,
            config: proto::json::object(preset.config.unwrap_or_default()),
            credentials: preset.credentials,
            evidence_source: given(preset.evidence_source),
        }
    }
}

impl From<v1::EnrichmentConfig> for EnrichmentConfig {
    fn from(config: v1::EnrichmentConfig) -> Self {
        Self {
            base_url: config.base_url,
            method: config.method,
            path: config.path,
            headers: config.headers.into_iter().collect(),
            request_template: proto::json::object(config.request_template.unwrap_or_default()),
            json_path: config.json_path,
            ttl: config.ttl,
        }
    }
}

impl From<v1::Credential> for CredentialField {
    fn from(field: v1::Credential) -> Self {
        Self { name: field.name, label: field.label, help: field.help }
    }
}

impl From<v1::ProviderField> for ProviderField {
    fn from(field: v1::ProviderField) -> Self {
        let v1::ProviderField { key, label, r#type, required, help } = field;
        Self { key, label, kind: r#type, required, help }
    }
}

impl From<v1::Destination> for Destination {
    fn from(destination: v1::Destination) -> Self {
        Self {
            name: destination.name,
            label: destination.label,
            help: destination.help,
            fields: destination.fields.into_iter().map(Into::into).collect(),
            blueprint: destination.blueprint.map(|blueprint| Value::Object(proto::json::object(blueprint))),
            match_keys: destination.match_keys,
        }
    }
}

impl From<v1::ProfileProvider> for ProfileProvider {
    fn from(provider: v1::ProfileProvider) -> Self {
        Self {
            name: provider.name,
            label: provider.label,
            help: provider.help,
            fields: provider.fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::CollectedVendor> for CollectedVendor {
    fn from(vendor: v1::CollectedVendor) -> Self {
        Self {
            name: vendor.name,
            click_ids: vendor.click_ids.into_iter().map(Into::into).collect(),
            generated_ids: vendor.generated_ids.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::ClickId> for ClickId {
    fn from(id: v1::ClickId) -> Self {
        Self { field: id.field, parameters: id.parameters, ttl_days: id.ttl_days, category: id.category }
    }
}

impl From<v1::GeneratedId> for GeneratedId {
    fn from(id: v1::GeneratedId) -> Self {
        Self {
            field: id.field,
            cookie: id.cookie,
            ttl_days: id.ttl_days,
            category: id.category,
            unless_synced: id.unless_synced,
        }
    }
}

fn evidence(evidence: v1::Evidence) -> Option<Evidence> {
    match evidence {
        v1::Evidence::Unspecified => None,
        v1::Evidence::Documented => Some(Evidence::Documented),
        v1::Evidence::Observed => Some(Evidence::Observed),
        v1::Evidence::SpecOnly => Some(Evidence::SpecOnly),
    }
}

/// Makes null in JSON of an empty text, which is how the contract says that there is none.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
