//! What an enrichment vendor is: one record. Adding one is a record in [`super::table`].

use super::sync::Evidence;

/// A vendor that answers a call from a server.
#[derive(Debug)]
pub struct EnrichmentVendor {
    /// In paths, metrics and settings.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// What it does, what it needs to know of a visitor, and where its public contract differs from the defaults.
    pub help: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// What it authenticates with.
    pub credentials: &'static [Credential],
    /// Scheme and host.
    pub base_url: &'static str,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path below the base URL.
    pub path: &'static str,
    /// Headers, with `{{name}}` where a credential goes.
    pub headers: &'static [(&'static str, &'static str)],
    /// Where in the answer the ID is.
    pub json_path: &'static str,
    /// How long an ID is kept, as settings write it.
    pub ttl: &'static str,
    /// How well that contract is evidenced.
    pub evidence: Evidence,
    /// The public page or repository that shows it.
    pub evidence_source: &'static str,
}

/// One value of a vendor's credentials.
#[derive(Debug)]
pub struct Credential {
    /// In settings.
    pub name: &'static str,
    /// In the vendor's own words.
    pub label: &'static str,
    /// Where the customer finds it.
    pub help: &'static str,
}
