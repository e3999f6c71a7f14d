//! TikTok: the click ID of its advertisements, and the ID of its cookie.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, GeneratedId, PhoneForm, Vendor, cookie_format::Format,
};

const NAME: &str = "tiktok";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of TikTok.
pub const TIKTOK: Vendor = Vendor {
    click_ids: &[ClickId {
        conversions_field: Some("user.ttclid"),
        // As `E.C.P.v3fQ…`.
        signs: ".-_",
        ..ClickId::new(NAME, "ttclid", &["ttclid"], NEED)
    }],
    generated_ids: &[GeneratedId {
        vendor: NAME,
        field: "ttp",
        cookie: "_ttp",
        days: 395,
        need: NEED,
        format: Format::Ttp,
        unless_synced: false,
        conversions_field: Some("user.ttp"),
    }],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("user.email"),
        phone: Some(("user.phone", PhoneForm::E164)),
    }),
    ..Vendor::new(NAME, "TikTok")
};
