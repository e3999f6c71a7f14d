//! Text members that are read: where each is kept, and what it has to be.

use std::borrow::Cow;

use super::{Event, left_out};

/// Longest text of a member that is kept, in bytes: the core's bound for an ID.
const MAX_TEXT_BYTES: usize = 1024;
/// Longest URL of a page, or query of one, in bytes; a longer one is cut.
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
    PageSearch,
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
            Self::PageSearch => &mut event.page_search,
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
        let why = match self {
            Self::UserHash | Self::MessageId | Self::Email | Self::Phone if text.len() > MAX_TEXT_BYTES => {
                Some(left_out::TOO_LONG)
            }
            Self::EmailSha256 | Self::PhoneSha256 if !is_sha256(&text) => Some(left_out::NOT_SHA256),
            // Half of an authority would be another one.
            Self::PageUrl | Self::Referrer if text.len() > MAX_URL_BYTES && !has_query(&text) => {
                Some(left_out::URL_TOO_LONG)
            }
            Self::PageUrl | Self::PageSearch | Self::Referrer => return Ok(cut(text)),
            _ => None,
        };
        why.map_or(Ok(text), Err)
    }
}

/// True where the path of a URL that is too long ends within the bound.
fn has_query(url: &str) -> bool {
    within_bound(url).contains(['?', '#'])
}

fn within_bound(url: &str) -> &str {
    url.get(..url.floor_char_boundary(MAX_URL_BYTES)).unwrap_or_default()
}

/// Cuts a URL that is too long in front of the parameter that does not fit whole: the click is usually before it, and
/// half of an ID would be another one.
fn cut(url: Cow<'_, str>) -> Cow<'_, str> {
    if url.len() <= MAX_URL_BYTES {
        return url;
    }
    let fits = within_bound(&url);
    let is_whole = url.get(fits.len()..).is_some_and(|rest| rest.starts_with(['&', '#']));
    let end = if is_whole { fits.len() } else { fits.rfind(['&', '?', '#']).unwrap_or_default() };
    match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(..end).unwrap_or_default()),
        Cow::Owned(mut url) => {
            url.truncate(end);
            Cow::Owned(url)
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_cut_in_front_of_the_parameter_that_does_not_fit() {
        let of = |begin: &str, end: &str| {
            let filler = MAX_URL_BYTES - begin.len();
            cut(Cow::Owned(format!("{begin}{}{end}", "a".repeat(filler)))).into_owned()
        };
        let whole = |begin: &str| format!("{begin}{}", "a".repeat(MAX_URL_BYTES - begin.len()));
        assert_eq!(of("https://x/?gclid=1&x=", ""), whole("https://x/?gclid=1&x="));
        assert_eq!(of("https://x/?gclid=1&x=", "a"), "https://x/?gclid=1");
        assert_eq!(of("https://x/?gclid=1&x=", "&y=1"), whole("https://x/?gclid=1&x="));
        assert_eq!(of("https://x/?gclid=", "a"), "https://x/", "half of an ID would be another");
        assert_eq!(of("https://x/?gclid=1#", "a"), "https://x/?gclid=1");
        let path = format!("https://x/{}?gclid=1", "a".repeat(MAX_URL_BYTES));
        for field in [Field::PageUrl, Field::Referrer] {
            assert_eq!(field.usable(Cow::Borrowed(&path)), Err(left_out::URL_TOO_LONG));
            let userinfo = format!("https://shop.example&{}@x/?a=1", "a".repeat(MAX_URL_BYTES));
            assert_eq!(field.usable(Cow::Borrowed(&userinfo)), Err(left_out::URL_TOO_LONG));
        }
        assert_eq!(of("?gclid=1&x=é", "é"), "?gclid=1");
        let borrowed = format!("?gclid=1&x={}", "é".repeat(MAX_URL_BYTES));
        assert!(matches!(cut(Cow::Borrowed(&borrowed)), Cow::Borrowed("?gclid=1")));
    }
}
