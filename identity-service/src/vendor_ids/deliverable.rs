//! What a delivery may have of a person: whether consent allows it, and the match keys of vendors.

use std::collections::BTreeMap;

use proto::v1::{DeliveredEvent, IdentityVendorIds, MatchKeys, StoredConsent, Subject};
use time::OffsetDateTime;

use crate::{
    consent::{Category, ConsentRule, Decision, Signals},
    pii::contacts::{Contact, Contacts},
    vendors::{ConsentNeed, ConversionsApi, PhoneForm, Vendor},
};

/// What is asked beside the IDs.
pub struct Question<'a> {
    /// The rule by which signals are read.
    pub rule: &'a ConsentRule,
    /// The need of the delivery as a whole; none where it has none.
    pub need: Option<ConsentNeed>,
    /// The vendors whose match keys are wanted.
    pub vendors: &'a [&'static Vendor],
    /// The time at which it is asked.
    pub now: OffsetDateTime,
}

impl Question<'_> {
    /// The need of a category.
    pub fn need_of(category: Category) -> ConsentNeed {
        ConsentNeed { category: category.name(), ..ConsentNeed::MARKETING }
    }

    /// The fields of the IDs that match keys are made of.
    pub fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.vendors.iter().flat_map(|vendor| vendor.match_keys()).map(|key| key.field)
    }

    /// Adds what an event's delivery may have to the answer for its person, who is there.
    pub fn answer(&self, event: Option<DeliveredEvent>, answer: &mut IdentityVendorIds) {
        let event = event.unwrap_or_default();
        let own = event.consent.as_ref();
        let own = own.map(|own| Signals::parse(own.json.as_deref(), own.sec_gpc));
        let stored = answer.consent.as_ref().map(stored_signals);
        let all = [own, stored];
        answer.allowed = self.need.is_none_or(|need| self.is_granted(&all, &need));
        if self.vendors.is_empty() {
            return;
        }
        let mut subject = Subject {
            email: event.email,
            phone: event.phone,
            email_sha256: event.email_sha256,
            phone_sha256: event.phone_sha256,
            ..Subject::default()
        };
        let contacts = Contacts::take(&mut subject, false);
        for vendor in self.vendors {
            let keys = self.keys(vendor, &all, &contacts, answer);
            answer.match_keys.insert(vendor.name.to_owned(), MatchKeys { keys });
        }
    }

    fn keys(
        &self,
        vendor: &Vendor,
        signals: &[Option<Signals>; 2],
        contacts: &Contacts,
        answer: &IdentityVendorIds,
    ) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        for key in vendor.match_keys() {
            if let Some(id) = answer.vendor_ids.get(key.field)
                && self.is_granted(signals, &key.need)
            {
                keys.insert(key.parameter.to_owned(), id.value.clone());
            }
        }
        let Some(ConversionsApi { need, email, phone }) = vendor.conversions else { return keys };
        if !self.is_granted(signals, &need) {
            return keys;
        }
        if let (Some(parameter), Some(said)) = (email, &contacts.email) {
            keys.insert(parameter.to_owned(), hex::encode(said.contact.lower.sha256));
        }
        if let (Some((parameter, form)), Some(said)) = (phone, &contacts.phone) {
            keys.insert(parameter.to_owned(), hex::encode(digest_of_phone(&said.contact, form)));
        }
        keys
    }

    /// True where each of those signals that are there allows it, and where there are none the mode does.
    fn is_granted(&self, signals: &[Option<Signals>; 2], need: &ConsentNeed) -> bool {
        let allows = |signals: &Signals| signals.decide(need, self.rule, self.now) == Decision::Granted;
        if signals.iter().all(Option::is_none) {
            return allows(&Signals::parse(None, false));
        }
        signals.iter().flatten().all(allows)
    }
}

fn stored_signals(stored: &StoredConsent) -> Signals {
    Signals::parse(stored.json.as_deref(), stored.sec_gpc)
}

/// The digest in the form that is asked for; of a number that came hashed the one that came.
fn digest_of_phone(phone: &Contact, form: PhoneForm) -> [u8; 32] {
    let known = match form {
        PhoneForm::Digits => phone.digits,
        PhoneForm::E164 => phone.uid2,
    };
    known.unwrap_or(phone.lower).sha256
}
