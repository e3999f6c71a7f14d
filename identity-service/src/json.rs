//! JSON as protocol buffers have it (`google.protobuf.Struct`).

use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use serde_json::{Number, Value};

/// Converts JSON to a message. Numbers are those of IEEE 754 there.
pub fn to_proto(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_proto).collect() })
        }
        Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(name, value)| (name, to_proto(value))).collect(),
        }),
    };
    ProtoValue { kind: Some(kind) }
}

/// Converts the text of a JSON object to a message; none for another text.
pub fn struct_of(text: &str) -> Option<Struct> {
    match to_proto(serde_json::from_str(text).ok()?).kind {
        Some(Kind::StructValue(message)) => Some(message),
        _ => None,
    }
}

/// Converts a message to JSON. Values that JSON can't say (NaN, a value that is none) are null.
pub fn from_proto(message: Struct) -> Value {
    Value::Object(message.fields.into_iter().map(|(name, field)| (name, value(field))).collect())
}

fn value(message: ProtoValue) -> Value {
    match message.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value).collect()),
        Some(Kind::StructValue(message)) => from_proto(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let value = json!({"a": [null, true, 1.5, "x", {"b": {}}], "c": []});
        assert_eq!(super::value(to_proto(value.clone())), value);
        assert_eq!(super::value(ProtoValue { kind: Some(Kind::NumberValue(f64::NAN)) }), Value::Null);
    }
}
