//! Reasons for which an event does not count at all.

use proto::{Reason, v1::ErrorReason};

use super::left_out::LeftOut;
use crate::error::ApiError;

/// Reason for which an event does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventError {
    /// The event is over its bound.
    TooLarge,
    /// The event is no object, or something in it is not sound; with the member and the cause where they are known.
    Unsound { member: Option<&'static str>, cause: Option<&'static str> },
    /// The identifier that it has can't be used, and it has no other.
    Unidentified(LeftOut),
}

/// Parts of the parser's messages with our own text for each: the parser's text may quote the event.
const CAUSES: &[(&str, &str)] = &[
    ("NUL", "A text has a NUL."),
    ("hex escape", "A text has a lone surrogate."),
    ("number out of range", "A number is out of range."),
    ("recursion limit", "It is nested too deep."),
];

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::TooLarge => ErrorReason::EventTooLarge.into(),
            EventError::Unidentified(LeftOut { member, why }) => {
                Self::new(ErrorReason::InvalidIdentifier, format!("{member} {why}."))
            }
            EventError::Unsound { member, cause } => {
                let mut message = Reason::of(ErrorReason::InvalidEvent).message.to_owned();
                if let Some(cause) = cause {
                    message.extend([" ", cause]);
                }
                if let Some(member) = member {
                    message.extend([" Field: ", member, "."]);
                }
                Self::new(ErrorReason::InvalidEvent, message)
            }
        }
    }
}

/// The cause of a parser's error, with the part of its text by which it is known.
pub fn cause_of(error: &serde_json::Error) -> Option<&'static (&'static str, &'static str)> {
    let text = error.to_string();
    CAUSES.iter().find(|(part, _)| error.is_syntax() && text.contains(part) || text.starts_with(part))
}
