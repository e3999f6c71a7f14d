//! The records, a file for each vendor. A new vendor is such a file, its line in [`ALL`] and its fixtures;
//! nothing else changes.

mod acxiom_realid;
mod amazon_aax;
mod amperity;
mod criteo;
mod google;
mod index_exchange;
mod linkedin;
mod liveramp;
mod liveramp_ats;
mod magnite;
mod meta;
mod microsoft;
mod nextdoor;
mod outbrain;
mod pinterest;
mod reddit;
mod snapchat;
mod taboola;
mod tiktok;
mod trade_desk;
mod uid2;
mod x;

use super::Vendor;

/// The vendors, in the order of the specification's tables.
pub static ALL: &[Vendor] = &[
    meta::META,
    tiktok::TIKTOK,
    google::GOOGLE,
    pinterest::PINTEREST,
    microsoft::MICROSOFT,
    snapchat::SNAPCHAT,
    reddit::REDDIT,
    linkedin::LINKEDIN,
    x::X,
    nextdoor::NEXTDOOR,
    taboola::TABOOLA,
    outbrain::OUTBRAIN,
    criteo::CRITEO,
    acxiom_realid::ACXIOM_REALID,
    amperity::AMPERITY,
    liveramp_ats::LIVERAMP_ATS,
    uid2::UID2,
    trade_desk::TRADE_DESK,
    liveramp::LIVERAMP,
    index_exchange::INDEX_EXCHANGE,
    magnite::MAGNITE,
    amazon_aax::AMAZON_AAX,
];
