//! Access and refresh tokens: JWTs signed with HS256 (spec `authentication.txt`, Token Details). Either secret checks,
//! the current one signs; `kid` tells which.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, errors::ErrorKind,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use time::Duration;
use uuid::Uuid;

use crate::api::error::{Code, Result};

/// How long an access token is good (specification).
pub const ACCESS_LIFE: Duration = Duration::minutes(15);
/// How long a refresh token is good (specification).
pub const REFRESH_LIFE: Duration = Duration::days(7);
/// How far clocks may be apart, in seconds (threats.md concern 9).
pub const LEEWAY: i64 = 5;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 2048;

/// An access token's claims: the specification's, and the session, by which it is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The user.
    pub sub: Uuid,
    /// His organisation.
    pub org_id: Uuid,
    /// His role when it was issued. What counts is the role he has.
    pub role: String,
    /// Unix seconds.
    pub exp: i64,
    /// Unix seconds.
    pub iat: i64,
    /// The login it came of.
    pub sid: Uuid,
}

/// A refresh token's claims: the specification's, and its own ID, which is used once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The user.
    pub sub: Uuid,
    /// His organisation.
    pub org_id: Uuid,
    /// Tells it from an access token, which has none.
    #[serde(rename = "type")]
    pub kind: RefreshKind,
    /// Unix seconds.
    pub exp: i64,
    /// Unix seconds.
    pub iat: i64,
    /// Its ID.
    pub jti: Uuid,
}

/// `"refresh"`, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefreshKind {
    /// The one there is.
    #[serde(rename = "refresh")]
    Refresh,
}

/// Signs and checks.
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
    fn new(text: &SecretString) -> Self {
        let bytes = text.expose_secret().as_bytes();
        let digest = Sha256::new().chain_update("jwt-kid").chain_update(bytes).finalize();
        Self {
            kid: hex::encode(digest.iter().take(4).copied().collect::<Vec<u8>>()),
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
        }
    }
}

impl Tokens {
    /// `current` signs; what `previous` signed is still good until it expires.
    pub fn new(current: &SecretString, previous: Option<&SecretString>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are judged by the database's clock, which all instances share (`sessions`).
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { current: Secret::new(current), previous: previous.map(Secret::new), validation }
    }

    /// Signs claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        let header = Header { kid: Some(self.current.kid.clone()), ..Header::new(Algorithm::HS256) };
        Ok(encode(&header, claims, &self.current.encoding).map_err(|error| {
            tracing::error!(%error, "a token can't be signed");
            Code::Internal
        })?)
    }

    /// The claims of an access token that we signed. Whether it is still good is for `sessions` to say.
    pub fn access(&self, token: &str) -> Result<Access> {
        Ok(self.open(token).ok_or(Code::InvalidToken)?)
    }

    /// The claims of a refresh token that we signed.
    pub fn refresh(&self, token: &str) -> Result<Refresh> {
        Ok(self.open(token).ok_or(Code::InvalidRefreshToken)?)
    }

    fn open<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let header = decode_header(token).ok()?;
        // Extensions that must be understood are not; keys that a token brings or names are not looked at.
        if header.crit.is_some() {
            return None;
        }
        let kid = header.kid?;
        let secret =
            [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|own| own.kid == kid)?;
        match decode(token, &secret.decoding, &self.validation) {
            Ok(decoded) => Some(decoded.claims),
            Err(error) => {
                // Signed by us, and none of ours: a token of the other kind, or of another version.
                if matches!(error.kind(), ErrorKind::Json(_)) {
                    tracing::debug!("a token of another shape");
                }
                None
            }
        }
    }
}
