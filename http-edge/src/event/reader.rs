//! The one pass over an event: known members are taken as far as they are of use, all others are only checked.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Event, MAX_CONSENT_BYTES,
    checked::{Checked, without_nul},
    field::Field,
    left_out,
    member::{Key, Member, Path},
    value::{self, Value},
};

/// Consent that is over its bound, for the core to deny: no text is a consent object.
const CONSENT_TOO_LARGE: &str = r#""over 8 KiB""#;
/// Consent of which two stand in one event, for the core to deny.
const CONSENT_TWO_VALUES: &str = r#""two values""#;
/// Values of a flag that say no, beside `false` and what is blank, in lower case.
const WAYS_TO_SAY_NO: &[&str] = &["0", r#""0""#, r#""false""#, r#""no""#, r#""off""#];

/// Reader of one object into the event.
pub struct Reader<'e, 'a> {
    event: &'e mut Event<'a>,
    /// Name of the known member being read, for the error.
    at: &'e mut Option<&'static str>,
    path: Path,
    /// The object's own name.
    name: &'static str,
}

impl<'e, 'a> Reader<'e, 'a> {
    /// A reader of the event itself.
    pub fn new(event: &'e mut Event<'a>, at: &'e mut Option<&'static str>) -> Self {
        Self { event, at, path: Path::Event, name: "" }
    }

    /// A reader of a whole batch's context.
    pub fn of_batch(event: &'e mut Event<'a>, at: &'e mut Option<&'static str>) -> Self {
        Self { event, at, path: Path::BatchContext, name: "context" }
    }

    fn leave_out(&mut self, name: &'static str, why: &'static str) {
        left_out::add(&mut self.event.left_out, name, why);
    }

    /// Takes a text. A member may come in both spellings, but not with two values: then it has none.
    fn text<E: Error>(&mut self, field: Field, name: &'static str, raw: &'a str) -> Result<(), E> {
        let usable = match value::read::<E>(raw)? {
            Value::Absent => return Ok(()),
            Value::Text(text) => field.usable(text),
            Value::Integer(digits) if field.takes_integers() => field.usable(Cow::Borrowed(digits)),
            Value::Integer(_) | Value::Other => {
                Err(if field.takes_integers() { left_out::NOT_TEXT_OR_INTEGER } else { left_out::NOT_TEXT })
            }
        };
        let text = match usable {
            Ok(text) => text,
            Err(why) => {
                self.leave_out(name, why);
                return Ok(());
            }
        };
        let had_two = self.event.has_two_values_of(name);
        let place = field.of(self.event, self.path == Path::ContextTraits);
        match place {
            Some(old) if *old != text => {
                *place = None;
                self.leave_out(name, left_out::TWO_VALUES);
            }
            None if !had_two => *place = Some(text),
            _ => {}
        }
        Ok(())
    }

    /// Takes the consent as it is. What can't be consent is handed on too, and denies.
    fn consent<E: Error>(&mut self, name: &'static str, raw: &'a str) -> Result<(), E> {
        value::check(raw)?;
        let (consent, why) = if raw.len() > MAX_CONSENT_BYTES {
            (CONSENT_TOO_LARGE, Some(left_out::CONSENT_TOO_LARGE))
        } else if raw.starts_with('{') {
            (raw, None)
        } else if value::is_empty_list(raw) {
            ("{}", None)
        } else if value::read::<E>(raw)? == Value::Absent {
            return Ok(());
        } else {
            (raw, Some(left_out::CONSENT_NOT_OBJECT))
        };
        if let Some(why) = why {
            self.leave_out(name, why);
        }
        match self.event.consent {
            Some(old) if old != consent => {
                self.event.consent = Some(CONSENT_TWO_VALUES);
                self.leave_out(name, left_out::CONSENT_TWO_VALUES);
            }
            _ => self.event.consent = Some(consent),
        }
        Ok(())
    }

    fn reset<E: Error>(&mut self, name: &'static str, raw: &str) -> Result<(), E> {
        value::check(raw)?;
        let says_no = match raw {
            "true" => false,
            "false" | "{}" => true,
            _ if value::is_empty_list(raw) || value::read::<E>(raw)? == Value::Absent => true,
            _ => {
                self.leave_out(name, left_out::NOT_FLAG);
                WAYS_TO_SAY_NO.contains(&&*raw.to_ascii_lowercase())
            }
        };
        self.event.reset |= !says_no;
        Ok(())
    }

    /// Passes over a value that is no object: an event has to be one, and any other object is as if absent.
    fn no_object<E: Error>(&mut self, is_blank: bool) -> Result<(), E> {
        if self.path == Path::Event {
            return Err(E::custom("no object"));
        }
        if !is_blank {
            self.leave_out(self.name, left_out::NOT_OBJECT);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.no_object(false)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.no_object(false)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.no_object(false)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.no_object(false)
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.no_object(true)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        without_nul(text)?;
        self.no_object(text.trim().is_empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut is_empty = true;
        while seq.next_element::<Checked>()?.is_some() {
            is_empty = false;
        }
        self.no_object(is_empty)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_empty = true;
        loop {
            *self.at = None;
            let Some((member, name)) = map.next_key_seed(Key(self.path))? else { break };
            *self.at = Some(name).filter(|name| !name.is_empty());
            is_empty = false;
            match member {
                Member::Text(field) => self.text(field, name, map.next_value::<&RawValue>()?.get())?,
                Member::Object(path) => {
                    map.next_value_seed(Reader { event: &mut *self.event, at: &mut *self.at, path, name })?;
                }
                Member::Consent => self.consent(name, map.next_value::<&RawValue>()?.get())?,
                Member::Reset => self.reset(name, map.next_value::<&RawValue>()?.get())?,
                Member::Syncs => {
                    let raw = map.next_value::<&RawValue>()?.get();
                    value::check(raw)?;
                    self.event.no_syncs |= raw == "false";
                }
                Member::Unknown => {
                    map.next_value::<Checked>()?;
                }
            }
        }
        if is_empty && self.path == Path::Event { Err(A::Error::custom("empty")) } else { Ok(()) }
    }
}
