//! The two URLs of a sync: where the browser is sent, and where the vendor sends it back.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::sync::{Mode, PartnerIn, SyncVendor};

/// Characters to escape: all but RFC 3986's unreserved ones.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The facts of one sync that its URL is made of.
#[derive(Debug)]
pub struct Errand<'a> {
    /// The record's endpoint, or the administrator's override.
    pub endpoint: &'a str,
    /// The customer's partner ID.
    pub partner_id: &'a str,
    /// The collect host's URL, under which the callback is.
    pub collect_url: &'a str,
    /// The sealed state.
    pub state: &'a str,
    /// Parameters that hand on the visitor's consent, under the vendor's own names.
    pub privacy: &'a [(&'static str, Cow<'a, str>)],
}

/// The URL that the browser is sent to: the errand's endpoint with the partner ID, the visitor's consent and, where the
/// vendor takes it, the callback's URL. No part of the host comes from a request.
pub fn vendor_url(vendor: &SyncVendor, errand: &Errand<'_>) -> String {
    let mut url = errand.endpoint.to_owned();
    if let PartnerIn::Path { rest } = vendor.partner {
        url = with_segment(errand.endpoint, errand.partner_id, rest);
    }
    let mut separator = if url.contains('?') { '&' } else { '?' };
    let mut push = |name: &str, value: &str| {
        url.push(separator);
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, COMPONENT));
        separator = '&';
    };
    if let PartnerIn::Param(name) = vendor.partner {
        push(name, errand.partner_id);
    }
    for (name, value) in vendor.fixed_params {
        push(name, value);
    }
    match vendor.mode {
        Mode::Redirect { param, uid_macro } => {
            let mut callback = callback_url(vendor, errand);
            if let Some(uid_macro) = uid_macro {
                callback.extend(["&", vendor.uid_param, "=", uid_macro]);
            }
            push(param, &callback);
        }
        Mode::Append { param, .. } => {
            let mut callback = callback_url(vendor, errand);
            callback.extend(["&", vendor.uid_param, "="]);
            push(param, &callback);
        }
        Mode::Registered { .. } => {}
    }
    for (name, value) in errand.privacy {
        push(name, value);
    }
    url
}

/// Puts `segment` and `rest` behind the path of `endpoint`, which may have a query.
fn with_segment(endpoint: &str, segment: &str, rest: &str) -> String {
    let (path, query) =
        endpoint.split_once('?').map_or((endpoint, None), |(path, query)| (path, Some(query)));
    let mut url = path.trim_end_matches('/').to_owned();
    url.push('/');
    url.extend(utf8_percent_encode(segment, COMPONENT));
    url.push_str(rest);
    if let Some(query) = query {
        url.extend(["?", query]);
    }
    url
}

fn callback_url(vendor: &SyncVendor, errand: &Errand<'_>) -> String {
    // The state is base64url: nothing in it needs escaping.
    format!("{}/v1/sync/{}/callback?state={}", errand.collect_url, vendor.name, errand.state)
}

/// The callback that has to be agreed with a vendor, below a collect host's URL; none where it travels with
/// each sync.
pub fn registered_callback(vendor: &SyncVendor, collect_url: &str) -> Option<String> {
    let Mode::Registered { uid_macro } = vendor.mode else { return None };
    Some(format!("{collect_url}/v1/sync/{}/callback?{}={uid_macro}", vendor.name, vendor.uid_param))
}
