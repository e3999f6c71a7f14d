//! Credentials in answers: a provider that sends back what it was called with is not believed, so that no credential is
//! kept, told to a browser or shown to whoever tries the provider.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::outcome::{Answer, Failure};

/// Shortest credential that is looked for within longer texts, in bytes: a shorter one may stand there by chance.
const MIN_PART_BYTES: usize = 8;

/// Refuses an answer whose ID has one of `secrets` in it, and leaves out attributes that have.
#[expect(clippy::needless_pass_by_value, reason = "an iterator that is walked once a text")]
pub fn refuse<'a>(
    answer: Answer,
    secrets: impl Iterator<Item = &'a SecretString> + Clone,
) -> Result<Answer, Failure> {
    let Answer::Found(mut found) = answer else { return Ok(answer) };
    let has_secret = |text: &str| secrets.clone().any(|secret| is_in(secret.expose_secret(), text));
    if has_secret(&found.value) {
        return Err(Failure::Malformed);
    }
    found.attributes = found.attributes.filter(|attributes| !any_text(attributes, &has_secret));
    Ok(Answer::Found(found))
}

fn is_in(secret: &str, text: &str) -> bool {
    secret == text || secret.len() >= MIN_PART_BYTES && text.contains(secret)
}

/// True where one of the texts of a document, names of members included, is such a one.
fn any_text(value: &Value, is_one: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => is_one(&number.to_string()),
        Value::String(text) => is_one(text),
        Value::Array(values) => values.iter().any(|value| any_text(value, is_one)),
        Value::Object(members) => members.iter().any(|(name, value)| is_one(name) || any_text(value, is_one)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::providers::outcome::Found;

    #[test]
    fn what_a_provider_was_called_with_is_no_id_and_no_attribute() {
        let secrets: [SecretString; 2] = ["canary-credential".into(), "7".into()];
        let answer = |value: &str, attributes: Value| {
            let at = OffsetDateTime::UNIX_EPOCH;
            let found = Found {
                value: value.to_owned(),
                attributes: Some(attributes),
                expires_at: at,
                kept_until: at,
                refresh: None,
            };
            match refuse(Answer::Found(found), secrets.iter()) {
                Ok(Answer::Found(found)) => found.attributes,
                Err(Failure::Malformed) => Some(json!("refused")),
                other => panic!("{other:?}"),
            }
        };
        let fine = json!({"age": "27", "tags": ["x7", {"canary": null}]});
        assert_eq!(answer("id-7", fine.clone()), Some(fine));
        for value in ["canary-credential", "Bearer canary-credential", "7"] {
            assert_eq!(answer(value, json!({})), Some(json!("refused")), "{value}");
        }
        for attributes in
            [json!({"a": ["x canary-credential y"]}), json!({"canary-credential": 1}), json!({"a": {"b": 7}})]
        {
            assert_eq!(answer("id", attributes.clone()), None, "{attributes}");
        }
    }
}
