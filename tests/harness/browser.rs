//! A small browser with a page of the customer's open: a cookie jar, Datafly.js' calls, images that follow
//! redirects.

use std::{collections::BTreeMap, net::SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Method, RequestBuilder,
    header::{self, HeaderMap, HeaderValue},
    redirect::Policy,
};
use serde_json::{Value, json};
use serve::origin::is_loopback_host;
use url::Url;
use uuid::Uuid;

/// Characters that `encodeURIComponent` escapes, near enough.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Redirects after which a browser gives up (Fetch standard, HTTP-redirect fetch).
const MAX_REDIRECTS: usize = 20;

/// A browser of one visitor, with one page of the customer's open.
#[derive(Debug, Clone)]
pub struct Browser {
    client: Client,
    /// The collect host, `http://127.0.0.1:…`.
    pub collect: String,
    /// Host header of requests to it, where a proxy stands in between that keeps the one it was asked for; none for
    /// its own.
    pub host: Option<String>,
    /// The pipeline key in the page.
    pub key: String,
    /// The page's origin; none for what is not a browser.
    pub origin: Option<String>,
    /// The ID that Datafly.js keeps in the page's own storage and sends with every event.
    pub anonymous_id: Option<String>,
    /// User-Agent header of every request; none for none.
    pub user_agent: Option<String>,
    /// Address of the browser, where a proxy stands in between and tells it; none for the connection's.
    pub address: Option<String>,
    /// Cookies that the browser holds.
    pub jar: Jar,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The URL that was asked for.
    pub url: Url,
    /// Status code of HTTP.
    pub status: u16,
    /// Headers as they were received.
    pub headers: HeaderMap,
    /// Body, with all its bytes.
    pub body: Vec<u8>,
}

/// Cookies by host and port, path and name. Port, so that services on one loopback address are apart.
#[derive(Debug, Clone, Default)]
pub struct Jar(BTreeMap<(String, String, String), String>);

impl Browser {
    /// Opens a page in a browser with an empty jar and a new anonymous ID.
    pub fn new(collect: &str, key: &str, origin: &str) -> Self {
        let mut client = Client::builder().redirect(Policy::none()).no_proxy().no_gzip();
        let host = Url::parse(collect).unwrap().host_str().unwrap_or_default().to_owned();
        if host.ends_with(".localhost") {
            // Browsers know without asking that such a name is this machine's.
            client = client.resolve(&host, SocketAddr::from(([127, 0, 0, 1], 0)));
        }
        Self {
            client: client.build().unwrap(),
            collect: collect.to_owned(),
            host: None,
            key: key.to_owned(),
            origin: Some(origin.to_owned()),
            anonymous_id: Some(Uuid::new_v4().to_string()),
            user_agent: None,
            address: None,
            jar: Jar::default(),
        }
    }

    /// The anonymous ID, for tests that use one.
    pub fn aid(&self) -> &str {
        self.anonymous_id.as_deref().unwrap_or_else(|| panic!("this browser has no anonymous ID"))
    }

    /// A page view with these consent signals; `Value::Null` for none.
    pub fn page_view(&self, consent: &Value) -> Value {
        let mut event = json!({"type": "page", "context": {"page": {"url": "https://shop.example.com/"}}});
        if let Some(anonymous_id) = &self.anonymous_id {
            event["anonymousId"] = json!(anonymous_id);
        }
        if !consent.is_null() {
            event["context"]["consent"] = consent.clone();
        }
        event
    }

    /// A batch of one page view with these consent signals.
    pub async fn view(&mut self, consent: &Value) -> Answer {
        let event = self.page_view(consent);
        self.batch(&json!([event])).await
    }

    /// A batch of events.
    pub async fn batch(&mut self, events: &Value) -> Answer {
        self.post("/v1/batch", json!({"batch": events}).to_string()).await
    }

    /// A body to a path of the collect host.
    pub async fn post(&mut self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.bearer_auth(&self.key).body(body)).await
    }

    /// A request to the collect host as a page's script would make it, less the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.collect));
        match &self.origin {
            Some(origin) => request.header(header::ORIGIN, origin),
            None => request,
        }
    }

    /// Sends with the jar's cookies, and keeps those that come back.
    pub async fn send(&mut self, request: RequestBuilder) -> Answer {
        let mut request = request.build().unwrap();
        let url = request.url().clone();
        if let Some(host) = self.host.as_ref().filter(|_| url.as_str().starts_with(&self.collect)) {
            request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_str(host).unwrap());
        }
        if let Some(user_agent) = &self.user_agent {
            request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_str(user_agent).unwrap());
        }
        if let Some(address) = &self.address {
            request.headers_mut().insert("x-forwarded-for", HeaderValue::from_str(address).unwrap());
        }
        let cookies = self.jar.header(&url);
        if !cookies.is_empty() {
            // Browsers send what a page has set, as UTF-8.
            request
                .headers_mut()
                .insert(header::COOKIE, HeaderValue::from_bytes(cookies.as_bytes()).unwrap());
        }
        let answer = self.client.execute(request).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.unwrap_or_else(|error| panic!("{url}: {error:?}")).to_vec();
        let answer = Answer { url, status, headers, body };
        for cookie in answer.set_cookies() {
            self.jar.take(&answer.url, &cookie);
        }
        answer
    }

    /// Loads an image and follows its redirects; answers with every hop. As browsers do, it gives up after 20 redirects.
    pub async fn follow(&mut self, url: &str) -> Vec<Answer> {
        let mut url = Url::parse(url).unwrap();
        let mut hops = Vec::new();
        while hops.len() <= MAX_REDIRECTS {
            let hop = self.send(self.client.get(url.clone())).await;
            let next = hop.header("location").map(|location| hop.url.join(location).unwrap());
            hops.push(hop);
            match next {
                Some(next) => url = next,
                None => return hops,
            }
        }
        hops
    }

    /// Sends one GET without following its redirect.
    pub async fn get(&mut self, url: &str) -> Answer {
        self.send(self.client.get(url)).await
    }

    /// The image that Datafly.js fires for a pending sync.
    pub fn sync_url(&self, vendor: &str) -> String {
        let aid = utf8_percent_encode(self.aid(), COMPONENT);
        format!(
            "{}/v1/sync/{vendor}?pipeline_key={}&aid={aid}&partner_id=from-the-page",
            self.collect, self.key
        )
    }

    /// Fires the image of a pending sync and follows it to its end.
    pub async fn sync(&mut self, vendor: &str) -> Vec<Answer> {
        self.follow(&self.sync_url(vendor)).await
    }

    /// Fires the image of a pending sync, and follows it until the vendor has redirected back: answers with
    /// the callback's URL, which was not called yet.
    pub async fn sync_to_vendor(&mut self, vendor: &str) -> Url {
        let redirect = self.get(&self.sync_url(vendor)).await;
        assert_eq!(redirect.status, 302, "GET /v1/sync/{vendor}: {}", redirect.text());
        let vendors = self.get(redirect.header("location").unwrap()).await;
        assert_eq!(vendors.status, 302, "the vendor at {}", vendors.url);
        vendors.url.join(vendors.header("location").unwrap()).unwrap()
    }
}

impl Answer {
    /// Text of a header; none where it is absent or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} answered {} {error}: {}", self.url, self.status, self.text()))
    }

    /// Values of all Set-Cookie headers.
    pub fn set_cookies(&self) -> Vec<String> {
        let values = self.headers.get_all(header::SET_COOKIE).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// Names of the vendors in `pending_syncs`, sorted.
    pub fn offered(&self) -> Vec<String> {
        let body = self.json();
        let pending =
            body["pending_syncs"].as_array().unwrap_or_else(|| panic!("no pending_syncs in {body}"));
        let mut names: Vec<String> =
            pending.iter().map(|sync| sync["vendor"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// True where the answer is the 1×1 GIF that must not be stored.
    pub fn is_gif(&self) -> bool {
        self.status == 200
            && self.header("content-type") == Some("image/gif")
            && self.header("cache-control").is_some_and(|value| value.contains("no-store"))
            && self.body.starts_with(b"GIF89a\x01\x00\x01\x00")
    }
}

impl Jar {
    /// A cookie's value, whichever path it is for.
    pub fn value(&self, url: &str, name: &str) -> Option<&str> {
        let site = site(&Url::parse(url).unwrap());
        self.0.iter().find(|((at, _, key), _)| *at == site && key == name).map(|(_, value)| value.as_str())
    }

    /// Sets a cookie for a whole host.
    pub fn set(&mut self, url: &str, name: &str, value: &str) {
        let site = site(&Url::parse(url).unwrap());
        self.0.insert((site, "/".to_owned(), name.to_owned()), value.to_owned());
    }

    /// Forgets all cookies at once.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn header(&self, url: &Url) -> String {
        let site = site(url);
        let ours =
            self.0.iter().filter(|((at, path, _), _)| *at == site && url.path().starts_with(path.as_str()));
        ours.map(|((_, _, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, url: &Url, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let attributes: BTreeMap<String, &str> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .collect();
        // As browsers do: a secure cookie doesn't come, and wouldn't go, over plain HTTP, but on this machine.
        if attributes.contains_key("secure") && url.scheme() != "https" && !is_loopback_host(url.authority())
        {
            return;
        }
        let path = attributes.get("path").copied().unwrap_or("/");
        let key = (site(url), path.to_owned(), name.to_owned());
        if attributes.get("max-age").is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0)) {
            self.0.remove(&key);
        } else {
            self.0.insert(key, value.to_owned());
        }
    }
}

fn site(url: &Url) -> String {
    url.authority().to_owned()
}
