//! Address of a provider, and the method that it is called with.

use egress::target::{self, Reach};
use url::Url;

use super::{headers, template};

/// Longest URL, or part of one, in bytes.
const MAX: usize = 2048;

/// Checks the method, which is `GET` or `POST`.
pub fn method(text: &str) -> Result<(), &'static str> {
    if ["GET", "POST"].contains(&text) { Ok(()) } else { Err("must be GET or POST") }
}

/// Scheme and host, and maybe a path that others are below.
pub fn base(text: &str, reach: &Reach<'_>) -> Result<(), &'static str> {
    let url = target::parse(bounded(text)?, reach)?;
    if url.query().is_some() || url.fragment().is_some() || text.contains('{') {
        return Err("must be scheme, host and path alone");
    }
    Ok(())
}

/// A path below the base, maybe with a query, in which visitors' variables may stand.
pub fn path(text: &str) -> Result<(), String> {
    let clean = bounded(text)?.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let inside = text.starts_with('/') && !text.starts_with("//") && !text.contains(['#']);
    let url = Url::parse(&format!("https://host.invalid{text}")).ok().filter(|_| clean && inside);
    let url = url.ok_or("must be a path that begins with /")?;
    without_dots(text)?;
    without_credentials(&url)?;
    template::check(text, &[])
}

/// A whole URL, with variables in its path and query.
pub fn url(text: &str, reach: &Reach<'_>) -> Result<(), String> {
    let url = target::parse(bounded(text)?, reach)?;
    if url.fragment().is_some() {
        return Err("must have no fragment".to_owned());
    }
    without_dots(text)?;
    without_credentials(&url)?;
    template::check(text, &[])
}

fn bounded(text: &str) -> Result<&str, &'static str> {
    if text.len() <= MAX { Ok(text) } else { Err("must have at most 2048 characters") }
}

/// Refuses segments that lead elsewhere than they say, in any spelling.
fn without_dots(text: &str) -> Result<(), &'static str> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let is_dots = |segment: &str| [".", ".."].contains(&&*segment.to_ascii_lowercase().replace("%2e", "."));
    if path.split('/').any(is_dots) { Err("must have no segments . or ..") } else { Ok(()) }
}

/// Refuses credentials in the query: URLs end in logs, of others as well.
fn without_credentials(url: &Url) -> Result<(), &'static str> {
    if url.query_pairs().any(|(name, value)| headers::is_credential(&name) || value.starts_with("secret:")) {
        return Err("must not hold credentials: name a secret for the authentication");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;

    use super::*;

    #[test]
    fn urls_hold_no_credentials_and_lead_where_they_say() {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        for good in [
            "/",
            "/v1/resolve",
            "/v1.0/..a/a..?x=../y",
            "/x/{{anonymous_id}}?it=4&iv={{sha256_email}}",
            "/a?b=c&key_word=x",
        ] {
            assert_eq!(path(good), Ok(()), "{good}");
            assert_eq!(url(&format!("https://cdp.example.com{good}"), &reach), Ok(()), "{good}");
        }
        for bad in [
            "/?api_key=x",
            "/?a=b&TOKEN=x",
            "/?%74oken=x",
            "/?access_token",
            "/?a=secret:b",
            "/#a",
            "/?x={{email}}",
            "/{{api_key}}",
            "/a\\b",
            "/a b",
            "/ä",
            "/\r\nx",
            "/a/../b",
            "/./a",
            "/a/%2E%2e",
            "/a/.%2e/b?c=d",
        ] {
            assert!(path(bad).is_err(), "{bad}");
            assert!(url(&format!("https://cdp.example.com{bad}"), &reach).is_err(), "{bad}");
        }
        for bad in ["", "x", "//evil.example/x", "https://evil.example", "?a=b", "@evil.example/"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        assert!(
            base("https://prod.uidapi.com", &reach).is_ok()
                && base("https://x.example/uid2/", &reach).is_ok()
        );
        for bad in [
            "https://x.example/?a=b",
            "https://x.example/#a",
            "https://x.example/{{user_id}}",
            "http://x.example",
        ] {
            assert!(base(bad, &reach).is_err(), "{bad}");
        }
        for bad in
            ["https://{{user_id}}.example.com", "https://example.com:{{user_id}}/", "https://a@example.com"]
        {
            assert!(url(bad, &reach).is_err(), "{bad}");
        }
        assert!(url(&format!("https://x.example/{}", "a".repeat(MAX)), &reach).is_err());
        assert!(
            method("GET").is_ok() && ["get", "PUT", "", "POST "].iter().all(|text| method(text).is_err())
        );
    }
}
