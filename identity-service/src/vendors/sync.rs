//! The gateway sync of a vendor, as a record.

use uuid::Uuid;

use super::{ConsentNeed, Evidence};

/// A vendor that assigns its ID in a redirect.
#[derive(Debug, Clone)]
pub struct SyncVendor {
    /// The vendor's name, at most 16 bytes: a sync state has room for no more.
    pub name: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// The partner ID in the vendor's own words.
    pub partner_label: &'static str,
    /// Texts for the customer.
    pub help: SyncHelp,
    /// Life of the ID in days, unless the customer says otherwise.
    pub ttl_days: u16,
    /// The consent that it needs.
    pub need: ConsentNeed,
    /// URL that the browser is sent to: https, without the parameters below.
    pub endpoint: &'static str,
    /// Further hosts that the vendor's syncs are known to run through, for a site's `img-src`.
    pub chain_hosts: &'static [&'static str],
    /// The place of the partner ID in the URL.
    pub partner: PartnerIn,
    /// Further parameters that are always sent.
    pub fixed_params: &'static [(&'static str, &'static str)],
    /// The vendor's names of the parameters that hand on the visitor's consent.
    pub privacy: PrivacyParams,
    /// The way in which the ID comes back.
    pub mode: Mode,
    /// Parameter of the callback that brings the ID.
    pub uid_param: &'static str,
    /// Form of the vendor's IDs.
    pub uid_shape: UidShape,
    /// Values that the vendor sends in place of an ID, in lower case, beside those that nobody's ID is.
    pub sentinels: &'static [&'static str],
    /// Evidence for the endpoint.
    pub evidence: Evidence,
    /// The public page or repository that shows it; empty where there is none.
    pub evidence_source: &'static str,
    /// Member of the vendor's conversions API that takes the ID, where its documentation has one.
    pub conversions_field: Option<&'static str>,
}

/// Texts on a vendor's sync, for the customer who sets it up.
#[derive(Debug, Clone, Copy)]
pub struct SyncHelp {
    /// The place where the partner ID is found, and what is easily taken for it.
    pub partner: &'static str,
    /// The things that the vendor has to be asked for before a sync can work, and how sure that is.
    pub setup: &'static str,
    /// The use that delivery has for the ID.
    pub delivery: &'static str,
}

/// The place of the partner ID in a vendor's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartnerIn {
    /// The query parameter of that name.
    Param(&'static str),
    /// A segment behind the endpoint's path, and the path that follows it.
    Path {
        /// The path behind the partner ID, from its slash on.
        rest: &'static str,
    },
}

/// A vendor's names of the parameters that hand on consent; none where it takes no such parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrivacyParams {
    /// The GDPR's application, `0` or `1`.
    pub gdpr: Option<&'static str>,
    /// The TCF consent string.
    pub tcf: Option<&'static str>,
    /// The US privacy string.
    pub us_privacy: Option<&'static str>,
    /// The GPP string.
    pub gpp: Option<&'static str>,
    /// The GPP sections that apply, separated by commas.
    pub gpp_sid: Option<&'static str>,
}

impl PrivacyParams {
    /// The names of IAB's URL-based services, which a vendor without names of its own is sent as well.
    pub const IAB: Self = Self { gpp: Some("gpp"), gpp_sid: Some("gpp_sid"), ..Self::IAB_BEFORE_GPP };
    /// The names of IAB from before there was GPP.
    pub const IAB_BEFORE_GPP: Self = Self { us_privacy: Some("us_privacy"), ..Self::IAB_TCF };
    /// The names of IAB for TCF alone.
    pub const IAB_TCF: Self =
        Self { gdpr: Some("gdpr"), tcf: Some("gdpr_consent"), us_privacy: None, gpp: None, gpp_sid: None };
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
        /// Parameters that the vendor, and proxies on the way, add behind the ID: they end it.
        tail: &'static [&'static str],
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
    /// The ID is a GUID of 32 hexadecimal digits, without dashes.
    Hex32,
    /// The ID is a time in Unix milliseconds, a point and a UUID.
    TimedUuid,
}

impl UidShape {
    /// True where a text has this form.
    pub fn fits(self, text: &str) -> bool {
        let is_uuid = |text: &str| text.len() == 36 && Uuid::try_parse(text).is_ok();
        match self {
            Self::Opaque => true,
            Self::Uuid => is_uuid(text),
            Self::Hex32 => text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            Self::TimedUuid => text.split_once('.').is_some_and(|(time, uuid)| {
                time.len() == 13 && time.bytes().all(|byte| byte.is_ascii_digit()) && is_uuid(uuid)
            }),
        }
    }

    /// An ID of this form that is nobody's.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Opaque => "aB3-_.~1",
            Self::Uuid => "7d0f5c3e-2b1a-4c9d-8e6f-0a1b2c3d4e5f",
            Self::Hex32 => "7D0F5C3E2B1A4C9D8E6F0A1B2C3D4E5F",
            Self::TimedUuid => "1764400000000.7d0f5c3e-2b1a-4c9d-8e6f-0a1b2c3d4e5f",
        }
    }
}
