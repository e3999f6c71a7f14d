//! Vendors over real HTTP: each sets its own cookie and sends the browser back as the vendor does.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use identity_service::vendors::{
    self, SyncVendor,
    sync::{Mode, PartnerIn},
    sync_url,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use tokio::task::AbortHandle;
use url::Url;

/// A vendor as its public endpoint behaves, by its record and its fixture.
#[derive(Debug)]
pub struct Vendor {
    /// Name in our vendor table.
    pub name: &'static str,
    /// Path of its endpoint here: its name, as several vendors' are alike, and the endpoint's own.
    pub path: String,
    /// The record, which says how the ID is asked for and comes back.
    record: &'static SyncVendor,
    /// The cookie it keeps its ID in.
    cookie: String,
    /// The ID it assigns, unless a test sets another.
    pub id: &'static str,
}

/// The vendors that have a record with a gateway sync, each as its record says.
pub static VENDORS: LazyLock<Vec<Vendor>> =
    LazyLock::new(|| vendors::syncs().map(|record| simulated(record).unwrap()).collect());

/// The part of a vendor's fixture that the simulator needs.
#[derive(Deserialize)]
struct Fixture {
    simulator: SimulatedId,
}

#[derive(Deserialize)]
struct SimulatedId {
    cookie: String,
    id: String,
}

fn simulated(record: &'static SyncVendor) -> Result<Vendor> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../identity-service/fixtures/sync");
    let fixture = fs::read_to_string(format!("{fixtures}/{}.json", record.name))?;
    let Fixture { simulator } = serde_json::from_str(&fixture)?;
    let path = format!("/{}{}", record.name, Url::parse(record.endpoint)?.path());
    Ok(Vendor { name: record.name, path, record, cookie: simulator.cookie, id: simulator.id.leak() })
}

impl Vendor {
    /// The partner ID of a request, where the request is one to this vendor's endpoint.
    fn partner(&self, path: &str, query: &str) -> Option<String> {
        match self.record.partner {
            PartnerIn::Param(name) => (path == self.path).then(|| parameter(query, name).unwrap_or_default()),
            PartnerIn::Path { rest } => path.strip_prefix(&self.path)?.strip_suffix(rest).map(decoded),
        }
    }
}

/// The vendor of that name.
pub fn vendor(name: &str) -> &'static Vendor {
    VENDORS.iter().find(|vendor| vendor.name == name).unwrap_or_else(|| panic!("no vendor {name}"))
}

/// Faults that a vendor may be told to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Redirects back without an ID.
    NoId,
    /// Redirects back with `opt_out=1` and no ID.
    OptOut,
    /// Leaves its macro in the callback's URL.
    RawMacro,
    /// Answers 200 with an image and never redirects.
    NoRedirect,
    /// Answers a browser without its cookie like [`Fault::NoRedirect`], and knows it from then on.
    SecondCallOnly,
    /// Answers 200 with an image that has a script in it, which would call the vendor again.
    Script,
    /// Redirects to itself, for ever.
    Loop,
    /// Redirects to this URL.
    To(String),
    /// Answers 400, as to a partner that it does not know.
    BadRequest,
    /// Takes so much time for its answer.
    Slow(Duration),
    /// Adds parameters after the ID.
    Tail(&'static str),
    /// Sends the ID twice, in two parameters.
    Twice,
    /// Assigns this ID.
    Id(String),
    /// Assigns this ID, and writes it into the callback's URL raw as it is.
    RawId(String),
    /// Assigns this ID, and percent-encodes it once too often.
    DoublyEncoded(String),
}

/// A request that a vendor saw: all there is in it.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// Name of the vendor.
    pub vendor: &'static str,
    /// Path and query of the request.
    pub target: String,
    /// Headers of the request.
    pub headers: HeaderMap,
}

/// A server of all vendors on one port. Ends when dropped.
#[derive(Debug)]
pub struct VendorSim {
    /// Address at which the vendors listen.
    pub addr: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    server: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    faults: HashMap<&'static str, Fault>,
    /// Vendor and partner ID → callback agreed out of band.
    registered: HashMap<(&'static str, String), String>,
    seen: Vec<SeenRequest>,
    /// Browsers that were assigned an ID of their own; none where all have their vendor's one.
    assigned: Option<u32>,
}

impl Shared {
    /// The ID for a browser without one: the vendor's, with a number in the place of its last eight hexadecimal digits
    /// where browsers are told apart.
    fn new_id(&mut self, of_all: &str) -> String {
        let Some(assigned) = &mut self.assigned else { return of_all.to_owned() };
        *assigned += 1;
        let kept = of_all.len().saturating_sub(8);
        format!("{}{assigned:08x}", of_all.get(..kept).unwrap_or_default())
    }
}

impl VendorSim {
    /// Starts them, on a free port.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { addr, shared, server })
    }

    /// The endpoint that stands for a vendor's own.
    pub fn endpoint(&self, name: &str) -> String {
        format!("http://{}{}", self.addr, vendor(name).path)
    }

    /// Makes a vendor misbehave; `None` makes it behave again.
    pub fn misbehave(&self, name: &str, fault: Option<Fault>) {
        let name = vendor(name).name;
        let faults = &mut self.shared().faults;
        match fault {
            Some(fault) => faults.insert(name, fault),
            None => faults.remove(name),
        };
    }

    /// Agrees on the callback of a collect host with a vendor, out of band, as the catalogue tells a customer to. Nothing
    /// has to be agreed with most.
    pub fn register(&self, name: &str, partner: &str, collect_url: &str) {
        let vendor = vendor(name);
        if let Some(callback) = sync_url::registered_callback(vendor.record, collect_url) {
            self.shared().registered.insert((vendor.name, partner.to_owned()), callback);
        }
    }

    /// Has the vendors tell browsers apart from now on, as real ones do: each new one is assigned an ID of its own.
    pub fn tell_apart(&self) {
        self.shared().assigned.get_or_insert(0);
    }

    /// Requests that were seen so far.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.shared().seen.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for VendorSim {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let path = request.uri().path();
    let called = VENDORS.iter().find_map(|vendor| Some((vendor, vendor.partner(path, &query)?)));
    let Some((vendor, partner)) = called else { return StatusCode::NOT_FOUND.into_response() };
    let target = request.uri().to_string();
    let (fault, registered, new_id) = {
        let mut shared = lock(&shared);
        let (target, headers) = (target.clone(), request.headers().clone());
        shared.seen.push(SeenRequest { vendor: vendor.name, target, headers });
        let new_id = shared.new_id(vendor.id);
        let registered = shared.registered.get(&(vendor.name, partner)).cloned();
        (shared.faults.get(vendor.name).cloned(), registered, new_id)
    };
    match fault.clone() {
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Loop) => return (StatusCode::FOUND, [(header::LOCATION, target)]).into_response(),
        Some(Fault::Script) => return script(&target),
        Some(Fault::To(url)) => return (StatusCode::FOUND, [(header::LOCATION, url)]).into_response(),
        Some(Fault::BadRequest) => return StatusCode::BAD_REQUEST.into_response(),
        _ => {}
    }
    let callback = match vendor.record.mode {
        Mode::Redirect { param, .. } | Mode::Append { param, .. } => parameter(&query, param),
        Mode::Registered { .. } => registered,
    };
    let Some(callback) = callback else { return StatusCode::BAD_REQUEST.into_response() };
    let known = kept(request.headers(), &vendor.cookie);
    let is_first = known.is_none();
    let id = match &fault {
        Some(Fault::Id(id) | Fault::RawId(id) | Fault::DoublyEncoded(id)) => id.clone(),
        _ => known.unwrap_or(new_id),
    };
    // As every vendor's: a page of another site loads it.
    let attributes = format!("Path=/{}; Max-Age=31536000; SameSite=None; Secure", vendor.name);
    let cookie = format!("{}={}; {attributes}", vendor.cookie, encoded(&id));
    if fault == Some(Fault::NoRedirect) || fault == Some(Fault::SecondCallOnly) && is_first {
        return ([(header::SET_COOKIE, cookie)], "GIF89a").into_response();
    }
    let location = back(vendor.record, &callback, &id, fault.as_ref());
    (StatusCode::FOUND, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response()
}

/// An image with a script in it.
fn script(target: &str) -> Response {
    let image = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><script>fetch("{}")</script></svg>"#,
        target.replace('&', "&amp;")
    );
    ([(header::CONTENT_TYPE, "image/svg+xml")], image).into_response()
}

/// The callback's URL with the ID in it, or with what the fault puts there.
fn back(record: &SyncVendor, callback: &str, id: &str, fault: Option<&Fault>) -> String {
    let id = if matches!(fault, Some(Fault::NoId | Fault::OptOut)) { "" } else { id };
    let raw = fault == Some(&Fault::RawMacro);
    let written = match fault {
        Some(Fault::RawId(id)) => id.clone(),
        Some(Fault::DoublyEncoded(id)) => encoded(&encoded(id)),
        _ if matches!(record.mode, Mode::Append { .. }) => id.to_owned(),
        _ => encoded(id),
    };
    let mut url = match record.mode {
        Mode::Redirect { uid_macro: None, .. } if id.is_empty() => callback.to_owned(),
        Mode::Redirect { uid_macro: None, .. } => {
            let value = if raw { "[UID]" } else { &written };
            let separator = if callback.contains('?') { '&' } else { '?' };
            format!("{callback}{separator}{}={value}", record.uid_param)
        }
        Mode::Redirect { uid_macro: Some(_), .. } | Mode::Registered { .. } if raw => callback.to_owned(),
        // Some callers encode the macro once more than the vendor expects; vendors take both.
        Mode::Redirect { uid_macro: Some(text), .. } | Mode::Registered { uid_macro: text } => {
            callback.replace(&encoded(text), &written).replace(text, &written)
        }
        Mode::Append { .. } if raw => format!("{callback}$UID"),
        Mode::Append { .. } => format!("{callback}{written}"),
    };
    match fault {
        Some(Fault::OptOut) => url += "&opt_out=1",
        Some(Fault::Tail(tail)) => url += tail,
        Some(Fault::Twice) => url += &format!("&{}=another", record.uid_param),
        _ => {}
    }
    url
}

/// The ID this browser had before, from the vendor's own cookie.
fn kept(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split("; ")).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
}

fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}
