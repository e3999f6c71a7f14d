//! The gateway sync of a vendor, as a record.

use super::{ConsentNeed, Evidence};

/// A vendor that assigns its ID in a redirect.
#[derive(Debug)]
pub struct SyncVendor {
    /// The vendor's name, at most 16 bytes: a sync state has room for no more.
    pub name: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// The partner ID in the vendor's own words.
    pub partner_label: &'static str,
    /// Help for the customer: where the partner ID is found.
    pub partner_help: &'static str,
    /// Life of the ID in days, unless the customer says otherwise.
    pub ttl_days: u16,
    /// The consent that it needs.
    pub need: ConsentNeed,
    /// URL that the browser is sent to: https, without the parameters below.
    pub endpoint: &'static str,
    /// Query parameter that carries the partner ID.
    pub partner_param: &'static str,
    /// Further parameters that are always sent.
    pub fixed_params: &'static [(&'static str, &'static str)],
    /// The way in which the ID comes back.
    pub mode: Mode,
    /// Parameter of the callback that brings the ID.
    pub uid_param: &'static str,
    /// Form of the vendor's IDs.
    pub uid_shape: UidShape,
    /// Evidence for the endpoint.
    pub evidence: Evidence,
    /// The public page or repository that shows it; empty where there is none.
    pub evidence_source: &'static str,
    /// Member of the vendor's conversions API that takes the ID, where its documentation has one.
    pub conversions_field: Option<&'static str>,
}

/// The way in which a vendor's ID comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The callback's URL travels in `param`; the vendor adds the ID as a parameter of its own, or puts it in
    /// the place of `uid_macro`.
    Redirect {
        /// Query parameter that carries the callback's URL.
        param: &'static str,
        /// Macro that stands for the ID in the callback's URL. None: the vendor adds the parameter itself.
        uid_macro: Option<&'static str>,
    },
    /// The callback's URL travels in `param` and ends in `uid=`; the vendor glues the ID to it, unescaped.
    Append {
        /// Query parameter that carries the callback's URL.
        param: &'static str,
    },
    /// The callback's URL was agreed out of band, so the state travels in a cookie.
    Registered {
        /// Macro that stands for the ID in the URL that is agreed.
        uid_macro: &'static str,
    },
}

/// Form of a vendor's IDs, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UidShape {
    /// The ID is any printable text.
    Opaque,
    /// The ID is a UUID.
    Uuid,
}
