//! The sections of a GPP string that are in force, as the consent platform says it beside the string, in `gpp_sid`.

use serde_json::{Map, Value};

/// Highest ID of a section that is told apart; the registry is at 27.
const MAX_SECTION_ID: i64 = 63;
/// Longest text that is read, in bytes: that of all sections there can be.
const MAX_TEXT_BYTES: usize = 256;

/// The platform's word on which sections are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applicable {
    /// The platform says nothing.
    Unsaid,
    /// No section is in force (`-1`).
    Nothing,
    /// The platform is still loading (`0`): the next event will say.
    Pending,
    /// The sections of these IDs are in force.
    Sections(SectionIds),
    /// The word is none of these.
    Unreadable,
}

/// IDs of sections, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionIds(u64);

impl SectionIds {
    /// True where the section is among them.
    pub fn contains(self, id: u16) -> bool {
        1u64.checked_shl(id.into()).is_some_and(|bit| self.0 & bit != 0)
    }

    /// The IDs, in their order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..64).filter(move |id| self.contains(*id))
    }
}

impl Applicable {
    /// Reads the object's member `gpp_sid`: a number, a list of numbers, or a text with commas (in the keys of apps `_`)
    /// between them.
    pub fn read(object: &Map<String, Value>) -> Self {
        let word = match object.get("gpp_sid") {
            None => return Self::Unsaid,
            Some(Value::Number(id)) => Self::of(std::iter::once(id.as_i64())),
            Some(Value::Array(ids)) => Self::of(ids.iter().map(Value::as_i64)),
            Some(Value::String(text)) if text.len() <= MAX_TEXT_BYTES => {
                Self::of(text.split([',', '_']).map(|id| id.parse().ok()))
            }
            Some(_) => None,
        };
        word.unwrap_or(Self::Unreadable)
    }

    /// The word of these IDs; none where one is no ID of a section, or `0` or `-1` stand beside others.
    fn of(ids: impl Iterator<Item = Option<i64>>) -> Option<Self> {
        let mut word = None;
        for id in ids {
            word = Some(match (word, id?) {
                (None, -1) => Self::Nothing,
                (None, 0) => Self::Pending,
                (None, id @ 1..=MAX_SECTION_ID) => Self::Sections(SectionIds(1 << id)),
                (Some(Self::Sections(SectionIds(before))), id @ 1..=MAX_SECTION_ID) => {
                    Self::Sections(SectionIds(before | 1 << id))
                }
                _ => return None,
            });
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        Applicable::{Nothing, Pending, Sections, Unreadable, Unsaid},
        *,
    };

    fn read(word: Value) -> Applicable {
        Applicable::read(&Map::from_iter([("gpp_sid".to_owned(), word)]))
    }

    #[test]
    fn every_form_is_read() {
        let ids = |word| match read(word) {
            Sections(sections) => sections.iter().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(ids(json!(7)), [7]);
        assert_eq!(ids(json!([8, 7, 7])), [7, 8]);
        assert_eq!(ids(json!("7,8")), [7, 8]);
        assert_eq!(ids(json!("2_3")), [2, 3]);
        assert_eq!(ids(json!("63")), [63]);
        for (nothing, pending) in
            [(json!(-1), json!(0)), (json!([-1]), json!([0])), (json!("-1"), json!("0"))]
        {
            assert_eq!((read(nothing), read(pending)), (Nothing, Pending));
        }
        assert_eq!(Applicable::read(&Map::new()), Unsaid);
    }

    #[test]
    fn every_other_form_is_unreadable() {
        for word in [
            json!(true),
            json!({"7": true}),
            json!(7.5),
            json!(64),
            json!(-2),
            json!([7, 0]),
            json!([0, 7]),
            json!([-1, 7]),
            json!([[7]]),
            json!(["7"]),
            json!("7,"),
            json!("7, 8"),
            json!("7;8"),
            json!("usnat"),
            json!("7,".repeat(200) + "7"),
        ] {
            assert_eq!(read(word.clone()), Unreadable, "{word}");
        }
    }
}
