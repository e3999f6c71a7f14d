//! The vote of Global Privacy Control (globalprivacycontrol.org): the header `Sec-GPC: 1`, or the object's member `gpc`, as a
//! script that reads `navigator.globalPrivacyControl` sends it.

use serde_json::{Map, Value};

use super::Vote;

/// The vote of the header and the member, which only ever deny.
pub fn vote(sec_gpc: bool, object: &Map<String, Value>) -> Vote {
    match object.get("gpc") {
        _ if sec_gpc => Vote::Deny,
        None | Some(Value::Bool(false)) => Vote::Silent,
        Some(Value::Bool(true)) => Vote::Deny,
        Some(_) => Vote::Unreadable,
    }
}
