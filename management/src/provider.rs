//! Settings of providers, which the core alone can check.

use proto::v1::{CheckProviderRequest, ProviderKind};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    api::{
        error::{Code, Result},
        fields::Fields,
    },
    core_client::CoreClient,
};

/// Makes settings a JSON object, which is what is stored, and what the core is asked about.
pub fn object<T: Serialize>(settings: &T) -> Result<Map<String, Value>> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Code::Internal.into()),
    }
}

/// Settings that there are to be: those that are `given` in place of those that are `stored`, member by member. Null
/// takes one back to what it is by default.
pub fn merged(stored: Option<&Value>, given: Map<String, Value>) -> Map<String, Value> {
    let mut settings = stored.and_then(Value::as_object).cloned().unwrap_or_default();
    settings.extend(given);
    settings.retain(|_, value| !value.is_null());
    settings
}

/// Deepest that a setting may nest for the core to read it, which allows far less: Protocol Buffers nest 100
/// messages, and a level of JSON is three of them.
const MAX_DEPTH: usize = 24;

fn is_deeper(value: &Value, than: usize) -> bool {
    let below = |value| than == 0 || is_deeper(value, than - 1);
    match value {
        Value::Array(items) => items.iter().any(below),
        Value::Object(members) => members.values().any(below),
        _ => false,
    }
}

/// Notes what is wrong with the settings of a provider, and gives the names of the credentials that a vendor of
/// enrichment needs with them; its fields are those below `prefix`, such as `config.`. Takes no credentials.
pub async fn check(
    core: &CoreClient,
    wrong: &mut Fields,
    prefix: &str,
    org: Uuid,
    kind: ProviderKind,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<Vec<String>> {
    if let Some((field, _)) = settings.iter().find(|(_, value)| is_deeper(value, MAX_DEPTH)) {
        wrong.add(format!("{prefix}{field}"), "must not be nested as deep");
        return Ok(Vec::new());
    }
    let request = CheckProviderRequest {
        org_id: org.to_string(),
        name: name.to_owned(),
        settings: Some(proto::json::document(settings.clone())),
        kind: kind.into(),
    };
    let answer = core.check_provider(request).await?;
    for problem in answer.problems {
        let field = format!("{prefix}{}", problem.field);
        wrong.add(field.trim_end_matches('.'), problem.message);
    }
    // What the core takes, PostgreSQL may not.
    wrong.storable(prefix.trim_end_matches('.'), &Value::Object(settings.clone()));
    Ok(answer.credentials)
}
