//! Input about a source, and what has to be true of it.

use std::collections::HashSet;

use migrations::rows;
use serde::{Deserialize, Serialize};
use serve::origin::{Origin, app_origin, bare_origin, is_origin_inside};
use url::{Host, Url};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::{error::Result, fields::Fields, member::given};

/// Most domains of one source.
const MAX_DOMAINS: usize = 100;
/// Most collect hosts of one source.
const MAX_COLLECT_HOSTS: usize = 100;
/// Most placeholders of one source.
const MAX_PLACEHOLDERS: usize = 50;
/// Most characters of a placeholder.
const MAX_PLACEHOLDER_CHARS: usize = 64;
/// Text for a host that only the operator may allow.
pub const INSIDE: &str = "must not be on this machine or in a private network, which ALLOW_LOOPBACK allows";
/// Rules on what a browser is shown. `verified` shows a person's values only where the browser is tied to
/// that person by a proof; otherwise anyone could type in another's email and read their profile.
const BROWSER_IDENTITY: [&str; 2] = ["verified", "claimed"];

/// Input about a source. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceInput {
    /// Name for display, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    /// Origins that may call: `host[:port]`, https implied, `http://…` on loopback, and `capacitor://localhost` or
    /// `ionic://localhost` of an app. None: no browser may. To remove one is for owners and admins.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, max_items = 100, required = false)]
    domains: Option<Vec<String>>,
    /// Hosts of yours that point at the edge. To remove one is for owners and admins.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<CollectHost>, max_items = 100, required = false)]
    collect_hosts: Option<Vec<CollectHost>>,
    /// `verified`, which a new source has, shows a browser only what is vouched for, `claimed` believes it who it says
    /// it is.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = String, pattern = "^(verified|claimed)$", required = false)]
    browser_identity: Option<String>,
    /// Refuses calls without a signature, which owners and admins may.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    require_signature: Option<bool>,
    /// Refuses signed calls without `X-Datafly-Timestamp`, so that one that is replayed is good for five minutes alone.
    /// To require them is for owners and admins.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    require_timestamp: Option<bool>,
    /// Words of yours that stand for nobody in particular, such as `house-account`, beside those that are known, and so
    /// are no identifiers: whatever their case, at most 64 characters each.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<String>, max_items = 50, required = false)]
    placeholders: Option<Vec<String>>,
}

/// Settings of a source, whole.
#[derive(Debug, Clone)]
pub(super) struct SourceSettings {
    pub(super) name: String,
    pub(super) domains: Vec<String>,
    pub(super) collect_hosts: Vec<CollectHost>,
    pub(super) browser_identity: String,
    pub(super) require_signature: bool,
    pub(super) require_timestamp: bool,
    pub(super) placeholders: Vec<String>,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            domains: Vec::new(),
            collect_hosts: Vec::new(),
            browser_identity: "verified".to_owned(),
            require_signature: false,
            require_timestamp: false,
            placeholders: Vec::new(),
        }
    }
}

impl SourceSettings {
    /// Makes the row that keeps it.
    pub(super) fn row(&self, id: Uuid, org_id: Uuid) -> rows::Source {
        rows::Source {
            id,
            org_id,
            name: self.name.clone(),
            domains: self.domains.clone(),
            browser_identity: self.browser_identity.clone(),
            require_signature: self.require_signature,
            require_timestamp: self.require_timestamp,
            placeholders: self.placeholders.clone(),
        }
    }

    /// True where these, in place of `before`, shut out somebody who may call: a domain or a host is gone, or
    /// signatures or their timestamps are required now.
    pub(super) fn shut_out(&self, before: &Self) -> bool {
        let has_host = |host: &CollectHost| self.collect_hosts.iter().any(|own| own.url == host.url);
        !before.domains.iter().all(|domain| self.domains.contains(domain))
            || !before.collect_hosts.iter().all(has_host)
            || (self.require_signature && !before.require_signature)
            || (self.require_timestamp && !before.require_timestamp)
    }
}

/// A host that points at the edge.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectHost {
    /// Scheme and authority, `https://collect.example.com`.
    pub(super) url: String,
    /// Domain attribute of the `_dfid` cookie: the host, or a domain it is under; nothing that strangers
    /// share, as `co.uk` or `github.io` (publicsuffix.org). Absent: the host alone. Kept as browsers compare it: without
    /// a leading dot, in lower case, an international name in its ASCII form.
    pub(super) cookie_domain: Option<String>,
}

impl From<&rows::CollectHost> for CollectHost {
    fn from(row: &rows::CollectHost) -> Self {
        Self { url: row.url.clone(), cookie_domain: row.cookie_domain.clone() }
    }
}

impl CollectHost {
    /// Makes the row that keeps it.
    pub(super) fn row(&self, id: Uuid, org_id: Uuid, source_id: Uuid) -> rows::CollectHost {
        let (url, cookie_domain) = (self.url.clone(), self.cookie_domain.clone());
        rows::CollectHost { id, org_id, source_id, url, cookie_domain }
    }
}

impl SourceInput {
    /// Gives the input with everything in the form in which it is kept, or refuses with what is wrong with
    /// it. Hosts on this machine or in a private network are wrong unless they are allowed.
    pub(super) fn checked(mut self, allow_loopback: bool) -> Result<Self> {
        let mut wrong = Fields::default();
        wrong.text("name", &self.name, 1, 200);
        if let Some(identity) = &self.browser_identity {
            wrong.one_of("browser_identity", identity, &BROWSER_IDENTITY);
        }
        let domains = self.domains.as_ref().map_or(0, Vec::len);
        wrong.check(domains <= MAX_DOMAINS, "domains", format!("must be at most {MAX_DOMAINS}"));
        wrong.check(
            self.collect_hosts.as_ref().map_or(0, Vec::len) <= MAX_COLLECT_HOSTS,
            "collect_hosts",
            format!("must be at most {MAX_COLLECT_HOSTS}"),
        );
        self.check_domains(&mut wrong, allow_loopback);
        self.check_collect_hosts(&mut wrong, allow_loopback);
        self.check_placeholders(&mut wrong);
        wrong.done()?;
        Ok(self)
    }

    /// Brings the domains into the form in which they are kept, and notes what is wrong with them.
    fn check_domains(&mut self, wrong: &mut Fields, allow_loopback: bool) {
        let mut known = HashSet::new();
        for (index, domain) in self.domains.iter_mut().flatten().enumerate() {
            let field = format!("domains[{index}]");
            match domain_of(domain) {
                None => wrong.add(
                    field,
                    "must be host[:port] with a dot, http://host[:port] on loopback, or an app's capacitor://host or \
                     ionic://host; no path, no wildcard",
                ),
                Some(plain) => {
                    let is_inside = Origin::from_domain(&plain).is_some_and(|origin| origin.is_inside());
                    wrong.check(allow_loopback || !is_inside, field.clone(), INSIDE);
                    wrong.check(known.insert(plain.clone()), field, "is there twice");
                    *domain = plain;
                }
            }
        }
    }

    /// Brings the collect hosts into the form in which they are kept, and notes what is wrong with them.
    fn check_collect_hosts(&mut self, wrong: &mut Fields, allow_loopback: bool) {
        let mut known = HashSet::new();
        for (index, host) in self.collect_hosts.iter_mut().flatten().enumerate() {
            let field = format!("collect_hosts[{index}]");
            let Some(url) = bare_origin(&host.url) else {
                wrong.add(field + ".url", "must be https://host[:port], or http on loopback; no path");
                continue;
            };
            wrong.check(allow_loopback || !is_origin_inside(&url), format!("{field}.url"), INSIDE);
            wrong.check(known.insert(url.clone()), format!("{field}.url"), "is there twice");
            if let Some(domain) = &mut host.cookie_domain {
                match cookie_domain_of(domain, &url) {
                    Ok(plain) => *domain = plain,
                    Err(why) => wrong.add(field + ".cookie_domain", why),
                }
            }
            host.url = url;
        }
    }

    /// Brings the placeholders into the form in which identifiers are compared with them, and notes what is wrong.
    fn check_placeholders(&mut self, wrong: &mut Fields) {
        let mut known = HashSet::new();
        for (index, word) in self.placeholders.iter_mut().flatten().enumerate() {
            *word = word.trim().to_lowercase();
            let field = format!("placeholders[{index}]");
            wrong.text(&field, word, 1, MAX_PLACEHOLDER_CHARS);
            wrong.check(known.insert(word.clone()), field, "is there twice");
        }
        wrong.check(
            self.placeholders.as_ref().map_or(0, Vec::len) <= MAX_PLACEHOLDERS,
            "placeholders",
            format!("must be at most {MAX_PLACEHOLDERS}"),
        );
    }

    /// Settings that there are to be, in place of those that there are.
    pub(super) fn over(self, before: SourceSettings) -> SourceSettings {
        SourceSettings {
            name: self.name,
            domains: self.domains.unwrap_or(before.domains),
            collect_hosts: self.collect_hosts.unwrap_or(before.collect_hosts),
            browser_identity: self.browser_identity.unwrap_or(before.browser_identity),
            require_signature: self.require_signature.unwrap_or(before.require_signature),
            require_timestamp: self.require_timestamp.unwrap_or(before.require_timestamp),
            placeholders: self.placeholders.unwrap_or(before.placeholders),
        }
    }
}

/// Gives a domain as it is kept: without https, which is implied, and without the scheme's own port.
fn domain_of(text: &str) -> Option<String> {
    let origin = match text.split_once("://") {
        None => bare_origin(&format!("https://{text}")),
        Some(_) => match app_origin(text) {
            None => bare_origin(text),
            app => return app,
        },
    }?;
    // `null` is what a browser calls an origin that is nobody's.
    let host = origin.split("://").nth(1)?;
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    // The dot at the end of a full name does not count.
    let has_dot = name.trim_end_matches('.').contains('.');
    if !has_dot && name != "localhost" && !host.starts_with('[') {
        return None;
    }
    Some(origin.strip_prefix("https://").map_or(origin.clone(), str::to_owned))
}

/// Gives a cookie's domain as browsers compare it (RFC 6265, 5.2.3), where one takes it from the host of `url`; else
/// says what is wrong with it.
fn cookie_domain_of(text: &str, url: &str) -> Result<String, &'static str> {
    let name = text.strip_prefix('.').unwrap_or(text);
    let name = match Host::parse(name) {
        Ok(Host::Domain(name)) if !text.contains('%') && !name.starts_with('.') => name,
        Ok(Host::Domain(_)) | Err(_) => return Err("must be a domain's name, such as shop.example"),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => {
            return Err("must be a name: cookies of an address are that host's alone, without a domain");
        }
    };
    if psl::domain_str(&name).is_none() {
        return Err("is shared by strangers, as co.uk is: no browser takes a cookie for it");
    }
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    if host != name && !host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.')) {
        return Err("must be the host of url, or a domain that it is under");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_kept_as_browsers_send_them() {
        for (text, kept) in [
            ("Shop.example", Some("shop.example")),
            ("shop.example:443", Some("shop.example")),
            ("https://shop.example:8443", Some("shop.example:8443")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://shop.example", None),
            ("*", None),
            ("*.example", None),
            ("null", None),
            ("https://null", None),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("shop.example/", None),
            ("shop.example/path", None),
            ("//shop.example", None),
            ("shop.example.", Some("shop.example.")),
            ("com.", None),
            (".", None),
            ("notlocalhost", None),
            ("Capacitor://LOCALHOST", Some("capacitor://localhost")),
            ("ionic://localhost", Some("ionic://localhost")),
            ("capacitor://localhost/x", None),
            ("", None),
        ] {
            assert_eq!(domain_of(text).as_deref(), kept, "{text}");
        }
    }

    #[test]
    fn a_cookie_domain_is_one_that_the_host_may_set() {
        let url = "https://collect.shop.example:8443";
        for (text, kept) in [
            ("shop.example", "shop.example"),
            ("collect.shop.example", "collect.shop.example"),
            (".shop.example", "shop.example"),
            ("Shop.EXAMPLE", "shop.example"),
        ] {
            assert_eq!(cookie_domain_of(text, url).as_deref(), Ok(kept), "{text}");
        }
        for text in ["Bücher.example", ".bücher.example", "xn--bcher-kva.example"] {
            let kept = cookie_domain_of(text, "https://collect.xn--bcher-kva.example");
            assert_eq!(kept.as_deref(), Ok("xn--bcher-kva.example"), "{text}");
        }
        for (text, part) in [
            ("example", "shared"),
            ("hop.example", "under"),
            ("other.example", "under"),
            ("a.collect.shop.example", "under"),
            ("", "name"),
            (".", "name"),
            ("..shop.example", "name"),
            ("sh%6fp.example", "name"),
            ("https://shop.example", "name"),
            ("127.0.0.1", "address"),
        ] {
            assert!(cookie_domain_of(text, url).unwrap_err().contains(part), "{text}");
        }
        let address = cookie_domain_of("127.0.0.1", "http://127.0.0.1:8080").unwrap_err();
        assert!(address.contains("address"), "an address is host-only");
        for shared in ["co.uk", "uk", "github.io"] {
            let url = format!("https://collect.shop.{shared}");
            assert!(cookie_domain_of(shared, &url).unwrap_err().contains("shared"), "{shared}");
            assert!(cookie_domain_of(&format!("shop.{shared}"), &url).is_ok(), "{shared}");
            assert!(
                cookie_domain_of(&format!("{shared}."), &format!("{url}.")).is_err(),
                "{shared}, as a full name"
            );
        }
    }
}
