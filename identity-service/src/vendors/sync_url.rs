//! The two URLs of a sync: where the browser is sent, and where the vendor sends it back.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::sync::{Mode, SyncVendor};

/// Characters to escape: all but RFC 3986's unreserved ones.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL that the browser is sent to: `endpoint` (the record's, or the administrator's override) with the
/// partner ID and, where the vendor takes it, the callback's URL. No part of the host comes from a request.
pub fn vendor_url(
    vendor: &SyncVendor,
    endpoint: &str,
    partner_id: &str,
    collect_url: &str,
    state: &str,
) -> String {
    let mut url = endpoint.to_owned();
    let mut separator = if endpoint.contains('?') { '&' } else { '?' };
    let mut push = |name: &str, value: &str| {
        url.push(separator);
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, COMPONENT));
        separator = '&';
    };
    push(vendor.partner_param, partner_id);
    for (name, value) in vendor.fixed_params {
        push(name, value);
    }
    match vendor.mode {
        Mode::Redirect { param, uid_macro } => {
            let mut callback = callback_url(vendor, collect_url, state);
            if let Some(uid_macro) = uid_macro {
                callback.extend(["&", vendor.uid_param, "=", uid_macro]);
            }
            push(param, &callback);
        }
        Mode::Append { param } => {
            let mut callback = callback_url(vendor, collect_url, state);
            callback.extend(["&", vendor.uid_param, "="]);
            push(param, &callback);
        }
        Mode::Registered { .. } => {}
    }
    url
}

fn callback_url(vendor: &SyncVendor, collect_url: &str, state: &str) -> String {
    // The state is base64url: nothing in it needs escaping.
    format!("{collect_url}/v1/sync/{}/callback?state={state}", vendor.name)
}

/// The callback that has to be agreed with a vendor, below a collect host's URL; none where it travels with
/// each sync.
pub fn registered_callback(vendor: &SyncVendor, collect_url: &str) -> Option<String> {
    let Mode::Registered { uid_macro } = vendor.mode else { return None };
    Some(format!("{collect_url}/v1/sync/{}/callback?{}={uid_macro}", vendor.name, vendor.uid_param))
}
