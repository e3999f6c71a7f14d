//! What a gateway-sync vendor is: one record. Adding one is a record in [`super::table`] and its fixtures.

/// A vendor that assigns its ID in a redirect.
#[derive(Debug)]
pub struct SyncVendor {
    /// In paths, metrics and settings.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// The partner ID in the vendor's own words.
    pub partner_label: &'static str,
    /// Where the customer finds it.
    pub partner_help: &'static str,
    /// How long an ID is kept unless the customer says else, in days.
    pub ttl_days: u16,
    /// The consent category that is needed.
    pub category: &'static str,
    /// ID in IAB's Global Vendor List, where it has one.
    pub gvl_id: Option<u16>,
    /// Where the browser is sent: https, without the parameters below.
    pub endpoint: &'static str,
    /// Query parameter that carries the partner ID.
    pub partner_param: &'static str,
    /// Further parameters that are always sent.
    pub fixed_params: &'static [(&'static str, &'static str)],
    /// How the ID comes back.
    pub mode: Mode,
    /// Parameter of the callback that brings the ID.
    pub uid_param: &'static str,
    /// What the vendor puts in the ID's place when it has none, beside the sentinels that hold for all.
    pub macros: &'static [&'static str],
    /// What an ID of this vendor looks like.
    pub uid_shape: UidShape,
    /// How well the endpoint is evidenced.
    pub evidence: Evidence,
    /// The public page or repository that shows it.
    pub evidence_source: &'static str,
}

/// How the ID comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The callback's URL travels in `param`; the vendor adds the ID as a parameter of its own, or puts it in
    /// the place of `uid_macro`.
    Redirect {
        /// Query parameter that carries the callback's URL.
        param: &'static str,
        /// What stands for the ID in the callback's URL. None: the vendor adds the parameter itself.
        uid_macro: Option<&'static str>,
    },
    /// The callback's URL travels in `param` and ends in `uid=`; the vendor glues the ID to it, unescaped.
    Append {
        /// Query parameter that carries the callback's URL.
        param: &'static str,
    },
    /// The callback's URL was agreed out of band, so the state travels in a cookie.
    Registered {
        /// What stands for the ID in the URL that is agreed.
        uid_macro: &'static str,
    },
}

/// What an ID looks like, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidShape {
    /// Any printable text.
    Opaque,
    /// A UUID.
    Uuid,
}

/// How well an endpoint is evidenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The vendor documents it.
    Documented,
    /// Seen in public code.
    Observed,
    /// Only the product specification names it.
    SpecOnly,
}
