//! Events as browsers and servers send them. An event is read by itself, in one pass, into borrowed text, so
//! that a broken one never spoils the others.

mod batch;
mod checked;
mod reader;

use std::borrow::Cow;

use proto::v1::ErrorReason;
use serde::de::DeserializeSeed;
use serde_json::{Deserializer, value::RawValue};

pub use batch::{single, split};

use crate::error::ApiError;

/// Largest event in bytes, without the spaces around it.
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Longest text of a field that is kept, in bytes: the core's bound for an ID.
const MAX_TEXT_BYTES: usize = 1024;
/// Longest URL of a page in bytes; a longer one is left out, not an error.
const MAX_PAGE_URL_BYTES: usize = 4096;
/// Largest `context.consent` in bytes.
const MAX_CONSENT_BYTES: usize = 8 * 1024;

/// Members of an event that identity needs. A field is absent when it is missing or null.
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
    /// `context.page.referrer`, at most 4 KiB.
    pub referrer: Option<Cow<'a, str>>,
    /// Member `traits.email`, in clear.
    pub email: Option<Cow<'a, str>>,
    /// Member `traits.phone`, in clear.
    pub phone: Option<Cow<'a, str>>,
    /// `traits.email_sha256`, 64 hex digits.
    pub email_sha256: Option<Cow<'a, str>>,
    /// `traits.phone_sha256`, 64 hex digits.
    pub phone_sha256: Option<Cow<'a, str>>,
    /// `context.reset`: a new person on this device.
    pub reset: bool,
    /// Member `context.consent`, as it was sent.
    pub consent: Option<&'a str>,
}

/// Reason for which an event does not count, with the field and the cause where they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventError {
    reason: ErrorReason,
    field: Option<&'static str>,
    cause: Option<&'static str>,
}

/// Parts of the parser's messages with our own text for each: the parser's text may quote the event.
const CAUSES: &[(&str, &str)] = &[
    ("NUL", "A text has a NUL."),
    ("hex escape", "A text has a lone surrogate."),
    ("number out of range", "A number is out of range."),
    ("recursion limit", "It is nested too deep."),
    ("two values", "It comes twice, with two values."),
    ("too large", "It is over 8 KiB."),
];

impl EventError {
    const fn of_field(reason: ErrorReason, field: &'static str) -> Self {
        Self { reason, field: Some(field), cause: None }
    }
}

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        let mut message = proto::Reason::of(error.reason).message.to_owned();
        if let Some(cause) = error.cause {
            message.extend([" ", cause]);
        }
        if let Some(field) = error.field {
            message.extend([" Field: ", field, "."]);
        }
        Self::new(error.reason, message)
    }
}

fn cause_of(error: &serde_json::Error) -> Option<&'static str> {
    let text = error.to_string();
    let known =
        CAUSES.iter().find(|(part, _)| error.is_syntax() && text.contains(part) || text.starts_with(part));
    known.map(|(_, cause)| *cause)
}

impl<'a> Event<'a> {
    /// Reads one event: an object with at least one member, whose text is all valid (no NUL, no lone
    /// surrogate), whose numbers fit a double, nested at most 127 deep.
    pub fn parse(raw: &'a RawValue) -> Result<Self, EventError> {
        if raw.get().len() > MAX_EVENT_BYTES {
            return Err(EventError { reason: ErrorReason::EventTooLarge, field: None, cause: None });
        }
        let (mut event, mut at) = (Self::default(), None);
        let reader = reader::Reader::new(&mut event, &mut at);
        match reader.deserialize(&mut Deserializer::from_str(raw.get())) {
            Ok(()) => event.bounded(),
            Err(error) => {
                Err(EventError { reason: ErrorReason::InvalidEvent, field: at, cause: cause_of(&error) })
            }
        }
    }

    fn bounded(mut self) -> Result<Self, EventError> {
        for (text, field) in [(&self.anonymous_id, "anonymousId"), (&self.user_id, "userId")] {
            if text.as_deref().is_some_and(is_too_long) {
                return Err(EventError::of_field(ErrorReason::InvalidIdentifier, field));
            }
        }
        for (text, field) in [
            (&self.user_hash, "context.userHash"),
            (&self.message_id, "messageId"),
            (&self.email, "traits.email"),
            (&self.phone, "traits.phone"),
        ] {
            if text.as_deref().is_some_and(is_too_long) {
                return Err(EventError::of_field(ErrorReason::InvalidEvent, field));
            }
        }
        for (text, field) in
            [(&self.email_sha256, "traits.email_sha256"), (&self.phone_sha256, "traits.phone_sha256")]
        {
            if text.as_deref().is_some_and(|text| !is_sha256(text)) {
                return Err(EventError::of_field(ErrorReason::InvalidEvent, field));
            }
        }
        for url in [&mut self.page_url, &mut self.referrer] {
            *url = url.take().filter(|url| url.len() <= MAX_PAGE_URL_BYTES);
        }
        Ok(self)
    }
}

fn is_too_long(text: &str) -> bool {
    text.len() > MAX_TEXT_BYTES
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
