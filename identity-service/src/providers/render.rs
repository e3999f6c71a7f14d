//! Requests of templates: a value stands where its variable does, and can neither add to the request nor leave its
//! place.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::{template::Template, variables::Variables};

/// Characters of a value that are written as they are into a URL (RFC 3986, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URL of a template; none where one of its variables has no value, or a value would lead to another path, as `..`
/// does.
pub fn url(template: &Template, variables: &Variables) -> Option<Url> {
    let encode = |value: &str, text: &mut String| text.extend(utf8_percent_encode(value, UNRESERVED));
    let text = template.render(|name| variables.get(name), encode)?;
    let url = Url::parse(&text).ok()?;
    let written = text.split(['?', '#']).next()?.split_once("://")?.1;
    let segments = url.path_segments()?.count();
    (written.split('/').skip(1).count().max(1) == segments).then_some(url)
}

/// The JSON of a template: texts with their variables' values. What names a variable without a value is left out.
pub fn json(template: &Value, variables: &Variables, more: &[&str]) -> Option<Value> {
    match template {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(template.clone()),
        Value::String(text) => {
            let push = |value: &str, text: &mut String| text.push_str(value);
            let rendered = Template::parse(text, more).ok()?.render(|name| variables.get(name), push)?;
            Some(Value::String(rendered.to_string()))
        }
        Value::Array(values) => {
            Some(values.iter().filter_map(|value| json(value, variables, more)).collect())
        }
        Value::Object(fields) => {
            let fields =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), json(value, variables, more)?)));
            Some(Value::Object(fields.collect()))
        }
    }
}

/// Adds the members of a rendered template to a URL as parameters.
pub fn add_parameters(url: &mut Url, members: &Map<String, Value>) {
    if members.is_empty() {
        return;
    }
    let mut pairs = url.query_pairs_mut();
    for (name, value) in members {
        match value {
            Value::Null | Value::Array(_) | Value::Object(_) => {}
            Value::String(text) => _ = pairs.append_pair(name, text),
            Value::Bool(_) | Value::Number(_) => _ = pairs.append_pair(name, &value.to_string()),
        }
    }
}

/// The names of the variables of a JSON template.
pub fn variables_of(template: &Value, more: &[&str]) -> Vec<String> {
    match template {
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
        Value::String(text) => Template::parse(text, more)
            .map(|template| template.variables().map(str::to_owned).collect())
            .unwrap_or_default(),
        Value::Array(values) => values.iter().flat_map(|value| variables_of(value, more)).collect(),
        Value::Object(fields) => fields.values().flat_map(|value| variables_of(value, more)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn variables(user: &str) -> Variables {
        let mut variables = Variables::of_event(Some(json!({"properties": {"x": user}})));
        variables.set("user_id", Some(user));
        variables
    }

    #[test]
    fn what_has_no_value_is_left_out() {
        let template =
            json!({"a": "{{user_id}}", "b": "x{{anonymous_id}}", "c": ["{{sha256_email}}", 1], "d": null});
        assert_eq!(json(&template, &variables("u"), &[]), Some(json!({"a": "u", "c": [1], "d": null})));
        assert_eq!(variables_of(&template, &[]), ["user_id", "anonymous_id", "sha256_email"]);
        let path = Template::parse("https://a.example/{{anonymous_id}}", &[]).unwrap();
        assert_eq!(url(&path, &variables("u")), None);
    }

    #[test]
    fn a_value_leaves_neither_its_segment_nor_the_host() {
        let template = Template::parse("https://a.example/v1/{{user_id}}/x?q={{user_id}}", &[]).unwrap();
        let rendered = |value: &str| url(&template, &variables(value)).map(String::from);
        assert_eq!(
            rendered("a/../b?c#d&e=f%").as_deref(),
            Some("https://a.example/v1/a%2F..%2Fb%3Fc%23d%26e%3Df%25/x?q=a%2F..%2Fb%3Fc%23d%26e%3Df%25")
        );
        for dots in [".", ".."] {
            assert_eq!(rendered(dots), None);
        }
        let bare = Template::parse("https://a.example", &[]).unwrap();
        assert_eq!(url(&bare, &variables("u")).unwrap().as_str(), "https://a.example/");
    }

    proptest! {
        /// Whatever a value is, the request keeps the template's shape and the value is read back as it was.
        #[test]
        fn the_shape_is_the_template_s(value in "[^\\s].{0,40}", other in "\\PC{1,20}") {
            let template = json!({"a": "{{user_id}}", "b": {"c": ["-{{properties.x}}-"]}, "d": 1});
            let rendered = json(&template, &variables(&value), &[]).unwrap();
            prop_assert_eq!(&rendered, &json!({"a": value, "b": {"c": [format!("-{value}-")]}, "d": 1}));
            let sent: Value = serde_json::from_str(&rendered.to_string()).unwrap();
            prop_assert_eq!(sent, rendered);

            let template = Template::parse("https://a.example/p/{{user_id}}?q={{user_id}}", &[]).unwrap();
            if let Some(mut url) = url(&template, &variables(&value)) {
                prop_assert_eq!(url.host_str(), Some("a.example"));
                prop_assert_eq!(url.path_segments().unwrap().count(), 2);
                prop_assert_eq!(url.query_pairs().count(), 1);
                prop_assert_eq!(url.query_pairs().next().unwrap().1.into_owned(), value.clone());
                let members = json!({"x": other, "y": 1, "z": null});
                add_parameters(&mut url, members.as_object().unwrap());
                prop_assert_eq!(url.query_pairs().count(), 3);
                prop_assert_eq!(url.query_pairs().nth(1).unwrap().1.into_owned(), other);
            }
        }
    }
}
