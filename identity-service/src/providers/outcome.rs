//! What comes of asking a provider.

use std::time::Duration;

use egress::CallError;
use serde_json::Value;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::gates::Busy;

/// What a provider said of a visitor.
#[derive(Debug)]
pub enum Answer {
    /// It knows them.
    Found(Found),
    /// It knows nobody by that.
    None,
    /// The person has opted out there, for good.
    OptOut,
}

/// An ID that was found.
pub struct Found {
    /// The ID.
    pub value: String,
    /// Attributes of the person that came with it.
    pub attributes: Option<Value>,
    /// Time from which on the provider is asked again.
    pub expires_at: OffsetDateTime,
    /// Time until which the ID is good.
    pub kept_until: OffsetDateTime,
    /// What it can be refreshed with, to be sealed.
    pub refresh: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Found(…)")
    }
}

/// The reason why a provider gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Its time was over.
    Timeout,
    /// There was no connection, or it broke.
    Network,
    /// It answered with a status that says neither yes nor no.
    Status(u16),
    /// Its answer is not what it should be.
    Malformed,
    /// Its answer is larger than is read.
    TooLarge,
    /// It wants to be left alone for that long.
    RateLimited(Duration),
    /// It refused the credentials, or there are none to call with.
    Credentials,
    /// It knows the credentials, and they are not for what was asked.
    Forbidden,
    /// Its host has no address.
    NoSuchHost,
    /// Its host may not be called, or its settings are not valid any more.
    NotAllowed,
    /// It has as many calls as it gets, or has failed again and again.
    Busy(Duration),
    /// The person was erased while it was asked.
    Erased,
    /// A store of ours could not be asked, or could not keep the answer.
    Unavailable,
}

impl Failure {
    /// The word in answers, metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Status(_) => "status",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::RateLimited(_) => "rate_limited",
            Self::Credentials | Self::Forbidden => "credentials",
            Self::NoSuchHost => "no_such_host",
            Self::NotAllowed => "not_allowed",
            Self::Busy(_) => "busy",
            Self::Erased => "erased",
            Self::Unavailable => "unavailable",
        }
    }

    /// Time after which another try makes sense; none where the next visit will do.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited(pause) | Self::Busy(pause) => Some(pause),
            Self::Credentials | Self::Forbidden | Self::NotAllowed => Some(Duration::from_mins(5)),
            _ => None,
        }
    }

    /// True where the credentials were refused, so that no call makes sense until they change.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Credentials | Self::Forbidden)
    }

    /// True where it tells that the provider is away, or not itself.
    pub fn is_away(self) -> bool {
        match self {
            Self::Timeout | Self::Network | Self::NoSuchHost | Self::Malformed | Self::TooLarge => true,
            Self::Status(status) => status >= 500,
            Self::RateLimited(_)
            | Self::Credentials
            | Self::Forbidden
            | Self::NotAllowed
            | Self::Busy(_)
            | Self::Erased
            | Self::Unavailable => false,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotAllowed => Self::NotAllowed,
            CallError::Timeout => Self::Timeout,
            CallError::Network => Self::Network,
            CallError::NoSuchHost => Self::NoSuchHost,
            CallError::TooLarge => Self::TooLarge,
        }
    }
}

impl From<Busy> for Failure {
    fn from(Busy(pause): Busy) -> Self {
        Self::Busy(pause)
    }
}

/// An answer as it is kept, by whoever it was asked.
#[derive(Clone)]
#[expect(clippy::struct_field_names, reason = "the column's name")]
pub struct Kept {
    /// The ID; none where there is none.
    pub value: Option<String>,
    /// True where the person has opted out.
    pub is_opt_out: bool,
    /// Attributes of the person that came with the ID.
    pub attributes: Option<Value>,
    /// Time of the answer.
    pub collected_at: OffsetDateTime,
    /// Time from which on the provider is asked again.
    pub expires_at: OffsetDateTime,
    /// Time until which the ID is good.
    pub kept_until: OffsetDateTime,
}
