//! Meta: its click ID `fbclid` travels as `fbc`, the value of its cookie.

use crate::vendors::{
    ClickId, ConsentNeed, ConversionsApi, GeneratedId, PhoneForm, Vendor, cookie_format::Format,
};

const NAME: &str = "meta";
const NEED: ConsentNeed = ConsentNeed::MARKETING;

/// The record of Meta.
pub const META: Vendor = Vendor {
    click_ids: &[ClickId::new(NAME, "fbclid", &["fbclid"], NEED)],
    generated_ids: &[
        GeneratedId {
            vendor: NAME,
            field: "fbp",
            cookie: "_fbp",
            days: 90,
            need: NEED,
            format: Format::Fbp,
            unless_synced: false,
            conversions_field: Some("user_data.fbp"),
        },
        GeneratedId {
            vendor: NAME,
            field: "fbc",
            cookie: "_fbc",
            days: 90,
            need: NEED,
            format: Format::Fbc,
            unless_synced: false,
            conversions_field: Some("user_data.fbc"),
        },
    ],
    conversions: Some(ConversionsApi {
        need: NEED,
        email: Some("user_data.em"),
        phone: Some(("user_data.ph", PhoneForm::Digits)),
    }),
    ..Vendor::new(NAME, "Meta")
};
