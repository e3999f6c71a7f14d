//! Members of a body that may be left out.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member of a PUT's body, which is kept as it was where it is absent; null takes it back to what it is by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Member<T> {
    /// Left out of the body.
    #[default]
    Absent,
    /// There is to be none.
    Null,
    /// The value that there is to be.
    Given(T),
}

impl<T> Member<T> {
    /// True where nothing is said of it.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value that there is to be, where `kept` is the present one; none for the default.
    pub fn or(self, kept: Option<T>) -> Option<T> {
        match self {
            Self::Absent => kept,
            Self::Null => None,
            Self::Given(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Given))
    }
}

/// Null where there is to be none. An absent one is to be skipped.
impl<T: Serialize> Serialize for Member<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_none(),
            Self::Given(value) => value.serialize(serializer),
        }
    }
}

/// Reads a member that may be left out, and has no default to go back to: null is as wrong as any other type.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default)]
        member: Member<u8>,
    }

    #[test]
    fn absent_keeps_and_null_takes_back() {
        for (body, expected) in
            [(json!({}), Some(1)), (json!({"member": null}), None), (json!({"member": 2}), Some(2))]
        {
            let sample: Sample = serde_json::from_value(body).unwrap();
            assert_eq!(sample.member.or(Some(1)), expected);
        }
    }
}
