//! A customer's own provider, as the product specification writes it.

use egress::target::Reach;
use http::{HeaderName, header};
use serde_json::Value;

use crate::{
    providers::{
        credentials::SECRET,
        duration, endpoint, fields, headers, json_path,
        plan::{OF_THE_REQUEST, Plan, TIMEOUT},
        render, request_template,
        template::Template,
        validation::{self, Fields, Problems},
    },
    vendors::{self, ConsentNeed, enrichment::Protocol},
};

/// Checks a provider that is to have `name`. Left out may be the name, `method` (POST), `authentication`
/// (none), `request_template` (nothing is sent) and `timeout` (2s).
pub fn check(name: &str, settings: &Value, reach: &Reach<'_>, problems: &mut Problems) {
    problems.take("name".to_owned(), is_name(name));
    let Some(mut fields) = Fields::of("", settings, problems) else { return };
    let same = |text: &str| if text == name { Ok(()) } else { Err("must be the name in the path") };
    fields.optional("name", problems, same);
    fields.required("endpoint", problems, |text| endpoint::url(text, reach));
    fields.optional("method", problems, endpoint::method);
    if let Some(authentication) = fields.object("authentication", problems) {
        check_authentication(authentication, problems);
    }
    let is_get = settings.get("method").and_then(Value::as_str) == Some("GET");
    if let Some(template) = fields.value("request_template") {
        problems.take(fields.path("request_template"), request_template::check(template, is_get, &[]));
    }
    if fields.require("response_mapping", problems)
        && let Some(mut mapping) = fields.object("response_mapping", problems)
    {
        mapping.required("redis_field", problems, fields::free);
        mapping.required("json_path", problems, json_path::singular);
        mapping.finish(problems);
    }
    fields.required("ttl", problems, duration::ttl);
    fields.optional("timeout", problems, duration::timeout);
    fields.finish(problems);
}

/// Checks the name, which must be no built-in vendor's: both are asked for in the same place.
fn is_name(name: &str) -> Result<(), String> {
    validation::name(name, 64, "_-")?;
    if vendors::find_enrichment(name).is_some() {
        Err("must not be a built-in vendor's".to_owned())
    } else {
        Ok(())
    }
}

/// `{type: bearer | header | basic | none}` with a reference to a secret; `header` names the header,
/// `username` is basic's.
fn check_authentication(mut fields: Fields<'_>, problems: &mut Problems) {
    let known = |text| match text {
        "bearer" | "header" | "basic" | "none" => Ok(text),
        _ => Err("must be bearer, header, basic or none"),
    };
    let Some(kind) = fields.required("type", problems, known) else { return };
    if kind != "none" {
        fields.required("token_secret_ref", problems, secret_reference);
    }
    if kind == "header" {
        fields.required("header", problems, headers::name);
    }
    if kind == "basic" {
        fields.required("username", problems, |text| {
            let fits = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            let fits = fits && (1..=256).contains(&text.len()) && !text.contains(':');
            if fits { Ok(()) } else { Err("must be 1 to 256 printable ASCII characters without a colon") }
        });
    }
    fields.finish(problems);
}

fn secret_reference(text: &str) -> Result<(), &'static str> {
    let name = text.strip_prefix("secret:").filter(|name| validation::name(name, 64, "_-").is_ok());
    name.map(drop).ok_or("must name a secret, such as secret:cdp_api_token")
}

/// Reads a provider's settings into a plan. None where they are not valid any more.
pub fn plan(name: &str, settings: &Value, reach: &Reach<'_>) -> Option<Plan> {
    let mut problems = Problems::default();
    check(name, settings, reach, &mut problems);
    if !problems.into_list().is_empty() {
        return None;
    }
    let text = |name: &str| settings.get(name).and_then(Value::as_str);
    let (mut headers, mut basic) = (Vec::new(), None);
    let secret = |text: &str| Template::parse(text, &[SECRET]).ok();
    let authentication = settings.get("authentication").filter(|authentication| authentication.is_object());
    let of = |name: &str| authentication?.get(name)?.as_str();
    let kind = of("type").unwrap_or("none");
    match kind {
        "bearer" => headers.push((header::AUTHORIZATION, secret("Bearer {{secret}}")?)),
        "header" => headers.push((HeaderName::try_from(of("header")?).ok()?, secret("{{secret}}")?)),
        "basic" => basic = Some([Template::plain(of("username")?), secret("{{secret}}")?]),
        _ => {}
    }
    let request = settings.get("request_template").filter(|template| template.is_object()).cloned();
    let request = request.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let url = Template::parse(text("endpoint")?, &[]).ok()?;
    let named = render::variables_of(&request, &[]).into_iter().chain(url.variables().map(str::to_owned));
    let mapping = settings.get("response_mapping")?;
    Some(Plan {
        label: "custom",
        field: mapping.get("redis_field")?.as_str()?.to_owned(),
        need: ConsentNeed::MARKETING,
        method: text("method").unwrap_or("POST").parse().ok()?,
        inputs: named.filter(|name| !OF_THE_REQUEST.contains(&name.as_str())).collect(),
        url,
        headers,
        basic,
        request,
        variables: &[],
        json_path: json_path::singular(mapping.get("json_path")?.as_str()?).ok()?,
        other_shape: None,
        attributes: None,
        no_match: &[],
        protocol: Protocol::Json,
        is_own_number: true,
        ttl: duration::ttl(text("ttl")?).ok()?,
        kept: duration::ttl(text("ttl")?).ok()?,
        timeout: text("timeout").map_or(Ok(TIMEOUT), duration::timeout).ok()?,
        credentials: if kind == "none" { Vec::new() } else { vec![SECRET] },
    })
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;
    use serde_json::json;

    use super::*;

    /// The specification's own example.
    fn example() -> Value {
        json!({
            "name": "internal_cdp",
            "endpoint": "https://cdp.internal.example.com/v1/resolve",
            "method": "POST",
            "authentication": {"type": "bearer", "token_secret_ref": "secret:cdp_api_token"},
            "request_template": {"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}"},
            "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"},
            "ttl": "30d",
            "timeout": "2s"
        })
    }

    fn problems(name: &str, settings: &Value) -> Vec<String> {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let mut problems = Problems::default();
        check(name, settings, &reach, &mut problems);
        problems.into_list().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn the_specification_s_example_is_fine_and_so_is_the_least() {
        assert_eq!(problems("internal_cdp", &example()), [""; 0]);
        let least = json!({
            "endpoint": "https://cdp.example.com",
            "response_mapping": {"redis_field": "x", "json_path": "$.x"},
            "ttl": "1s",
        });
        assert_eq!(problems("a", &least), [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let settings = json!({
            "name": "other",
            "endpoint": "http://user:pw@10.0.0.1/?token=x",
            "method": "DELETE",
            "authentication": {"type": "bearer", "token_secret_ref": "in clear", "header": "x", "token": "t"},
            "request_template": {"a": "{{email}}"},
            "response_mapping": {"redis_field": "ramp_id", "json_path": "$..id", "x": 1},
            "ttl": "0",
            "timeout": "1m",
            "org_id": "x",
        });
        assert_eq!(
            problems("uid2", &settings),
            [
                "name",
                "name",
                "endpoint",
                "method",
                "authentication.token_secret_ref",
                "authentication.header",
                "authentication.token",
                "request_template",
                "response_mapping.redis_field",
                "response_mapping.json_path",
                "response_mapping.x",
                "ttl",
                "timeout",
                "org_id",
            ]
        );
        assert_eq!(problems("a", &json!({})), ["endpoint", "response_mapping", "ttl"]);
        assert_eq!(problems("a", &json!("x")), [""]);
    }

    /// Replaces one field of the example at a time, which makes one problem.
    #[test]
    fn one_wrong_field_is_one_problem() {
        for (pointer, value, problem) in [
            ("/endpoint", json!("https://169.254.169.254/latest"), "endpoint"),
            ("/endpoint", json!(1), "endpoint"),
            ("/authentication", json!("bearer"), "authentication"),
            ("/authentication", json!({}), "authentication.type"),
            ("/authentication", json!({"type": "oauth2"}), "authentication.type"),
            ("/authentication", json!({"type": "none", "username": "x"}), "authentication.username"),
            ("/authentication", json!({"type": "bearer"}), "authentication.token_secret_ref"),
            ("/authentication/token_secret_ref", json!("secret:"), "authentication.token_secret_ref"),
            ("/authentication/token_secret_ref", json!("secret:a b"), "authentication.token_secret_ref"),
            (
                "/authentication",
                json!({"type": "header", "token_secret_ref": "secret:a", "header": "Host"}),
                "authentication.header",
            ),
            (
                "/authentication",
                json!({"type": "header", "token_secret_ref": "secret:a", "header": "a\r\nb"}),
                "authentication.header",
            ),
            (
                "/authentication",
                json!({"type": "basic", "token_secret_ref": "secret:a", "username": "a:b"}),
                "authentication.username",
            ),
            ("/request_template", json!(["{{anonymous_id}}"]), "request_template"),
            ("/request_template", json!({"a": {"b": ["{{nobody}}"]}}), "request_template"),
            ("/request_template", json!({"": "a"}), "request_template"),
            ("/request_template", json!({"a": "x".repeat(1025)}), "request_template"),
            ("/request_template", json!({"a": vec![0; 100]}), "request_template"),
            ("/request_template", json!([[[[[[[[[[0]]]]]]]]]]), "request_template"),
            ("/request_template", json!({"a": [[[[[[[[0]]]]]]]]}), "request_template"),
            ("/response_mapping", json!(null), "response_mapping"),
            ("/response_mapping/redis_field", json!("_v"), "response_mapping.redis_field"),
            ("/response_mapping/json_path", json!("id"), "response_mapping.json_path"),
            ("/ttl", json!(30), "ttl"),
            ("/timeout", json!("11s"), "timeout"),
            ("/name", json!("another"), "name"),
        ] {
            let mut settings = example();
            *settings.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(problems("internal_cdp", &settings), [problem], "{pointer}: {value}");
        }
        for authentication in [
            json!({"type": "none"}),
            json!({"type": "header", "token_secret_ref": "secret:a", "header": "X-Api-Key"}),
            json!({"type": "basic", "token_secret_ref": "secret:a", "username": "me"}),
        ] {
            let mut settings = example();
            settings["authentication"] = authentication;
            assert_eq!(problems("internal_cdp", &settings), [""; 0]);
        }
    }

    #[test]
    fn a_get_sends_parameters() {
        let mut settings = example();
        settings["method"] = json!("GET");
        assert_eq!(problems("internal_cdp", &settings), [""; 0]);
        settings["request_template"]["deep"] = json!({"a": 1});
        assert_eq!(problems("internal_cdp", &settings), ["request_template"]);
    }
}
