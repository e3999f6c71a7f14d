//! Events as browsers and servers send them. An event is read by itself, in one pass, into borrowed text, so
//! that a broken one never spoils the others.

mod batch;
mod checked;
mod event_error;
mod field;
mod left_out;
mod member;
mod reader;
mod value;

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::{Deserializer, value::RawValue};

pub use batch::{Body, single, split};
pub use event_error::EventError;
pub use left_out::LeftOut;

use event_error::cause_of;

/// Largest event in bytes, without the spaces around it.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Longest identifier of a signed call, in bytes: the core's bound for an ID.
const MAX_ID_BYTES: usize = 1024;
/// Longest identifier of a browser, in bytes.
const MAX_BROWSER_ID_BYTES: usize = 128;
/// Names of the identifiers in warnings.
const ANONYMOUS_ID: &str = "anonymousId";
const USER_ID: &str = "userId";
/// Faults of identifiers that name somebody all the same.
const NAMES_SOMEBODY: &[&str] =
    &[left_out::TOO_LONG, left_out::TOO_LONG_FROM_BROWSER, left_out::CONTROL_CHARACTER];
/// Largest `context.consent` in bytes.
const MAX_CONSENT_BYTES: usize = 8 * 1024;

/// Members of an event that identity needs. A field is absent when it is missing, null, blank or of no use.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Member `anonymousId`, the browser's own ID.
    pub anonymous_id: Option<Cow<'a, str>>,
    /// Member `userId`, the customer's ID of the person.
    pub user_id: Option<Cow<'a, str>>,
    /// `context.userHash`, which proves `userId`.
    pub user_hash: Option<Cow<'a, str>>,
    /// `context.identityToken`, a JWT that proves `userId` and what else it names.
    pub identity_token: Option<Cow<'a, str>>,
    /// Member `messageId`, the ID of the event itself.
    pub message_id: Option<Cow<'a, str>>,
    /// Member `timestamp`, the event's own time, as it was sent.
    pub timestamp: Option<Cow<'a, str>>,
    /// `context.page.url`, at most 4 KiB.
    pub page_url: Option<Cow<'a, str>>,
    /// `context.page.search`, at most 4 KiB.
    pub page_search: Option<Cow<'a, str>>,
    /// `context.page.referrer`, at most 4 KiB.
    pub referrer: Option<Cow<'a, str>>,
    /// Members of `traits`, and of `context.traits` where those lack them.
    pub traits: Traits<'a>,
    /// Members of `context.traits`, while the event is read.
    pub context_traits: Traits<'a>,
    /// `context.reset`: a new person on this device.
    pub reset: bool,
    /// Member `context.consent`, as it was sent; a JSON text where that could not be consent at all.
    pub consent: Option<&'a str>,
    /// `syncs` is false beside the event's members: where the event is the whole body, it wants no pending syncs.
    pub no_syncs: bool,
    /// Members that were left out, each once.
    pub left_out: Vec<LeftOut>,
}

/// Traits by which a person can be reached.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Traits<'a> {
    /// Email address, in clear.
    pub email: Option<Cow<'a, str>>,
    /// Phone number, in clear.
    pub phone: Option<Cow<'a, str>>,
    /// Digest of the address, 64 hex digits.
    pub email_sha256: Option<Cow<'a, str>>,
    /// Digest of the number, 64 hex digits.
    pub phone_sha256: Option<Cow<'a, str>>,
}

impl Traits<'_> {
    /// Takes from `other` what is absent here.
    fn fill(&mut self, other: &Self) {
        fill(&mut self.email, other.email.as_ref());
        fill(&mut self.phone, other.phone.as_ref());
        fill(&mut self.email_sha256, other.email_sha256.as_ref());
        fill(&mut self.phone_sha256, other.phone_sha256.as_ref());
    }
}

fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
    if own.is_none() {
        *own = other.cloned();
    }
}

/// The sender of an event, as far as it says how the event may be known.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// True for a signed call: it has no other identifiers than its events', and they may be longer.
    pub signs: bool,
    /// True where the browser has brought its `_dfid` cookie.
    pub has_cookie: bool,
}

impl<'a> Event<'a> {
    /// Reads one event of `sender`: an object with at least one member, whose text is all valid (no NUL, no lone
    /// surrogate), whose numbers fit a double, nested at most 127 deep. What else can't be used is left out.
    pub fn parse(raw: &'a RawValue, sender: Sender) -> Result<Self, EventError> {
        if raw.get().len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLarge);
        }
        let (mut event, mut at) = (Self::default(), None);
        let reader = reader::Reader::new(&mut event, &mut at);
        match reader.deserialize(&mut Deserializer::from_str(raw.get())) {
            Ok(()) => {
                event.settle_traits();
                event.identified(sender)
            }
            Err(error) => {
                let cause = cause_of(&error).map(|(_, cause)| *cause);
                Err(EventError::Unsound { member: at, cause })
            }
        }
    }

    /// Lets `traits` win over `context.traits`, where Segment's libraries put them for events that are no identify.
    fn settle_traits(&mut self) {
        self.traits.fill(&self.context_traits);
        self.context_traits = Traits::default();
    }

    /// Takes from the batch's own context what is absent here, member by member; consent as a whole.
    pub fn fill(&mut self, shared: &Self) {
        fill(&mut self.page_url, shared.page_url.as_ref());
        fill(&mut self.page_search, shared.page_search.as_ref());
        fill(&mut self.referrer, shared.referrer.as_ref());
        fill(&mut self.consent, shared.consent.as_ref());
        self.traits.fill(&shared.traits);
    }

    /// Leaves out identifiers that can't be used, where the event is known by something else. A browser that has no
    /// other is given an ID, except in place of one that names somebody and can't be taken: it would be somebody new
    /// with each request.
    fn identified(mut self, sender: Sender) -> Result<Self, EventError> {
        let left_out = &mut self.left_out;
        for (id, member) in [(&mut self.anonymous_id, ANONYMOUS_ID), (&mut self.user_id, USER_ID)] {
            if let Some(why) = id.as_deref().and_then(|id| fault_of_id(id, sender)) {
                *id = None;
                left_out::add(left_out, member, why);
            }
        }
        if self.anonymous_id.is_some() || self.user_id.is_some() || sender.has_cookie {
            return Ok(self);
        }
        let lost = self.left_out.iter().find(|left| {
            [ANONYMOUS_ID, USER_ID].contains(&left.member)
                && (sender.signs || NAMES_SOMEBODY.contains(&left.why))
        });
        match lost {
            Some(left) => Err(EventError::Unidentified(*left)),
            None => Ok(self),
        }
    }

    /// True where two values came for `member`, so that no further one counts.
    fn has_two_values_of(&self, member: &str) -> bool {
        self.left_out.iter().any(|left| left.member == member && left.why == left_out::TWO_VALUES)
    }
}

/// The reason for which an identifier can't be used, which the core would refuse.
fn fault_of_id(id: &str, sender: Sender) -> Option<&'static str> {
    let id = id.trim_matches(|c: char| c.is_ascii_whitespace());
    if sender.signs && id.len() > MAX_ID_BYTES {
        Some(left_out::TOO_LONG)
    } else if !sender.signs && id.len() > MAX_BROWSER_ID_BYTES {
        Some(left_out::TOO_LONG_FROM_BROWSER)
    } else {
        id.contains(char::is_control).then_some(left_out::CONTROL_CHARACTER)
    }
}

#[cfg(test)]
mod tests;
