//! Text members that are read: where each is kept, and what it has to be.

use std::borrow::Cow;

use super::{Event, left_out};

/// Longest text of a member that is kept, in bytes: the core's bound for an ID.
const MAX_TEXT_BYTES: usize = 1024;
/// Longest URL of a page in bytes; a longer one is left out.
const MAX_URL_BYTES: usize = 4096;

/// Text member that is read.
#[derive(Clone, Copy)]
pub enum Field {
    AnonymousId,
    UserId,
    UserHash,
    IdentityToken,
    MessageId,
    Timestamp,
    PageUrl,
    Referrer,
    Email,
    Phone,
    EmailSha256,
    PhoneSha256,
}

impl Field {
    /// The event's member that holds it; of a trait that of `context.traits` where it stands there.
    pub fn of<'e, 'a>(self, event: &'e mut Event<'a>, in_context: bool) -> &'e mut Option<Cow<'a, str>> {
        let traits = if in_context { &mut event.context_traits } else { &mut event.traits };
        match self {
            Self::AnonymousId => &mut event.anonymous_id,
            Self::UserId => &mut event.user_id,
            Self::UserHash => &mut event.user_hash,
            Self::IdentityToken => &mut event.identity_token,
            Self::MessageId => &mut event.message_id,
            Self::Timestamp => &mut event.timestamp,
            Self::PageUrl => &mut event.page_url,
            Self::Referrer => &mut event.referrer,
            Self::Email => &mut traits.email,
            Self::Phone => &mut traits.phone,
            Self::EmailSha256 => &mut traits.email_sha256,
            Self::PhoneSha256 => &mut traits.phone_sha256,
        }
    }

    /// True where integers are their decimal text: databases and spreadsheets have them for IDs and phones.
    pub fn takes_integers(self) -> bool {
        matches!(self, Self::AnonymousId | Self::UserId | Self::MessageId | Self::Phone)
    }

    /// The text as it is of use; an error says why it is of none. Who may have how long an identifier is not known here.
    pub fn usable(self, text: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
        match self {
            Self::AnonymousId | Self::UserId | Self::IdentityToken | Self::Timestamp => Ok(text),
            Self::UserHash | Self::MessageId | Self::Email | Self::Phone if text.len() > MAX_TEXT_BYTES => {
                Err(left_out::TOO_LONG)
            }
            Self::UserHash | Self::MessageId | Self::Email | Self::Phone => Ok(text),
            Self::EmailSha256 | Self::PhoneSha256 if !is_sha256(&text) => Err(left_out::NOT_SHA256),
            Self::EmailSha256 | Self::PhoneSha256 => Ok(text),
            Self::PageUrl | Self::Referrer if text.len() > MAX_URL_BYTES => Err(left_out::URL_TOO_LONG),
            Self::PageUrl | Self::Referrer => Ok(text),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
