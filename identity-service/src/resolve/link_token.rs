//! Link tokens: a visitor who follows a link to another of the customer's domains brings along, sealed, who
//! they are here.

use migrations::sealed::SealKeys;
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    auth::sealed_token::Sealer,
    clock,
    graph::LinkToken,
    identifiers::{self, Kind, Parsed},
};

/// Lifetime of a token, within which the visitor has to arrive on the other domain.
const LIFETIME: Duration = Duration::minutes(2);
/// Largest lead of a token's time over our clock: the clocks of our own instances differ by less.
const MAX_SKEW: Duration = Duration::seconds(30);
/// Longest token that is looked at, in characters: one with an anonymous ID of 128 bytes has 254.
const MAX_CHARS: usize = 300;
/// Parameter of a page's URL that carries a token.
const PARAMETER: &str = "_dfl";

/// Seals and opens link tokens.
pub struct LinkTokens(Sealer);

impl LinkTokens {
    /// Derives the sealing keys from `keys`; tokens sealed under the previous one still open.
    pub fn derive(keys: &SealKeys) -> Self {
        Self(Sealer::derive(keys, "link-token-v1"))
    }

    /// Makes a token for a browser of `org`; none where the anonymous ID is too long or the cipher fails.
    pub fn seal(&self, org: Uuid, anonymous_id: &str, now: OffsetDateTime) -> Option<String> {
        let mut plain = org.as_bytes().to_vec();
        plain.extend_from_slice(&clock::unix_ms(now).to_be_bytes());
        plain.extend_from_slice(anonymous_id.as_bytes());
        (anonymous_id.len() <= identifiers::MAX_BROWSER_BYTES).then(|| self.0.seal(&plain)).flatten()
    }

    /// Opens a token of `org` that is valid at `now`; none for any other text.
    pub fn open(&self, org: Uuid, text: &str, now: OffsetDateTime) -> Option<LinkToken> {
        if text.len() > MAX_CHARS {
            return None;
        }
        let plain = self.0.open(text)?;
        let (own, rest) = plain.split_at_checked(16)?;
        let (issued, browser) = rest.split_first_chunk::<8>()?;
        let issued_at = clock::from_unix_ms(i64::from_be_bytes(*issued))?;
        let is_valid = own == org.as_bytes() && now - issued_at <= LIFETIME && issued_at - now <= MAX_SKEW;
        let browser = str::from_utf8(browser).ok().filter(|_| is_valid)?;
        match identifiers::parse(Kind::AnonymousId, browser, identifiers::MAX_BROWSER_BYTES) {
            Parsed::Ok(browser) => {
                Some(LinkToken { browser, issued_at, digest: Sha256::digest(text.as_bytes()).into() })
            }
            Parsed::Absent | Parsed::Junk | Parsed::Invalid => None,
        }
    }
}

/// Finds the token in a page's URL; none where the query has no such parameter.
pub fn of_page(url: &str) -> Option<String> {
    let page = url.split_once('#').map_or(url, |(page, _)| page);
    let (_, query) = page.split_once('?')?;
    // Most pages have none.
    if !query.contains(PARAMETER) {
        return None;
    }
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == PARAMETER).map(|(_, token)| token.into_owned())
}

#[cfg(test)]
mod tests {
    use migrations::sealed::SealKey;
    use secrecy::SecretString;
    use time::macros::datetime;

    use super::*;
    use crate::sync::state::StateKeys;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);
    const ORG: Uuid = Uuid::from_u128(7);

    fn keys() -> SealKeys {
        SealKeys::new(SealKey::from_hex(&SecretString::from("11".repeat(32))).unwrap(), None)
    }

    #[test]
    fn it_names_the_browser_for_two_minutes_in_its_organisation() {
        let tokens = LinkTokens::derive(&keys());
        let longest = "a".repeat(128);
        let text = tokens.seal(ORG, &longest, NOW).unwrap();
        assert!(text.len() <= MAX_CHARS && !text.contains(&longest), "{}", text.len());
        let token = tokens.open(ORG, &text, NOW + LIFETIME).unwrap();
        assert_eq!((token.browser.value, token.issued_at), (longest, NOW));
        assert_eq!(tokens.open(ORG, &text, NOW + LIFETIME + Duration::milliseconds(1)), None);
        assert_eq!(tokens.open(ORG, &text, NOW - Duration::minutes(1)), None);
        assert_eq!(tokens.open(Uuid::from_u128(8), &text, NOW), None);
        assert_eq!(tokens.seal(ORG, &"a".repeat(129), NOW), None);
    }

    #[test]
    fn a_state_is_no_token_and_a_token_no_state() {
        let (tokens, states) = (LinkTokens::derive(&keys()), StateKeys::derive(&keys()));
        let token = tokens.seal(ORG, "browser", NOW).unwrap();
        assert!(states.open(&token, NOW).is_err());
        assert_eq!(tokens.open(ORG, "no token", NOW), None);
    }

    #[test]
    fn a_page_s_url_brings_it() {
        let of = |url: &str| of_page(url);
        assert_eq!(of("https://b.example/?x=1&_dfl=abc-_&y#_dfl=no").as_deref(), Some("abc-_"));
        for url in ["https://b.example/", "https://b.example/?dfl=1", "https://b.example/#?_dfl=1", "_dfl=1"]
        {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
