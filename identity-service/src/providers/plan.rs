//! The plan of a provider: its settings, read into what a call is made of.

use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::Value;
use serde_json_path::JsonPath;
use sha2::{Digest, Sha256};
use url::Url;

use super::{render, template::Template, variables::Variables};
use crate::vendors::{
    ConsentNeed,
    enrichment::{OtherShape, Protocol},
};

/// Bytes of an answer that are read at most, unpacked: 256 KiB.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Time for the whole exchange with a built-in vendor, and with a provider that sets none.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which the lack of an ID is believed, at most.
pub const LONGEST_NONE: Duration = Duration::from_hours(24);

/// Variables that say nothing of who the visitor is.
pub const OF_THE_REQUEST: [&str; 3] = ["page_url", "user_agent", "client_ip"];

/// All that a call to one provider is made of, but for the visitor and the credentials.
#[derive(Debug)]
pub struct Plan {
    /// The word for the provider in metrics: the vendor's name, or `custom`.
    pub label: &'static str,
    /// Field of the identity that holds the ID.
    pub field: String,
    /// The consent that is needed.
    pub need: ConsentNeed,
    /// The HTTP method.
    pub method: Method,
    /// The URL.
    pub url: Template,
    /// Headers, in which credentials may stand.
    pub headers: Vec<(HeaderName, Template)>,
    /// User and password of HTTP basic authentication, in which credentials may stand.
    pub basic: Option<[Template; 2]>,
    /// The template of the request.
    pub request: Value,
    /// Variables that the request may name beside those of all templates.
    pub variables: &'static [&'static str],
    /// Variables of which one at least has to have a value.
    pub inputs: Vec<String>,
    /// The place of the ID in an answer.
    pub json_path: JsonPath,
    /// Reader of the ID in an answer of another shape.
    pub other_shape: Option<OtherShape>,
    /// The place of the person's attributes in an answer.
    pub attributes: Option<JsonPath>,
    /// HTTP statuses that say that nobody is known, beside 204.
    pub no_match: &'static [u16],
    /// The protocol.
    pub protocol: Protocol,
    /// True where the ID is the customer's own number of a person.
    pub is_own_number: bool,
    /// Time after which the provider is asked again.
    pub ttl: Duration,
    /// Time for which its answer may be used where it can't be asked again.
    pub kept: Duration,
    /// Time for the whole exchange.
    pub timeout: Duration,
    /// The names of the credentials that a call needs.
    pub credentials: Vec<&'static str>,
}

/// A request for one visitor, without its credentials.
#[derive(Debug)]
pub struct Prepared {
    /// The URL, without the parameters of a GET's request.
    pub url: Url,
    /// The request: the body of a POST, the parameters of a GET.
    pub request: Value,
    /// Digest of the provider's settings and of the request: who would be asked the same has the same.
    pub inputs: [u8; 32],
}

impl Plan {
    /// The names of the variables that the provider is asked with.
    pub fn names(&self) -> Vec<String> {
        let named = render::variables_of(&self.request, self.variables).into_iter();
        let named = named.chain(self.url.variables().map(str::to_owned));
        named.chain(self.header_variables().map(str::to_owned)).collect()
    }

    /// The variables of headers, but for those that say nothing of who the visitor is.
    fn header_variables(&self) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().flat_map(|(_, template)| template.variables());
        named.filter(|name| !OF_THE_REQUEST.contains(name))
    }

    /// Makes the request for a visitor. None where nothing is known of them that the provider takes.
    pub fn prepare(&self, settings: &Value, variables: &Variables) -> Option<Prepared> {
        if !self.inputs.is_empty() && !self.inputs.iter().any(|name| variables.get(name).is_some()) {
            return None;
        }
        let url = render::url(&self.url, variables)?;
        let request = match self.protocol {
            Protocol::Json => render::json(&self.request, variables, self.variables)?,
            Protocol::Uid2 => super::uid2::request(variables)?,
        };
        // Two visitors who differ in a header alone are not the same question.
        let named = self.header_variables().map(|name| variables.get(name).unwrap_or_default().into_owned());
        Some(Prepared::of(settings, url, request, named))
    }
}

impl Prepared {
    /// A request by a provider's `settings`, and what else tells it from another.
    pub fn of(settings: &Value, url: Url, request: Value, more: impl Iterator<Item = String>) -> Self {
        let asked = [settings.to_string(), url.to_string(), request.to_string()];
        Self { url, request, inputs: digest(asked.into_iter().chain(more)) }
    }
}

/// The digest of texts, which no other texts have.
pub fn digest(texts: impl Iterator<Item = String>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}
