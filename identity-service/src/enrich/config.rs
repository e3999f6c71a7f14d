//! Settings of one source that differ from a vendor's record: `{base_url, method, path, headers, json_path,
//! ttl}`.

use serde_json::Value;

use crate::{
    egress::target::Reach,
    providers::{
        duration, endpoint, headers, json_path,
        validation::{Fields, Problems},
    },
    vendors::EnrichmentVendor,
};

/// Checks the settings of `vendor` on one source. Any field may be left out: then the record's counts.
pub fn check(vendor: &EnrichmentVendor, config: &Value, reach: &Reach<'_>, problems: &mut Problems) {
    let Some(mut fields) = Fields::of("", config, problems) else { return };
    let credentials: Vec<&str> = vendor.credentials.iter().map(|credential| credential.name).collect();
    fields.optional("base_url", problems, |text| endpoint::base(text, reach));
    fields.optional("method", problems, endpoint::method);
    fields.optional("path", problems, endpoint::path);
    headers::check(&mut fields, &credentials, problems);
    fields.optional("json_path", problems, json_path::singular);
    fields.optional("ttl", problems, duration::ttl);
    fields.finish(problems);
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{egress::openings::Openings, vendors};

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
            });
            let mut problems = Problems::default();
            check(vendor, &defaults, &reach, &mut problems);
            assert_eq!(problems.into_list(), [], "{}", vendor.name);
        }
    }
}
