//! Settings of one source that differ from a vendor's record: `{base_url, method, path, headers, json_path,
//! ttl}`.

use serde_json::Value;

use crate::{
    egress::target::Reach,
    providers::validation::{Fields, Problems},
};
use crate::{
    providers::{duration, endpoint, headers, json_path},
    vendors::enrichment::EnrichmentVendor,
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
