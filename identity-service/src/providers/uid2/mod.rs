//! Unified ID 2.0 (IABTechLab/uid2docs, `POST /v2/token/generate` and `/v2/token/refresh`): what is asked, and what the
//! answers mean. Pure; the clock and what is random come from outside.

pub mod envelope;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::outcome::{Answer, Failure, Found};
use crate::{clock, providers::variables::Variables};

/// Path of the refresh, below the operator's base URL.
pub const REFRESH_PATH: &str = "/v2/token/refresh";
/// Variables of the digests, in base64, of UID2's normal form; templates can't name them.
pub const EMAIL: &str = "uid2 email";
/// See [`EMAIL`].
pub const PHONE: &str = "uid2 phone";

/// The body of a request for a token: exactly one identifier, the email before the phone.
pub fn request(variables: &Variables) -> Option<Value> {
    match (variables.get(EMAIL), variables.get(PHONE)) {
        (Some(email), _) => Some(json!({ "email_hash": email })),
        (None, Some(phone)) => Some(json!({ "phone_hash": phone })),
        (None, None) => None,
    }
}

/// The means of refreshing a token, as they are sealed.
#[derive(Deserialize)]
pub struct Refresh {
    token: SecretString,
    key: SecretString,
    /// Time after which a new token has to be generated, in ms since the Unix epoch.
    expires_ms: i64,
}

impl Refresh {
    /// Reads what was sealed; none where it can't be used any more.
    pub fn parse(plain: &[u8], now: OffsetDateTime) -> Option<Self> {
        let refresh: Self = serde_json::from_slice(plain).ok()?;
        (clock::unix_ms(now) < refresh.expires_ms).then_some(refresh)
    }

    /// The body of a refresh: the token as it is.
    pub fn body(&self) -> &str {
        self.token.expose_secret()
    }

    /// Writes what is to be sealed.
    fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let (token, key) = (self.token.expose_secret(), self.key.expose_secret());
        let plain = json!({ "token": token, "key": key, "expires_ms": self.expires_ms });
        Zeroizing::new(plain.to_string().into_bytes())
    }

    /// The key of the refresh's answer.
    pub fn key(&self) -> Option<envelope::Key> {
        envelope::Key::from_base64(self.key.expose_secret())
    }
}

#[derive(Deserialize)]
struct Document {
    status: String,
    body: Option<Body>,
}

#[derive(Deserialize)]
struct Body {
    advertising_token: String,
    refresh_token: SecretString,
    refresh_response_key: SecretString,
    identity_expires: i64,
    refresh_from: i64,
    refresh_expires: i64,
}

/// Reads an answer that was decrypted. Its three times are in ms.
pub fn read(json: &[u8], now: OffsetDateTime) -> Result<Answer, Failure> {
    let document: Document = serde_json::from_slice(json).map_err(|_| Failure::Malformed)?;
    match (document.status.as_str(), document.body) {
        ("optout", _) => Ok(Answer::OptOut),
        // EUID's alone.
        ("insufficient_user_consent", _) => Ok(Answer::None),
        ("success", Some(body)) => {
            let at = |ms| clock::from_unix_ms(ms).ok_or(Failure::Malformed);
            let (expires_at, kept_until) = (at(body.refresh_from)?, at(body.identity_expires)?);
            if body.advertising_token.is_empty() || kept_until <= now {
                return Err(Failure::Malformed);
            }
            let refresh = Refresh {
                token: body.refresh_token,
                key: body.refresh_response_key,
                expires_ms: body.refresh_expires,
            };
            let refresh = Some(refresh.to_plain());
            let expires_at = expires_at.clamp(now, kept_until);
            Ok(Answer::Found(Found {
                value: body.advertising_token,
                attributes: None,
                expires_at,
                kept_until,
                refresh,
            }))
        }
        _ => Err(Failure::Malformed),
    }
}

/// Judges a refresh that was refused, by the plain JSON of its answer: true where the token can't be refreshed any more,
/// and another has to be generated.
pub fn is_ended(status: u16, body: &[u8]) -> bool {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let said = said.as_ref().and_then(|said| said.get("status")?.as_str());
    status == 400 && matches!(said, Some("expired_token" | "invalid_token" | "client_error" | "error"))
}

/// Judges a refused request: true where the operator could not decrypt it, so that the client secret is another key's.
pub fn is_wrong_secret(status: u16, body: &[u8]) -> bool {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let message = said.as_ref().and_then(|said| said.get("message")?.as_str());
    status == 400 && message.is_some_and(|message| message.contains("ClientSecret"))
}

/// The client secret among a call's credentials.
pub fn secret(value: &SecretString) -> Option<envelope::Key> {
    envelope::Key::from_base64(value.expose_secret())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn success(refresh_from: i64, identity_expires: i64) -> Vec<u8> {
        let body = json!({"advertising_token": "A4x", "refresh_token": "r", "refresh_response_key": "k",
            "identity_expires": identity_expires, "refresh_from": refresh_from, "refresh_expires": identity_expires + 1});
        serde_json::to_vec(&json!({"status": "success", "body": body})).unwrap()
    }

    #[test]
    fn the_clocks_are_in_milliseconds() {
        let now = clock::unix_ms(NOW);
        let Ok(Answer::Found(found)) = read(&success(now + 3_600_000, now + 259_200_000), NOW) else {
            panic!()
        };
        assert_eq!(found.value, "A4x");
        assert_eq!(found.expires_at, NOW + time::Duration::hours(1));
        assert_eq!(found.kept_until, NOW + time::Duration::days(3));
        let plain = found.refresh.unwrap();
        assert_eq!(Refresh::parse(&plain, NOW).unwrap().body(), "r");
        assert!(Refresh::parse(&plain, NOW + time::Duration::days(4)).is_none(), "to be generated anew");
        // Seconds would lie in 1970.
        assert!(read(&success(now / 1000, now / 1000), NOW).is_err());
    }

    #[test]
    fn what_is_no_success() {
        assert!(matches!(read(br#"{"status":"optout"}"#, NOW), Ok(Answer::OptOut)));
        assert!(matches!(read(br#"{"status":"insufficient_user_consent"}"#, NOW), Ok(Answer::None)));
        for odd in
            ["", "[]", r#"{"status":"success"}"#, r#"{"status":"success","body":{}}"#, r#"{"status":"x"}"#]
        {
            assert!(matches!(read(odd.as_bytes(), NOW), Err(Failure::Malformed)), "{odd}");
        }
        assert!(is_ended(400, br#"{"status":"expired_token","message":"Expired Token presented"}"#));
        assert!(!is_ended(500, br#"{"status":"error"}"#) && !is_ended(400, b"x"));
    }

    #[test]
    fn one_identifier_is_asked_for() {
        let mut variables = Variables::default();
        assert_eq!(request(&variables), None);
        variables.set(PHONE, Some("p"));
        assert_eq!(request(&variables), Some(json!({"phone_hash": "p"})));
        variables.set(EMAIL, Some("e"));
        assert_eq!(request(&variables), Some(json!({"email_hash": "e"})));
    }
}
