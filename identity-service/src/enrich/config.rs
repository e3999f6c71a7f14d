//! Settings of one source that differ from a vendor's record: `{base_url, method, path, headers, request_template,
//! json_path, ttl}`.

use egress::target::Reach;
use http::HeaderName;
use serde_json::{Value, json};

use crate::{
    providers::{
        allowlist, duration, endpoint, headers, json_path,
        plan::{Plan, TIMEOUT},
        request_template,
        template::Template,
        validation::{Fields, Problems},
    },
    vendors::{
        EnrichmentVendor,
        enrichment::{Protocol, VARIABLES},
    },
};

/// Checks the settings of `vendor` on one source. Any field may be left out: then the record's counts.
pub fn check(vendor: &EnrichmentVendor, config: &Value, reach: &Reach<'_>, problems: &mut Problems) {
    let Some(mut fields) = Fields::of("", config, problems) else { return };
    let credentials: Vec<&str> = vendor.credentials.iter().map(|credential| credential.name).collect();
    fields.optional("base_url", problems, |text| endpoint::base(text, reach));
    fields.optional("path", problems, endpoint::path);
    headers::check(&mut fields, &credentials, problems);
    fields.optional("ttl", problems, duration::ttl);
    if vendor.attributes.is_some() {
        allowlist::check(&mut fields, problems);
    }
    match vendor.protocol {
        Protocol::Json => check_request(vendor, config, &mut fields, problems),
        Protocol::Uid2 => {
            let request = serde_json::from_str(vendor.request).unwrap_or_default();
            let own = [
                ("method", json!(vendor.method)),
                ("request_template", request),
                ("json_path", json!(vendor.json_path)),
            ];
            for (name, own) in own {
                if fields.value(name).is_some_and(|given| *given != own) {
                    problems.add(fields.path(name), "must be left out: the protocol says it");
                }
            }
        }
    }
    fields.finish(problems);
}

/// The request and the place of the ID in its answer, where no protocol says them.
fn check_request(
    vendor: &EnrichmentVendor,
    config: &Value,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) {
    fields.optional("method", problems, endpoint::method);
    if let Some(template) = fields.value("request_template") {
        let is_get = config.get("method").and_then(Value::as_str).unwrap_or(vendor.method) == "GET";
        problems.take(fields.path("request_template"), request_template::check(template, is_get, VARIABLES));
    }
    fields.optional("json_path", problems, json_path::singular);
}

/// Reads the settings of `vendor` into a plan, the record's in place of those that are left out. None where they are not
/// valid, which they were when they were saved: the operator has closed what was open then, say.
pub fn plan(vendor: &'static EnrichmentVendor, config: &Value, reach: &Reach<'_>) -> Option<Plan> {
    let mut problems = Problems::default();
    check(vendor, config, reach, &mut problems);
    if problems.into_list().is_empty() { read(vendor, config) } else { None }
}

/// Names the credentials that a call with settings of `vendor` needs: all, where the settings can't be read.
pub fn credentials(vendor: &'static EnrichmentVendor, config: &Value) -> Vec<String> {
    let all = || vendor.credentials.iter().map(|credential| credential.name).collect();
    let needed = read(vendor, config).map_or_else(all, |plan| plan.credentials);
    needed.into_iter().map(str::to_owned).collect()
}

fn read(vendor: &'static EnrichmentVendor, config: &Value) -> Option<Plan> {
    let text = |name: &str, default: &'static str| {
        config.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let credentials: Vec<&'static str> =
        vendor.credentials.iter().map(|credential| credential.name).collect();
    let base = text("base_url", vendor.base_url);
    let url = format!("{}{}", base.trim_end_matches('/'), text("path", vendor.path));
    let defaults = || vendor.headers.iter().map(|(name, value)| (*name, *value)).collect();
    let own = config.get("headers").and_then(Value::as_object);
    let own = own
        .map(|own| own.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect());
    let headers: Vec<(&str, &str)> = own.unwrap_or_else(defaults);
    let has_authorization = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let credential = |name: &str| Template::parse(&format!("{{{{{name}}}}}"), &credentials).ok();
    let headers = headers.into_iter().map(|(name, value)| {
        Some((HeaderName::try_from(name).ok()?, Template::parse(value, &credentials).ok()?))
    });
    let headers: Vec<(HeaderName, Template)> = headers.collect::<Option<_>>()?;
    let basic = match vendor.basic.filter(|_| !has_authorization) {
        Some([user, password]) => Some([credential(user)?, credential(password)?]),
        None => None,
    };
    let templates = headers.iter().map(|(_, template)| template).chain(basic.iter().flatten());
    let named: Vec<&str> = templates.flat_map(Template::variables).collect();
    // What UID2 encrypts with is in no template.
    let is_needed = |name: &&'static str| vendor.protocol == Protocol::Uid2 || named.contains(name);
    let needed = credentials.iter().copied().filter(is_needed).collect();
    let ttl = duration::ttl(&text("ttl", vendor.ttl)).ok()?;
    let request = config.get("request_template").filter(|template| !template.is_null()).cloned();
    Some(Plan {
        label: vendor.name,
        field: vendor.field.to_owned(),
        need: vendor.need,
        method: text("method", vendor.method).parse().ok()?,
        url: Template::parse(&url, &[]).ok()?,
        credentials: needed,
        headers,
        basic,
        request: request.or_else(|| serde_json::from_str(vendor.request).ok())?,
        variables: VARIABLES,
        inputs: vendor.inputs.iter().map(|&name| name.to_owned()).collect(),
        json_path: json_path::singular(&text("json_path", vendor.json_path)).ok()?,
        other_shape: vendor.other_shape,
        attributes: vendor.attributes.and_then(|path| json_path::singular(path).ok()),
        no_match: vendor.no_match,
        protocol: vendor.protocol,
        is_own_number: vendor.is_own_number,
        ttl,
        kept: ttl,
        timeout: TIMEOUT,
    })
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;
    use serde_json::Map;

    use super::*;
    use crate::{providers::variables::Variables, vendors};

    #[test]
    fn the_defaults_of_every_vendor_pass_the_check() {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        for vendor in vendors::ALL.iter().filter_map(|vendor| vendor.enrichment.as_ref()) {
            let headers: Map<String, Value> =
                vendor.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            let defaults = json!({
                "base_url": vendor.base_url, "method": vendor.method, "path": vendor.path, "headers": headers,
                "json_path": vendor.json_path, "ttl": vendor.ttl,
                "request_template": serde_json::from_str::<Value>(vendor.request).unwrap(),
            });
            let mut problems = Problems::default();
            check(vendor, &defaults, &reach, &mut problems);
            assert_eq!(problems.into_list(), [], "{}", vendor.name);
            assert!(plan(vendor, &defaults, &reach).is_some(), "{}", vendor.name);
            let plan = plan(vendor, &json!({}), &reach).unwrap();
            let all: Vec<_> = vendor.credentials.iter().map(|credential| credential.name).collect();
            assert_eq!(plan.credentials, all, "{} is sent all of its credentials", vendor.name);
        }
    }

    #[test]
    fn a_preset_passes_the_check_and_needs_the_credentials_that_it_names() {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let mut needed = Vec::new();
        for vendor in vendors::ALL.iter().filter_map(|vendor| vendor.enrichment.as_ref()) {
            for preset in vendor.presets {
                let settings: Value = serde_json::from_str(preset.settings).unwrap();
                let mut problems = Problems::default();
                check(vendor, &settings, &reach, &mut problems);
                assert_eq!(problems.into_list(), [], "{}", preset.name);
                needed.push((preset.name, plan(vendor, &settings, &reach).unwrap().credentials));
            }
        }
        needed.sort_unstable();
        let expected = [("eid_api", vec![]), ("profile_api", vec!["token"]), ("public_api", vec![])];
        assert_eq!(needed, expected);
    }

    #[test]
    fn what_a_protocol_says_is_not_for_settings() {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let vendor = vendors::find_enrichment("uid2").unwrap();
        let mut problems = Problems::default();
        let settings =
            json!({"method": "GET", "json_path": "$.id", "request_template": {"a": "b"}, "ttl": "2h"});
        check(vendor, &settings, &reach, &mut problems);
        let fields: Vec<String> = problems.into_list().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["method", "request_template", "json_path"]);
    }

    #[test]
    fn a_header_that_names_a_person_makes_another_question_and_one_of_the_request_does_not() {
        let (allowed, text) = (Openings::default(), |value: &str| Some(value.to_owned()));
        let reach = Reach { allowed: &allowed, is_ours: &|_| false };
        let vendor = vendors::find_enrichment("liveramp_ats").unwrap();
        let settings = json!({"headers": {"x-email": "{{sha256_email}}", "x-ip": "{{client_ip}}"}});
        let plan = plan(vendor, &settings, &reach).unwrap();
        assert!(plan.names().contains(&"sha256_email".to_owned()), "{:?}", plan.names());
        let asked = |email: &str, ip: &str| {
            let mut variables = Variables::default();
            variables.set("sha256_phone", text("one phone"));
            variables.set("sha256_email", text(email));
            variables.set("client_ip", text(ip));
            plan.prepare(&settings, &variables).unwrap().inputs
        };
        assert_eq!(asked("anna", "192.0.2.1"), asked("anna", "192.0.2.2"));
        assert_ne!(asked("anna", "192.0.2.1"), asked("berta", "192.0.2.1"));
    }
}
