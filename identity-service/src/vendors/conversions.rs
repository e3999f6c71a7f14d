//! Match keys: what a vendor's conversions API takes to recognise a person by, under its own parameter names.

use super::{ConsentNeed, Vendor, find};

/// Parameters of a vendor's conversions API that take the digest (SHA-256) of a contact.
#[derive(Debug, Clone, Copy)]
pub struct ConversionsApi {
    /// The consent that a contact needs to be sent to it.
    pub need: ConsentNeed,
    /// The parameter of the email, trimmed and in lower case.
    pub email: Option<&'static str>,
    /// The parameter of the phone, and the form that it is hashed in.
    pub phone: Option<(&'static str, PhoneForm)>,
}

/// Form of a phone number before it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneForm {
    /// The digits alone, country code first.
    Digits,
    /// E.164, with its plus.
    E164,
}

/// An ID that a conversions API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchKey {
    /// The field of the identity that holds the ID.
    pub field: &'static str,
    /// The parameter that takes it.
    pub parameter: &'static str,
    /// The consent that it needs.
    pub need: ConsentNeed,
}

impl Vendor {
    /// The IDs that the vendor's conversions API takes. One that no parameter takes is not among them.
    pub fn match_keys(&self) -> Vec<MatchKey> {
        let synced = self.sync.iter().map(|sync| (sync.field, sync.conversions_field, sync.need));
        let clicks = self.click_ids.iter().map(|id| (id.field, id.conversions_field, id.need));
        let made = self.generated_ids.iter().map(|id| (id.field, id.conversions_field, id.need));
        let mut keys: Vec<MatchKey> = Vec::new();
        for (field, parameter, need) in synced.chain(clicks).chain(made) {
            if let Some(parameter) = parameter
                && !keys.iter().any(|known| known.field == field)
            {
                keys.push(MatchKey { field, parameter, need });
            }
        }
        keys
    }
}

/// The vendor of that name, if its conversions API takes any match key that we have.
pub fn find_match_keys(name: &str) -> Option<&'static Vendor> {
    find(name).filter(|vendor| vendor.conversions.is_some() || !vendor.match_keys().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_vendors_own_names() {
        let keys = |name| {
            let keys = find_match_keys(name).unwrap().match_keys();
            keys.into_iter().map(|key| (key.field, key.parameter)).collect::<Vec<_>>()
        };
        assert_eq!(keys("meta"), [("fbp", "user_data.fbp"), ("fbc", "user_data.fbc")]);
        assert_eq!(keys("tiktok"), [("ttclid", "user.ttclid"), ("ttp", "user.ttp")]);
        assert_eq!(keys("pinterest"), [("epik", "user_data.click_id")], "its cookie's ID has no parameter");
        for name in ["criteo", "uid2", "nobody"] {
            assert!(find_match_keys(name).is_none(), "{name}");
        }
    }
}
