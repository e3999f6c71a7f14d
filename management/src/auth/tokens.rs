//! Access and refresh tokens: JWTs signed with HS256. Either secret checks, the current one signs; `kid`
//! tells which.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use time::Duration;
use uuid::Uuid;

use crate::api::error::{Code, Result};

/// Life of an access token, as the product's specification has it.
pub const ACCESS_LIFE: Duration = Duration::minutes(15);
/// Life of a refresh token, as the product's specification has it.
pub const REFRESH_LIFE: Duration = Duration::days(7);
/// Seconds that clocks may be apart.
pub const LEEWAY_SECONDS: i64 = 5;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 2048;

/// Claims of an access token: those of the product's specification, and the session, by which it is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessClaims {
    /// ID of the user.
    pub sub: Uuid,
    /// Organisation of the user.
    pub org_id: Uuid,
    /// Role of the user when the token was issued. The role that they have now counts.
    pub role: String,
    /// Time when the token expires, in Unix seconds.
    pub exp: i64,
    /// Time when the token was issued, in Unix seconds.
    pub iat: i64,
    /// Session that the token came of.
    pub sid: Uuid,
}

/// Claims of a refresh token: those of the product's specification, and its own ID, which is used once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshClaims {
    /// ID of the user.
    pub sub: Uuid,
    /// Organisation of the user.
    pub org_id: Uuid,
    /// Kind of the token, which tells it from an access token: that has none.
    #[serde(rename = "type")]
    pub kind: RefreshKind,
    /// Time when the token expires, in Unix seconds.
    pub exp: i64,
    /// Time when the token was issued, in Unix seconds.
    pub iat: i64,
    /// ID of the token itself.
    pub jti: Uuid,
}

/// `"refresh"`, and nothing else: the kind of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshKind {
    /// The one kind that there is.
    #[serde(rename = "refresh")]
    Refresh,
}

/// Signs tokens and checks them.
pub struct Tokens {
    current: Secret,
    previous: Option<Secret>,
    validation: Validation,
}

struct Secret {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Secret {
    fn new(bytes: &[u8]) -> Self {
        let digest = Sha256::new().chain_update("jwt-kid").chain_update(bytes).finalize();
        Self {
            kid: hex::encode(digest.iter().take(4).copied().collect::<Vec<u8>>()),
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
        }
    }
}

impl Tokens {
    /// Takes the secrets: `current` signs, and what `previous` signed is still good until it expires.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are judged by the database's clock, which all instances share (`sessions`).
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let secret = |text: &SecretString| Secret::new(text.expose_secret().as_bytes());
        Self { current: secret(current), previous: previous.map(secret), validation }
    }

    /// Signs claims with the current secret.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let header = Header { kid: Some(self.current.kid.clone()), ..Header::new(Algorithm::HS256) };
        Ok(encode(&header, claims, &self.current.encoding).map_err(|error| {
            tracing::error!(%error, "a token can't be signed");
            Code::Internal
        })?)
    }

    /// Claims of an access token that we signed. The session says whether it is still good.
    pub fn access(&self, token: &str) -> Result<AccessClaims> {
        Ok(self.open(token).ok_or(Code::InvalidToken)?)
    }

    /// Claims of a refresh token that we signed.
    pub fn refresh(&self, token: &str) -> Result<RefreshClaims> {
        Ok(self.open(token).ok_or(Code::InvalidRefreshToken)?)
    }

    fn open<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        decode(token, &self.secret(token)?.decoding, &self.validation).ok().map(|decoded| decoded.claims)
    }

    /// Finds the secret that a token claims to be signed with.
    fn secret(&self, token: &str) -> Option<&Secret> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        // Keys that a token brings or names are not looked at.
        let Header { kid, crit, .. } = decode_header(token).ok()?;
        // Extensions that must be understood are not.
        if crit.is_some() {
            return None;
        }
        let known = [Some(&self.current), self.previous.as_ref()];
        known.into_iter().flatten().find(|secret| kid.as_ref() == Some(&secret.kid))
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::errors::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    fn tokens(secret: &str, previous: Option<&str>) -> Tokens {
        Tokens::new(&secret.into(), previous.map(SecretString::from).as_ref())
    }

    fn access() -> AccessClaims {
        let (sub, org_id, sid) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        AccessClaims { sub, org_id, role: "owner".to_owned(), exp: 1_900_000_900, iat: 1_900_000_000, sid }
    }

    fn refresh() -> RefreshClaims {
        let (sub, org_id, jti) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        RefreshClaims { sub, org_id, kind: RefreshKind::Refresh, exp: 1_900_604_800, iat: 1_900_000_000, jti }
    }

    #[test]
    fn what_one_secret_signs_another_knows_as_its_previous() {
        let (old, new) = ("first ".repeat(6), "second ".repeat(6));
        let signed = tokens(&old, None).sign(&access()).unwrap();
        assert!(tokens(&new, Some(&old)).access(&signed).is_ok());
        assert!(tokens(&new, None).access(&signed).is_err());
        let signed = tokens(&new, Some(&old)).sign(&access()).unwrap();
        assert!(tokens(&new, None).access(&signed).is_ok() && tokens(&old, None).access(&signed).is_err());
    }

    #[test]
    fn a_token_is_of_its_kind() {
        let tokens = tokens(&"a secret ".repeat(4), None);
        let (access, refresh) = (access(), refresh());
        let signed = tokens.sign(&access).unwrap();
        assert_eq!(tokens.access(&signed).unwrap(), access);
        assert_eq!(tokens.refresh(&signed).unwrap_err().code(), Code::InvalidRefreshToken);
        let signed = tokens.sign(&refresh).unwrap();
        assert_eq!(tokens.refresh(&signed).unwrap(), refresh);
        assert_eq!(tokens.access(&signed).unwrap_err().code(), Code::InvalidToken);
    }

    #[test]
    fn times_are_whole_numbers_and_nothing_is_missing_or_more() {
        let tokens = tokens(&"a secret ".repeat(4), None);
        let good = serde_json::to_value(access()).unwrap();
        assert!(tokens.access(&tokens.sign(&good).unwrap()).is_ok());
        for name in ["exp", "iat"] {
            for odd in [
                json!("1900000900"),
                json!(1_900_000_900.5),
                json!(null),
                json!(1e300),
                json!([1]),
                json!(true),
            ] {
                let mut claims = good.clone();
                claims[name] = odd;
                assert!(tokens.access(&tokens.sign(&claims).unwrap()).is_err(), "{claims}");
            }
        }
        for name in ["sub", "org_id", "role", "exp", "iat", "sid"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            assert!(tokens.access(&tokens.sign(&claims).unwrap()).is_err(), "{claims}");
        }
        let mut claims = good;
        claims["type"] = json!("refresh");
        assert!(tokens.access(&tokens.sign(&claims).unwrap()).is_err(), "{claims}");
    }

    #[test]
    fn the_published_vectors_of_json_web_signatures_pass() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../testdata/wycheproof_jws_hs256.json")).unwrap();
        let mut seen = 0;
        for group in vectors["testGroups"].as_array().unwrap() {
            let mut tokens = tokens("", None);
            let key = URL_SAFE_NO_PAD.decode(group["k"].as_str().unwrap()).unwrap();
            tokens.current = Secret { kid: group["kid"].as_str().unwrap().to_owned(), ..Secret::new(&key) };
            for vector in group["tests"].as_array().unwrap() {
                let jws = vector["jws"].as_str().unwrap();
                let expected = match vector["tcId"].as_u64().unwrap() {
                    // Their padding was lost: they are vector 357, which is valid.
                    367 | 370 => true,
                    // Valid for whoever overlooks characters that base64url has not.
                    372 | 373 => false,
                    _ => vector["result"] == "valid",
                };
                let secret = tokens.secret(jws);
                let decoded = secret.map(|secret| decode::<Value>(jws, &secret.decoding, &tokens.validation));
                // What they sign is no JSON, which is looked at only where the signature is good.
                let good =
                    decoded.is_some_and(|decoded| matches!(decoded.unwrap_err().kind(), ErrorKind::Json(_)));
                assert_eq!(good, expected, "{vector}");
                assert!(tokens.access(jws).is_err(), "{vector}");
                seen += 1;
            }
        }
        assert_eq!(seen, 39);
    }
}
