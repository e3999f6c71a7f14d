//! Identity tokens: JWTs (RFC 7519) with which a customer's server vouches for who is logged in on a page, and for
//! their email and phone.
//!
//! One algorithm, HS256 under the source's own secret: what a header says of keys is not looked at, so there is none
//! to choose. Times are numbers, as a text that a reader skips is no limit.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hex::FromHexError;
use secrecy::SecretSlice;
use serde::{Deserialize, de::IgnoredAny};
use time::{Duration, OffsetDateTime};

use super::signature;

/// Longest token that is looked at, in bytes.
const MAX_BYTES: usize = 2048;
/// Longest time that a token may still be good for.
const MAX_LIFE: Duration = Duration::days(1);
/// Most that the clocks of the customer's server and ours may be apart.
const LEEWAY: Duration = Duration::seconds(5);
/// The one audience that is meant for us.
const AUDIENCE: &str = "datafly";

/// The person whom a token that is good now names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityToken {
    /// SHA-256 of the trimmed, lower-case email.
    pub email_sha256: Option<[u8; 32]>,
    /// SHA-256 of the phone in E.164, with its plus.
    pub phone_sha256: Option<[u8; 32]>,
    /// Time at which the token was issued, as it says itself; else the earliest that is possible.
    pub issued_at: OffsetDateTime,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood, of which we know none.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    email_sha256: Option<String>,
    phone_sha256: Option<String>,
}

/// Opens a token that any secret still in force has made for `user_id`, and that is good at `now`; none for any other
/// text.
pub fn open(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    token: &str,
    user_id: &str,
    now: OffsetDateTime,
) -> Option<IdentityToken> {
    let token = Some(token).filter(|token| token.len() <= MAX_BYTES)?;
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
    let tag: [u8; 32] = URL_SAFE_NO_PAD.decode(tag).ok()?.try_into().ok()?;
    if !signature::made(secrets, &[signed.as_bytes()], &tag, now) {
        return None;
    }
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let expires_at = time_of(claims.exp)?;
    let starts_at = claims.nbf.map_or(Some(now), time_of)?;
    let is_good = header.alg == "HS256"
        && header.crit.is_none()
        && claims.aud == AUDIENCE
        && claims.sub == user_id
        && now < expires_at + LEEWAY
        && expires_at <= now + MAX_LIFE + LEEWAY
        && starts_at <= now + LEEWAY;
    is_good.then_some(IdentityToken {
        email_sha256: digest(claims.email_sha256).ok()?,
        phone_sha256: digest(claims.phone_sha256).ok()?,
        issued_at: claims.iat.map_or(Some(expires_at - MAX_LIFE), time_of)?,
    })
}

/// The time of a number of seconds since 1970; none where it is over three centuries away.
fn time_of(seconds: f64) -> Option<OffsetDateTime> {
    const MAX_SECONDS: f64 = 1e10;
    (seconds.abs() <= MAX_SECONDS)
        .then(|| OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::saturating_seconds_f64(seconds)))
}

/// The digest of a member, where it is there; an error where it is not 64 hex digits.
fn digest(member: Option<String>) -> Result<Option<[u8; 32]>, FromHexError> {
    let digest = |text| {
        let mut digest = [0; 32];
        hex::decode_to_slice::<String>(text, &mut digest).map(|()| digest)
    };
    member.map(digest).transpose()
}

#[cfg(test)]
mod tests;
