//! Google: click IDs of Google Ads and Campaign Manager 360, and the client ID of Google Analytics.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, GeneratedId, PhoneForm, Vendor, cookie_format::Format,
};

const NAME: &str = "google";
const NEED: ConsentNeed = ConsentNeed { google: true, ..ConsentNeed::marketing_of(755) };

/// The record of Google.
pub const GOOGLE: Vendor = Vendor {
    click_ids: &[
        // Search Ads 360 and others send a gclid that is none of Google Ads', and say so.
        ClickId {
            only_with: Some(("gclsrc", "aw.ds")),
            conversions_field: Some("gclid"),
            ..ClickId::new(NAME, "gclid", &["gclid"], NEED)
        },
        ClickId { conversions_field: Some("wbraid"), ..ClickId::new(NAME, "wbraid", &["wbraid"], NEED) },
        ClickId { conversions_field: Some("gbraid"), ..ClickId::new(NAME, "gbraid", &["gbraid"], NEED) },
        ClickId { conversions_field: Some("dclid"), ..ClickId::new(NAME, "dclid", &["dclid"], NEED) },
    ],
    generated_ids: &[GeneratedId {
        vendor: NAME,
        field: "client_id",
        cookie: "_ga",
        days: 400,
        need: ConsentNeed { category: "analytics", google: false, ..NEED },
        format: Format::Ga,
        unless_synced: false,
        conversions_field: Some("client_id"),
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("userIdentifiers[].hashedEmail"),
        phone: Some(("userIdentifiers[].hashedPhoneNumber", PhoneForm::E164)),
    }),
    ..Vendor::new(NAME, "Google")
};
