//! IDs that a vendor's JavaScript would make and keep in a cookie on the customer's own domain. Here they are
//! made for it, so that they live their full life where browsers cut short what scripts set.

use super::{ConsentNeed, cookie_format::Format};

/// An ID that is made in the vendor's own format.
#[derive(Debug, PartialEq, Eq)]
pub struct GeneratedId {
    /// The name of the vendor.
    pub vendor: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// Name of the vendor's cookie.
    pub cookie: &'static str,
    /// Life of the ID in days; browsers keep no cookie longer than 400.
    pub days: u16,
    /// The consent that it needs.
    pub need: ConsentNeed,
    /// The format of the cookie.
    pub format: Format,
    /// True where the vendor assigns the same ID in its gateway sync, so that it is made only where that is off.
    pub unless_synced: bool,
    /// Member of the vendor's conversions API that takes the ID, where its documentation has one.
    pub conversions_field: Option<&'static str>,
}
