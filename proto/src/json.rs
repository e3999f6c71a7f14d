//! JSON as `google.protobuf.Struct` has it, in which the services give each other what has no messages of its own.

use prost_types::{ListValue, Struct, Value as Proto, value::Kind};
use serde_json::{Map, Number, Value};

/// Gives the JSON object that a struct stands for. Whole numbers are written as such.
pub fn object(document: Struct) -> Map<String, Value> {
    document.fields.into_iter().map(|(name, value)| (name, json(value))).collect()
}

/// Gives the struct that stands for a JSON object. A number that no double holds is the nearest that one
/// does.
pub fn document(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(name, value)| (name, proto(value))).collect() }
}

/// Gives the struct that stands for the text of a JSON object; none for another text.
pub fn of_text(text: &str) -> Option<Struct> {
    serde_json::from_str(text).ok().map(document)
}

fn proto(value: Value) -> Proto {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(proto).collect() })
        }
        Value::Object(inner) => Kind::StructValue(document(inner)),
    };
    Proto { kind: Some(kind) }
}

fn json(value: Proto) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(inner)) => Value::Object(object(inner)),
    }
}

fn number(value: f64) -> Value {
    // Doubles hold every whole number up to 2^53.
    let text = value.to_string();
    text.parse::<i64>()
        .ok()
        .map(Number::from)
        .or_else(|| Number::from_f64(value))
        .map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_stay_what_they_are() {
        assert_eq!([number(3.0), number(-2.5), number(f64::NAN)], [json!(3), json!(-2.5), Value::Null]);
    }

    #[test]
    fn an_object_comes_back_as_it_was() {
        let sent = json!({"a": null, "b": [true, 1, 2.5, "x"], "c": {"d": {}}});
        let Value::Object(sent) = sent else { unreachable!() };
        assert_eq!(object(document(sent.clone())), sent);
    }
}
