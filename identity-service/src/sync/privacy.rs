//! Consent that goes along with the browser: the visitor's signals under the vendor's own names of parameters.

use std::borrow::Cow;

use crate::{consent::Forwarded, vendors::sync::PrivacyParams};

/// The parameters of a vendor's URL; what the visitor has not said, or the vendor has no name for, is left out.
pub fn params<'a>(names: &PrivacyParams, said: Forwarded<'a>) -> Vec<(&'static str, Cow<'a, str>)> {
    let gdpr = said.gdpr.map(|applies| Cow::Borrowed(if applies { "1" } else { "0" }));
    let pairs = [
        (names.gdpr, gdpr),
        (names.tcf, said.tcf.map(Cow::Borrowed)),
        (names.us_privacy, said.us_privacy.map(Cow::Borrowed)),
        (names.gpp, said.gpp.map(Cow::Borrowed)),
        (names.gpp_sid, said.gpp_sid.map(Cow::Owned)),
    ];
    pairs.into_iter().filter_map(|(name, value)| name.zip(value)).collect()
}
