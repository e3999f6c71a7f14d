//! Settings of one source that differ from a vendor's record: `{base_url, method, path, headers, request_template,
//! json_path, ttl}`.

use egress::target::Reach;
use http::HeaderName;
use serde_json::Value;

use super::{
    plan::{Plan, TIMEOUT},
    request,
};
use crate::{
    providers::{
        duration, endpoint, headers, json_path,
        template::Template,
        validation::{Fields, Problems},
    },
    vendors::{EnrichmentVendor, enrichment::VARIABLES},
};

/// Checks the settings of `vendor` on one source. Any field may be left out: then the record's counts.
pub fn check(vendor: &EnrichmentVendor, config: &Value, reach: &Reach<'_>, problems: &mut Problems) {
    let Some(mut fields) = Fields::of("", config, problems) else { return };
    let credentials: Vec<&str> = vendor.credentials.iter().map(|credential| credential.name).collect();
    fields.optional("base_url", problems, |text| endpoint::base(text, reach));
    fields.optional("method", problems, endpoint::method);
    fields.optional("path", problems, endpoint::path);
    headers::check(&mut fields, &credentials, problems);
    if let Some(template) = fields.value("request_template") {
        let is_get = config.get("method").and_then(Value::as_str).unwrap_or(vendor.method) == "GET";
        problems.take(fields.path("request_template"), request::check(template, is_get, VARIABLES));
    }
    fields.optional("json_path", problems, json_path::singular);
    fields.optional("ttl", problems, duration::ttl);
    fields.finish(problems);
}

/// Reads the settings of `vendor` into a plan, the record's in place of those that are left out. None where they are not
/// valid, which they were when they were saved: the operator has closed what was open then, say.
pub fn plan(vendor: &'static EnrichmentVendor, config: &Value, reach: &Reach<'_>) -> Option<Plan> {
    let mut problems = Problems::default();
    check(vendor, config, reach, &mut problems);
    if !problems.into_list().is_empty() {
        return None;
    }
    let text = |name: &str, default: &'static str| {
        config.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let credentials: Vec<&str> = vendor.credentials.iter().map(|credential| credential.name).collect();
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
    let request = config.get("request_template").filter(|template| !template.is_null()).cloned();
    Some(Plan {
        label: vendor.name,
        field: vendor.field.to_owned(),
        need: vendor.need,
        method: text("method", vendor.method).parse().ok()?,
        url: Template::parse(&url, &[]).ok()?,
        headers: headers.collect::<Option<_>>()?,
        basic: match vendor.basic.filter(|_| !has_authorization) {
            Some([user, password]) => Some([credential(user)?, credential(password)?]),
            None => None,
        },
        request: request.or_else(|| serde_json::from_str(vendor.request).ok())?,
        variables: VARIABLES,
        inputs: vendor.inputs.iter().map(|&name| name.to_owned()).collect(),
        json_path: json_path::singular(&text("json_path", vendor.json_path)).ok()?,
        other_shape: vendor.other_shape,
        attributes: vendor.attributes.and_then(|path| json_path::singular(path).ok()),
        no_match: vendor.no_match,
        protocol: vendor.protocol,
        is_own_number: vendor.is_own_number,
        ttl: duration::ttl(&text("ttl", vendor.ttl)).ok()?,
        timeout: TIMEOUT,
        credentials,
    })
}

#[cfg(test)]
mod tests {
    use egress::openings::Openings;
    use serde_json::{Map, json};

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
            assert!(
                plan.basic.is_some() || !plan.headers.is_empty(),
                "{} is sent no credentials",
                vendor.name
            );
        }
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
