//! One exchange with a provider: the request with its credentials, and what the answer says.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use egress::{Egress, Limits, retry_after};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use migrations::sealed::SealKeys;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;
use zeroize::Zeroizing;

use super::{
    credentials, echo,
    outcome::{Answer, Failure, Found},
    plan::{LONGEST_NONE, MAX_ANSWER_BYTES, Plan, Prepared},
    render,
    template::Template,
    uid2::{self, Refresh, envelope},
    variables::Variables,
};
use crate::{
    clock, identifiers::placeholder::is_placeholder, settings::StoredProvider, vendors::enrichment::Protocol,
};

/// Pause after a 429 that does not say how long.
const PAUSE: Duration = Duration::from_mins(1);
/// Longest ID that is kept, in bytes.
const MAX_VALUE_BYTES: usize = 4096;
/// Longest attributes that are kept, in bytes as JSON.
const MAX_ATTRIBUTES_BYTES: usize = 32 * 1024;

/// The credentials of one call.
type Credentials = BTreeMap<String, SecretString>;

/// What it takes to ask one provider about one visitor.
pub struct Exchange<'a> {
    /// The way out.
    pub egress: &'a Egress,
    /// Keys that open credentials.
    pub keys: &'a SealKeys,
    /// The provider as it is stored.
    pub provider: &'a StoredProvider,
    /// Its plan.
    pub plan: &'a Plan,
    /// What is known of the visitor, for headers.
    pub variables: &'a Variables,
    /// The request.
    pub prepared: &'a Prepared,
    /// The HTTP status of the provider's last answer; none before one has come.
    pub status: Option<u16>,
}

impl Exchange<'_> {
    /// Asks the provider, within `time`. `refresh` is what an earlier answer gave to refresh its ID with.
    pub async fn ask(
        &mut self,
        refresh: Option<&Refresh>,
        time: Duration,
        now: OffsetDateTime,
    ) -> Result<Answer, Failure> {
        let credentials = self.credentials()?;
        let answer = match self.plan.protocol {
            Protocol::Json => {
                let answer = self.call(self.json(&credentials)?, time).await?;
                self.read_json(&answer, now)?
            }
            Protocol::Uid2 => self.ask_uid2(&credentials, refresh, time, now).await?,
        };
        let pair = self.pair(&credentials)?;
        echo::refuse(answer, credentials.values().chain(&pair))
    }

    /// The request as it would be sent, with `***` in place of each credential.
    pub fn masked(&self) -> Result<egress::Request, Failure> {
        let names = self.plan.credentials.iter();
        let masks: Credentials = names.map(|&name| (name.to_owned(), "***".into())).collect();
        match self.plan.protocol {
            Protocol::Json => self.json(&masks),
            // What is encrypted would tell nobody anything.
            Protocol::Uid2 => self.request(
                &masks,
                Method::POST,
                self.prepared.url.clone(),
                Some(("application/json", self.prepared.request.to_string().into_bytes())),
            ),
        }
    }

    /// Reads an answer of status 200 that somebody has written down.
    pub fn read_written(&self, body: &str, now: OffsetDateTime) -> Result<Answer, Failure> {
        match self.plan.protocol {
            Protocol::Json => self.read_body(body.as_bytes(), now),
            Protocol::Uid2 => uid2::read(body.as_bytes(), now),
        }
    }

    /// Opens the credentials, all of those that the plan needs.
    fn credentials(&self) -> Result<Credentials, Failure> {
        if self.plan.credentials.is_empty() {
            return Ok(Credentials::new());
        }
        let none = Failure::Credentials;
        let sealed = self.provider.credentials.as_ref().ok_or(none)?;
        let opened = credentials::open(self.keys, sealed, &self.prepared.url).map_err(|_| none)?;
        let has_all = self.plan.credentials.iter().all(|name| opened.contains_key(*name));
        if has_all { Ok(opened) } else { Err(none) }
    }

    fn json(&self, credentials: &Credentials) -> Result<egress::Request, Failure> {
        let mut url = self.prepared.url.clone();
        let mut body = None;
        if self.plan.method == Method::GET {
            if let Some(members) = self.prepared.request.as_object() {
                render::add_parameters(&mut url, members);
            }
        } else {
            body = Some(("application/json", self.prepared.request.to_string().into_bytes()));
        }
        self.request(credentials, self.plan.method.clone(), url, body)
    }

    fn request(
        &self,
        credentials: &Credentials,
        method: Method,
        url: Url,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<egress::Request, Failure> {
        let value = |name: &str| {
            let credential = credentials.get(name).map(|value| Cow::Borrowed(value.expose_secret()));
            credential.or_else(|| self.variables.get(name))
        };
        let push = |value: &str, text: &mut String| text.push_str(value);
        let render = |template: &Template| template.render(value, push);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some((kind, _)) = &body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, template) in &self.plan.headers {
            let is_secret = template.variables().any(|name| credentials.contains_key(name));
            let text = render(template).and_then(|text| header_value(&text, is_secret));
            match text {
                Some(value) => _ = headers.insert(name, value),
                // What a visitor's value makes of a header is left out, what a credential makes is no call.
                None if is_secret => return Err(Failure::Credentials),
                None => {}
            }
        }
        if let Some(pair) = self.pair(credentials)? {
            let text = Zeroizing::new(format!("Basic {}", pair.expose_secret()));
            let value = header_value(&text, true).ok_or(Failure::Credentials)?;
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(egress::Request { method, url, headers, body: body.map(|(_, bytes)| Bytes::from(bytes)) })
    }

    /// User and password of HTTP basic authentication as they are sent, where there are any.
    fn pair(&self, credentials: &Credentials) -> Result<Option<SecretString>, Failure> {
        let Some([user, password]) = &self.plan.basic else { return Ok(None) };
        let value = |name: &str| Some(Cow::Borrowed(credentials.get(name)?.expose_secret()));
        let render = |template: &Template| template.render(value, |value, text| text.push_str(value));
        let pair = render(user).zip(render(password)).ok_or(Failure::Credentials)?;
        let pair = Zeroizing::new(format!("{}:{}", *pair.0, *pair.1));
        Ok(Some(STANDARD.encode(pair.as_bytes()).into()))
    }

    /// Makes a call, and sorts out the statuses that mean the same for all providers.
    async fn call(&mut self, request: egress::Request, time: Duration) -> Result<egress::Answer, Failure> {
        self.status = None;
        let answer = self.egress.call(request, Limits { timeout: time, max_bytes: MAX_ANSWER_BYTES }).await?;
        self.status = Some(answer.status.as_u16());
        match answer.status.as_u16() {
            401 => Err(Failure::Credentials),
            403 => Err(Failure::Forbidden),
            429 => {
                let pause = retry_after::read(&answer.headers, clock::system(clock::now()));
                Err(Failure::RateLimited(pause.unwrap_or(PAUSE)))
            }
            _ => Ok(answer),
        }
    }

    fn read_json(&self, answer: &egress::Answer, now: OffsetDateTime) -> Result<Answer, Failure> {
        match answer.status.as_u16() {
            204 => Ok(Answer::None),
            200..=299 => self.read_body(&answer.body, now),
            status if self.plan.no_match.contains(&status) => Ok(Answer::None),
            status => Err(Failure::Status(status)),
        }
    }

    fn read_body(&self, body: &[u8], now: OffsetDateTime) -> Result<Answer, Failure> {
        let document: Value = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
        let found = self.plan.json_path.query(&document).at_most_one().ok().flatten();
        let value = match found {
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Null) | None => {
                self.plan.other_shape.and_then(|read| read(&document)).map(|text| text.trim().to_owned())
            }
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => return Err(Failure::Malformed),
        };
        let Some(value) = value.filter(|value| !value.is_empty() && !is_placeholder(value)) else {
            return Ok(Answer::None);
        };
        if value.len() > MAX_VALUE_BYTES || value.chars().any(char::is_control) {
            return Err(Failure::Malformed);
        }
        let path = self.plan.attributes.as_ref();
        let attributes = path.and_then(|path| path.query(&document).at_most_one().ok().flatten().cloned());
        let is_kept = |attributes: &Value| {
            attributes.is_object()
                && attributes.to_string().len() <= MAX_ATTRIBUTES_BYTES
                && !has_nul(attributes)
        };
        let attributes = attributes.filter(is_kept);
        let (expires_at, kept_until) = (now + self.plan.ttl, now + self.plan.kept);
        Ok(Answer::Found(Found { value, attributes, expires_at, kept_until, refresh: None }))
    }

    async fn ask_uid2(
        &mut self,
        credentials: &Credentials,
        refresh: Option<&Refresh>,
        time: Duration,
        now: OffsetDateTime,
    ) -> Result<Answer, Failure> {
        let began = tokio::time::Instant::now();
        let secret = credentials.get("client_secret").and_then(uid2::secret).ok_or(Failure::Credentials)?;
        if let Some((refresh, key)) = refresh.and_then(|refresh| Some((refresh, refresh.key()?))) {
            let mut url = self.prepared.url.clone();
            let base = url.path().strip_suffix("/v2/token/generate").unwrap_or_default().to_owned();
            url.set_path(&format!("{base}{}", uid2::REFRESH_PATH));
            let body = ("text/plain", refresh.body().as_bytes().to_vec());
            let answer = self.call(self.request(credentials, Method::POST, url, Some(body))?, time).await?;
            match answer.status.as_u16() {
                200 => {
                    let json =
                        envelope::open_refreshed(&key, &answer.body).map_err(|_| Failure::Malformed)?;
                    return uid2::read(&json, now);
                }
                // Another has to be generated.
                status if uid2::is_ended(status, &answer.body) => {}
                status => return Err(Failure::Status(status)),
            }
        }
        let (nonce, iv) = (rand::random(), rand::random());
        let json = Zeroizing::new(self.prepared.request.to_string().into_bytes());
        let sealed =
            envelope::seal(&secret, clock::unix_ms(now), nonce, iv, &json).ok_or(Failure::Credentials)?;
        let url = self.prepared.url.clone();
        let body = Some(("text/plain", sealed.into_bytes()));
        let left = time.saturating_sub(began.elapsed());
        let answer = self.call(self.request(credentials, Method::POST, url, body)?, left).await?;
        match answer.status.as_u16() {
            200 => {
                let json = envelope::open(&secret, nonce, &answer.body).map_err(|_| Failure::Malformed)?;
                uid2::read(&json, now)
            }
            status if uid2::is_wrong_secret(status, &answer.body) => Err(Failure::Credentials),
            status => Err(Failure::Status(status)),
        }
    }
}

/// The time until which the lack of an ID holds.
pub fn none_until(plan: &Plan, now: OffsetDateTime) -> OffsetDateTime {
    now + plan.ttl.min(LONGEST_NONE)
}

fn header_value(text: &str, is_secret: bool) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(is_secret);
    Some(value)
}

/// True where there is a character in it that PostgreSQL can't store.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Headers of a request, for people; those that carry credentials are masked.
pub fn for_people(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &str)> {
    headers.iter().map(|(name, value)| {
        let is_plain = !value.is_sensitive();
        (name, value.to_str().ok().filter(|_| is_plain).unwrap_or("***"))
    })
}
