//! A UID2 operator: the protocol of IABTechLab/uid2docs, written here once more from the operator's side.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aes_gcm::{Aes256Gcm, KeyInit, Nonce, aead::Aead};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::system;

/// Times of tokens, in ms from their making: refresh from, identity expires, refresh expires.
pub type Clocks = [i64; 3];

const HOUR: i64 = 3_600_000;
/// Times as production operators have them.
pub const CLOCKS: Clocks = [HOUR, 72 * HOUR, 720 * HOUR];

/// The operator, with the tokens that it has given out.
#[derive(Debug)]
pub struct Operator(Mutex<State>);

#[derive(Debug)]
struct State {
    secret: [u8; 32],
    clocks: Clocks,
    /// Identities, by their digest in base64, that have opted out.
    opted_out: Vec<String>,
    /// Refresh token → identity and key of the answer.
    tokens: HashMap<String, (String, [u8; 32])>,
    /// Tokens that were made, of either kind.
    made: u32,
    /// True where refreshes fail with 500.
    refuses_refresh: bool,
}

impl Default for Operator {
    fn default() -> Self {
        Self(Mutex::new(State {
            secret: rand::random(),
            clocks: CLOCKS,
            opted_out: Vec::new(),
            tokens: HashMap::new(),
            made: 0,
            refuses_refresh: false,
        }))
    }
}

impl Operator {
    /// The client secret, as the portal shows it.
    pub fn client_secret(&self) -> String {
        STANDARD.encode(self.state().secret)
    }

    /// Sets the times of tokens that are made from now on.
    pub fn set_clocks(&self, clocks: Clocks) {
        self.state().clocks = clocks;
    }

    /// Lets a person opt out, by the normal form of their email.
    pub fn opt_out(&self, email: &str) {
        self.state().opted_out.push(STANDARD.encode(Sha256::digest(email)));
    }

    /// Has refreshes fail, or work again.
    pub fn refuse_refresh(&self, refuses: bool) {
        self.state().refuses_refresh = refuses;
    }

    /// The request in an envelope, decrypted; none where it is none, as that of a refresh.
    pub fn request_of(&self, path: &str, body: &str) -> Option<String> {
        if path != "/v2/token/generate" {
            return None;
        }
        let (_, json) = open(&self.state().secret, body).ok()?;
        String::from_utf8(json).ok()
    }

    /// Answers a request with a bearer that is known.
    pub fn answer(&self, path: &str, body: &str) -> Response {
        match path {
            "/v2/token/generate" => self.generate(body),
            "/v2/token/refresh" => self.refresh(body),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn generate(&self, body: &str) -> Response {
        let mut state = self.state();
        let (nonce, json) = match open(&state.secret, body) {
            Ok(opened) => opened,
            Err(message) => return error("client_error", message),
        };
        let request: Value = serde_json::from_slice(&json).unwrap_or_default();
        let identities: Vec<&str> = ["email", "email_hash", "phone", "phone_hash"]
            .iter()
            .filter_map(|name| request.get(name)?.as_str())
            .collect();
        let [identity] = identities.as_slice() else {
            return error(
                "client_error",
                "Required Parameter Missing: exactly one of [email, email_hash, phone, phone_hash]",
            );
        };
        if STANDARD.decode(identity).map(|digest| digest.len()) != Ok(32) {
            return error("client_error", "Invalid Identifier");
        }
        let document = if state.opted_out.iter().any(|own| own == identity) {
            json!({"status": "optout"})
        } else {
            json!({"status": "success", "body": state.token(identity)})
        };
        let plain = [&now_ms().to_be_bytes(), nonce.as_slice(), document.to_string().as_bytes()].concat();
        seal(&state.secret, &plain).into_response()
    }

    fn refresh(&self, body: &str) -> Response {
        let mut state = self.state();
        if state.refuses_refresh {
            return (StatusCode::INTERNAL_SERVER_ERROR, r#"{"status":"error"}"#).into_response();
        }
        let Some((identity, key)) = state.tokens.get(body).cloned() else {
            return error("invalid_token", "Invalid Token presented");
        };
        let document = if state.opted_out.contains(&identity) {
            json!({"status": "optout"})
        } else {
            json!({"status": "success", "body": state.token(&identity)})
        };
        seal(&key, document.to_string().as_bytes()).into_response()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn token(&mut self, identity: &str) -> Value {
        self.made += 1;
        let key: [u8; 32] = rand::random();
        let token: Vec<u8> = (0..291).map(|_| rand::random()).collect();
        let token = STANDARD.encode(token);
        self.tokens.insert(token.clone(), (identity.to_owned(), key));
        let [refresh_from, identity_expires, refresh_expires] = self.clocks.map(|after| now_ms() + after);
        json!({
            "advertising_token": format!("A4AAAA{}-{}", self.made, identity.trim_end_matches('=')),
            "refresh_token": token,
            "refresh_response_key": STANDARD.encode(key),
            "refresh_from": refresh_from,
            "identity_expires": identity_expires,
            "refresh_expires": refresh_expires,
        })
    }
}

/// Nonce and JSON of a request's envelope, or what the operator says of one that is none.
fn open(secret: &[u8; 32], body: &str) -> Result<([u8; 8], Vec<u8>), &'static str> {
    let bytes = STANDARD.decode(body).map_err(|_| "Body is not valid base64.")?;
    if bytes.len() < 45 {
        return Err("Body too short. Check encryption method.");
    }
    if bytes[0] != 1 {
        return Err("Invalid request envelope format version.");
    }
    let nonce = Nonce::try_from(&bytes[1..13]).map_err(|_| "Body too short.")?;
    let plain = Aes256Gcm::new(secret.into())
        .decrypt(&nonce, &bytes[13..])
        .map_err(|_| "Check encryption key (ClientSecret).")?;
    let sent = i64::from_be_bytes(plain[..8].try_into().map_err(|_| "Invalid timestamp.")?);
    if (now_ms() - sent).abs() >= 120_000 {
        return Err("Invalid timestamp: Request too old or client time drift.");
    }
    Ok((plain[8..16].try_into().map_err(|_| "Invalid payload in body.")?, plain[16..].to_vec()))
}

fn seal(key: &[u8; 32], plain: &[u8]) -> String {
    let iv: [u8; 12] = rand::random();
    let sealed = Aes256Gcm::new(key.into()).encrypt(&iv.into(), plain).unwrap_or_default();
    STANDARD.encode([iv.as_slice(), &sealed].concat())
}

fn error(status: &str, message: &str) -> Response {
    (StatusCode::BAD_REQUEST, json!({"status": status, "message": message}).to_string()).into_response()
}

fn now_ms() -> i64 {
    i64::try_from(system::now().unix_timestamp_nanos() / 1_000_000).unwrap()
}
