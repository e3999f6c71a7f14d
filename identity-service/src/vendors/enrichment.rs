//! The enrichment of a vendor, as a record: an ID for whoever calls with credentials.

use super::{ConsentNeed, Evidence};

/// A vendor that answers a call from a server.
#[derive(Debug)]
pub struct EnrichmentVendor {
    /// The name of the vendor.
    pub name: &'static str,
    /// Help for the customer: what it gives, what it needs to know of a visitor, and where its public
    /// contract differs from the defaults.
    pub help: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// Credentials that it authenticates with.
    pub credentials: &'static [Credential],
    /// Scheme and host of its address.
    pub base_url: &'static str,
    /// The HTTP method, `GET` or `POST`.
    pub method: &'static str,
    /// Path below the base URL.
    pub path: &'static str,
    /// Headers, with `{{name}}` where a credential goes.
    pub headers: &'static [(&'static str, &'static str)],
    /// JSON path of the ID in the answer.
    pub json_path: &'static str,
    /// Life of the ID, as settings write it.
    pub ttl: &'static str,
    /// Evidence for that contract.
    pub evidence: Evidence,
    /// The public page or repository that shows it; empty where there is none.
    pub evidence_source: &'static str,
    /// The consent that it needs.
    pub need: ConsentNeed,
}

/// A value of a vendor's credentials.
#[derive(Debug)]
pub struct Credential {
    /// Name of the value in settings.
    pub name: &'static str,
    /// Label in the vendor's own words.
    pub label: &'static str,
    /// Help for the customer: where the value is found.
    pub help: &'static str,
}

/// Headers of vendors that take the credential `api_key` as a bearer token.
pub const BEARER: &[(&str, &str)] = &[("authorization", "Bearer {{api_key}}")];
