//! The vote of Global Privacy Control, the header `Sec-GPC: 1` (globalprivacycontrol.org).

use super::Vote;

/// The vote of the header, which only ever denies.
pub fn vote(sec_gpc: bool) -> Vote {
    if sec_gpc { Vote::Deny } else { Vote::Silent }
}
