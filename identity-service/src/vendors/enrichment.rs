//! The enrichment of a vendor, as a record: an ID for whoever calls with credentials.

use serde_json::Value;

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
    /// Credentials that go as user and password of HTTP basic authentication, unless the headers have an
    /// authorization.
    pub basic: Option<[&'static str; 2]>,
    /// Template of the request, JSON: the body of a POST, the parameters of a GET. Beside the variables of all
    /// templates it may name [`VARIABLES`].
    pub request: &'static str,
    /// Variables of which one at least has to have a value, else there is nothing to ask with.
    pub inputs: &'static [&'static str],
    /// JSON path of the ID in the answer.
    pub json_path: &'static str,
    /// Reader of the ID in an answer of another shape that the vendor is known to give.
    pub other_shape: Option<OtherShape>,
    /// JSON path of the person's attributes in the answer, where the vendor sends any.
    pub attributes: Option<&'static str>,
    /// HTTP statuses by which the vendor says that it knows nobody, beside 204.
    pub no_match: &'static [u16],
    /// The protocol that requests and answers are in.
    pub protocol: Protocol,
    /// True where the ID is the customer's own number of a person, which is not told to who only claims to be them.
    pub is_own_number: bool,
    /// Life of the ID, as settings write it.
    pub ttl: &'static str,
    /// Evidence for that contract.
    pub evidence: Evidence,
    /// The public page or repository that shows it; empty where there is none.
    pub evidence_source: &'static str,
    /// Other contracts of the vendor that are public, for settings to begin with.
    pub presets: &'static [Preset],
    /// The consent that it needs.
    pub need: ConsentNeed,
}

/// Settings that follow a public contract of a vendor which differs from the record.
#[derive(Debug)]
pub struct Preset {
    /// The name of the contract, in the alphabet of vendors' names.
    pub name: &'static str,
    /// Help for the customer: what to put in the places of `YOUR_…`, and what else is to be known.
    pub help: &'static str,
    /// The settings, a JSON object of what a source may set.
    pub settings: &'static str,
    /// Evidence for that contract.
    pub evidence: Evidence,
    /// The public page or repository that shows it.
    pub evidence_source: &'static str,
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

/// Finds the ID in an answer.
pub type OtherShape = for<'a> fn(&'a Value) -> Option<&'a str>;

/// The protocol of a vendor's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// JSON in the clear of TLS.
    Json,
    /// Unified ID 2.0: JSON encrypted under the client secret, with tokens that are refreshed.
    Uid2,
}

/// Variables that the templates of vendors may name beside those of all templates.
pub const VARIABLES: &[&str] = &["device_id", "device_type"];

/// Headers of vendors that take the credential `api_key` as a bearer token.
pub const BEARER: &[(&str, &str)] = &[("authorization", "Bearer {{api_key}}")];
