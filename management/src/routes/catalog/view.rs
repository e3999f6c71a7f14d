//! What is told of a vendor: the core's messages as JSON.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

/// How well a vendor's endpoint is evidenced.
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

/// How a vendor returns the ID.
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
    /// In paths and metrics.
    name: String,
    /// For people.
    label: String,
    /// The field of an identity that holds the ID.
    field: String,
    /// The partner ID in the vendor's own words.
    partner_label: String,
    /// Where to find it.
    partner_help: String,
    /// How long an ID is kept unless you say else, in days.
    default_ttl_days: u32,
    /// The consent category that is needed.
    category: String,
    /// Null: not known here yet.
    mode: Option<Mode>,
    /// Null: not known here yet.
    evidence: Option<Evidence>,
    /// Public page or repository that shows the endpoint. Null: none.
    evidence_source: Option<String>,
    /// Hosts that your pages' CSP must allow in `img-src`; with another `endpoint`, also that one's.
    csp_hosts: Vec<String>,
    /// Where browsers are sent unless you say else.
    default_endpoint: String,
    /// What you have to agree on with the vendor: its ID comes in the place of its macro, and `{collect_url}` stands for
    /// scheme and host of your collect host. Null: nothing.
    callback: Option<String>,
}

/// A vendor of enrichment.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentVendor {
    /// In paths and metrics.
    name: String,
    /// For people.
    label: String,
    /// The field of an identity that holds the ID.
    field: String,
    /// What it does and needs, and where its public contract differs from the defaults.
    help: String,
    /// What has to be configured to call it.
    credentials: Vec<CredentialField>,
    /// What holds unless you say else. Null: not known here yet.
    default_config: Option<EnrichmentConfig>,
    /// The host that is called, for a firewall. No browser calls it, so a CSP needs none.
    host: String,
    /// Null: not known here yet.
    evidence: Option<Evidence>,
    /// Public page or repository that shows the contract. Null: none.
    evidence_source: Option<String>,
}

/// One value of a vendor's credentials.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialField {
    /// In settings.
    name: String,
    /// In the vendor's own words.
    label: String,
    /// Where to find it.
    help: String,
}

/// How a vendor of enrichment is called.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichmentConfig {
    /// Scheme and host.
    base_url: String,
    /// `GET` or `POST`.
    method: String,
    /// Below the base URL.
    path: String,
    /// Name to value; `{{name}}` stands for a credential.
    headers: BTreeMap<String, String>,
    /// Where in the answer the ID is (RFC 9535).
    json_path: String,
    /// How long an ID is kept: `90d`.
    ttl: String,
}

/// A vendor of which IDs are collected without asking it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CollectedVendor {
    /// In paths.
    name: String,
    /// What its advertisements add to the URL of the page they lead to.
    click_ids: Vec<ClickId>,
    /// What its script would make and keep in a cookie.
    generated_ids: Vec<GeneratedId>,
}

/// A click ID.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClickId {
    /// The field of an identity that holds it.
    field: String,
    /// Names of the URL's parameter.
    parameters: Vec<String>,
    /// How long it is kept, in days.
    ttl_days: u32,
    /// The consent category that is needed.
    category: String,
}

/// An ID that is made in the vendor's own format.
#[derive(Debug, Serialize, ToSchema)]
pub struct GeneratedId {
    /// The field of an identity that holds it.
    field: String,
    /// The vendor's cookie.
    cookie: String,
    /// How long it is kept, in days.
    ttl_days: u32,
    /// The consent category that is needed.
    category: String,
    /// It is made only where the vendor's sync, which assigns the same ID, is off.
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
        }
    }
}

impl From<v1::EnrichmentVendor> for EnrichmentVendor {
    fn from(vendor: v1::EnrichmentVendor) -> Self {
        let config = |config: v1::EnrichmentConfig| EnrichmentConfig {
            base_url: config.base_url,
            method: config.method,
            path: config.path,
            headers: config.headers.into_iter().collect(),
            json_path: config.json_path,
            ttl: config.ttl,
        };
        let credential = |field: v1::Credential| CredentialField {
            name: field.name,
            label: field.label,
            help: field.help,
        };
        Self {
            evidence: evidence(vendor.evidence()),
            name: vendor.name,
            label: vendor.label,
            field: vendor.field,
            help: vendor.help,
            credentials: vendor.credential_fields.into_iter().map(credential).collect(),
            default_config: vendor.default_config.map(config),
            host: vendor.host,
            evidence_source: given(vendor.evidence_source),
        }
    }
}

impl From<v1::CollectedVendor> for CollectedVendor {
    fn from(vendor: v1::CollectedVendor) -> Self {
        let click_id = |id: v1::ClickId| ClickId {
            field: id.field,
            parameters: id.parameters,
            ttl_days: id.ttl_days,
            category: id.category,
        };
        let generated_id = |id: v1::GeneratedId| GeneratedId {
            field: id.field,
            cookie: id.cookie,
            ttl_days: id.ttl_days,
            category: id.category,
            unless_synced: id.unless_synced,
        };
        Self {
            name: vendor.name,
            click_ids: vendor.click_ids.into_iter().map(click_id).collect(),
            generated_ids: vendor.generated_ids.into_iter().map(generated_id).collect(),
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

/// What the contract says by an empty text, and JSON by null.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
