//! Laws of texts that customers write and others fill: a template asks for nothing but what is known of a visitor, and
//! what it is filled with changes no part of it; a JSON path denotes one value; a sync's URL leads to its endpoint's host
//! and holds each parameter once, whatever the partner ID is.

use serde_json::{Value, json};
use url::Url;

use crate::{
    providers::{
        endpoint, json_path, render,
        template::{self, Template},
        variables::Variables,
    },
    vendors::{
        self,
        sync::PartnerIn,
        sync_url::{self, Errand},
    },
};

/// Values as hostile as a visitor's may be.
const HOSTILE: [&str; 6] =
    ["x&y=1/../?#{{user_id}}%\r\n'\"é", "..", ".", "%2e%2E", "/", "@evil.example:80\\"];

/// Checks the laws on an input: a byte for what the rest is, a template, a JSON path, or a partner ID.
pub fn hold(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    match kind % 3 {
        0 => check_template(text),
        1 => check_path(text),
        _ => check_partner(usize::from(kind / 3), text),
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let templates = [
        "/v1/resolve",
        "/x/{{anonymous_id}}?it=4&iv={{ sha256_email }}",
        "{\"a\":1,\"b\":\"{{properties.order_id}}\"}",
        "/a?b={{context.page.referrer}}&c={{traits.$plan-1}}&key_word=x",
        "{{api_key}}",
        "{{user_id}",
    ];
    let paths =
        ["$.id", "$['list'][0]['b c']", "$[\"list\"][-1]", "$", "$.a==0||$.b", "$[?@.a]", "$..id", "$[0:2]"];
    let partners = ["2611234567890", "11 a&b", "../x?y#z", "é%41"];
    let texts = [templates.to_vec(), paths.to_vec(), partners.to_vec()];
    let inputs = texts.iter().zip(0..).flat_map(|(texts, kind)| texts.iter().map(move |text| (kind, text)));
    inputs.map(|(kind, text)| [&[kind], text.as_bytes()].concat()).collect()
}

/// The variables of a template, as the simplest of readers finds them, with the texts before, between and behind them.
fn parts(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut texts, mut names) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let Some((name, behind)) = behind.split_once("}}") else { break };
        texts.push(before);
        names.push(name.trim());
        rest = behind;
    }
    texts.push(rest);
    (texts, names)
}

fn check_template(text: &str) {
    if template::check(text, &[]).is_ok() {
        let (texts, names) = parts(text);
        for name in names {
            let is_path = ["properties.", "traits.", "context."].iter().any(|part| name.starts_with(part))
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c));
            assert!(template::VARIABLES.contains(&name) || is_path, "it asks for {name}: {text}");
        }
        for own in texts {
            assert!(!own.contains("{{") && !own.contains("}}"), "a brace is left over in {own}: {text}");
        }
        assert_eq!(template::check(text, &["api_key"]), Ok(()), "more variables take nothing away: {text}");
    }
    if endpoint::path(text).is_ok() {
        check_filled(text);
    }
}

/// Checks that a path leads where it says, filled with whatever a visitor brings, or is not called at all.
fn check_filled(text: &str) {
    let template = Template::parse(&format!("https://host.invalid{text}"), &[]).unwrap();
    let names: Vec<&str> = template.variables().collect();
    let Some(plain) = render::url(&template, &filled(&names, "x")) else { return };
    let shape = |url: &Url| {
        let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        (url.path_segments().unwrap().count(), names.len(), url.query().is_some())
    };
    for value in HOSTILE {
        let Some(url) = render::url(&template, &filled(&names, value)) else { continue };
        assert_eq!(&url[..url::Position::BeforePath], "https://host.invalid", "{url}: {text}");
        assert_eq!(url.fragment(), None, "{url}: {text}");
        assert_eq!(shape(&url), shape(&plain), "{url} and {plain} have another shape: {text}");
    }
}

/// Variables of those names that all have one value.
fn filled(names: &[&str], value: &str) -> Variables {
    let mut event = json!({});
    for name in names.iter().filter(|name| name.contains('.')) {
        let mut place = &mut event;
        for member in name.split('.') {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[member];
        }
        *place = json!(value);
    }
    let mut variables = Variables::of_event(Some(event));
    for name in template::VARIABLES {
        variables.set(name, Some(value));
    }
    variables
}

fn check_path(text: &str) {
    let Ok(path) = json_path::singular(text) else { return };
    let document = document();
    let found = path.query(&document).at_most_one();
    let found = found.unwrap_or_else(|error| panic!("{error}: {text}"));
    let located = path.query_located(&document).at_most_one().unwrap();
    let place = located.map(|located| located.location().to_json_pointer());
    assert_eq!(place.and_then(|place| document.pointer(&place)), found, "{text}");
    assert!(text.starts_with('$') && text.len() <= 256, "{text}");
    assert!(!text.contains(['*', '?']) || text.contains(['\'', '"']), "several may be meant: {text}");
}

/// A document in which queries for several values find several.
fn document() -> Value {
    let inner = json!({"id": 1, "a": [1, 2, {"b": 3}], "b": {"id": 2}, "": [[0], [1]]});
    json!({"id": inner.clone(), "list": [inner.clone(), inner.clone()], "a": inner, "": {"": ["x", "y"]}})
}

fn check_partner(vendor: usize, partner_id: &str) {
    let Some(vendor) = vendors::syncs().nth(vendor % vendors::syncs().count()) else { return };
    let render = |partner_id| {
        let errand = Errand {
            endpoint: vendor.endpoint,
            partner_id,
            collect_url: "https://collect.example",
            state: "STATE",
            privacy: &[("gdpr", "1".into())],
        };
        Url::parse(&sync_url::vendor_url(vendor, &errand)).unwrap()
    };
    let (plain, url) = (render("partner"), render(partner_id));
    let until_path = url::Position::BeforePath;
    assert_eq!(url[..until_path], plain[..until_path], "{}: {partner_id}", vendor.name);
    let pairs = |url: &Url| url.query_pairs().into_owned().collect::<Vec<_>>();
    for ((name, own), (plain_name, other)) in pairs(&url).into_iter().zip(pairs(&plain)) {
        assert_eq!(name, plain_name, "{url}");
        let is_partner = matches!(vendor.partner, PartnerIn::Param(own) if own == name);
        let expected = if is_partner { partner_id } else { &other };
        assert_eq!(own, expected, "{name} of {url}");
    }
    assert_eq!(pairs(&url).len(), pairs(&plain).len(), "{url}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_hold_for_the_seeds() {
        for seed in seeds() {
            hold(&seed);
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_any_text(
            kind in 0u8..48, text in prop_oneof![any::<String>(), "(/[a-z]|[{}]{1,2}|user_id|[?&=.']|[$]|\\[[0-9]\\]){0,8}"],
        ) {
            hold(&[&[kind], text.as_bytes()].concat());
        }
    }
}
