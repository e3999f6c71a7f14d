//! The one pass over an event: known fields are taken, all others are only checked.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Event, MAX_CONSENT_BYTES,
    checked::{Checked, without_nul},
};

/// Object within an event whose members are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Event,
    Traits,
    Properties,
    Context,
    Page,
}

/// Kind of a member, by what is done with it.
enum Member {
    Text(Field),
    /// Text, where it is one; any other value is as if absent.
    Hint(Field),
    Object(Path),
    Consent,
    Reset,
    Unknown,
}

/// Text member that is read.
#[derive(Clone, Copy)]
enum Field {
    AnonymousId,
    UserId,
    UserHash,
    IdentityToken,
    MessageId,
    Timestamp,
    PageUrl,
    Referrer,
    Email,
    Phone,
    EmailSha256,
    PhoneSha256,
    /// Member that must be text, though identity has no use for it.
    Unkept,
}

/// The member `key` of `path`, and its name in an error. Both spellings of each name are known.
fn member(path: Path, key: &str) -> (Member, Option<&'static str>) {
    use Member::{Consent, Hint, Object, Reset, Text, Unknown};
    let (member, name) = match (path, key) {
        (Path::Event, "anonymousId" | "anonymous_id") => (Text(Field::AnonymousId), "anonymousId"),
        (Path::Event, "userId" | "user_id") => (Text(Field::UserId), "userId"),
        (Path::Event, "messageId" | "message_id") => (Text(Field::MessageId), "messageId"),
        (Path::Event, "timestamp") => (Hint(Field::Timestamp), "timestamp"),
        (Path::Event, "type") => (Text(Field::Unkept), "type"),
        (Path::Event, "event") => (Text(Field::Unkept), "event"),
        (Path::Event, "name") => (Text(Field::Unkept), "name"),
        (Path::Event, "traits") => (Object(Path::Traits), "traits"),
        (Path::Event, "properties") => (Object(Path::Properties), "properties"),
        (Path::Event, "context") => (Object(Path::Context), "context"),
        (Path::Traits, "email") => (Text(Field::Email), "traits.email"),
        (Path::Traits, "phone") => (Text(Field::Phone), "traits.phone"),
        (Path::Traits, "email_sha256" | "emailSha256") => (Text(Field::EmailSha256), "traits.email_sha256"),
        (Path::Traits, "phone_sha256" | "phoneSha256") => (Text(Field::PhoneSha256), "traits.phone_sha256"),
        (Path::Context, "page") => (Object(Path::Page), "context.page"),
        (Path::Context, "consent") => (Consent, "context.consent"),
        (Path::Context, "reset") => (Reset, "context.reset"),
        (Path::Context, "userHash" | "user_hash") => (Text(Field::UserHash), "context.userHash"),
        (Path::Context, "identityToken" | "identity_token") => {
            (Text(Field::IdentityToken), "context.identityToken")
        }
        (Path::Page, "url") => (Text(Field::PageUrl), "context.page.url"),
        (Path::Page, "referrer") => (Hint(Field::Referrer), "context.page.referrer"),
        _ => return (Unknown, None),
    };
    (member, Some(name))
}

/// Reader of one object into the event.
pub struct Reader<'e, 'a> {
    event: &'e mut Event<'a>,
    /// The known member being read, for the error.
    at: &'e mut Option<&'static str>,
    path: Path,
}

impl<'e, 'a> Reader<'e, 'a> {
    /// A reader of the event itself.
    pub fn new(event: &'e mut Event<'a>, at: &'e mut Option<&'static str>) -> Self {
        Self { event, at, path: Path::Event }
    }

    /// Takes a text. A member may come in both spellings, but not with two values.
    fn set<E: Error>(&mut self, field: Field, value: Option<Cow<'a, str>>) -> Result<(), E> {
        self.place(field).map_or(Ok(()), |place| once(place, value))
    }

    /// The event's member for `field`; none where it is not kept.
    fn place(&mut self, field: Field) -> Option<&mut Option<Cow<'a, str>>> {
        Some(match field {
            Field::AnonymousId => &mut self.event.anonymous_id,
            Field::UserId => &mut self.event.user_id,
            Field::UserHash => &mut self.event.user_hash,
            Field::IdentityToken => &mut self.event.identity_token,
            Field::MessageId => &mut self.event.message_id,
            Field::Timestamp => &mut self.event.timestamp,
            Field::PageUrl => &mut self.event.page_url,
            Field::Referrer => &mut self.event.referrer,
            Field::Email => &mut self.event.email,
            Field::Phone => &mut self.event.phone,
            Field::EmailSha256 => &mut self.event.email_sha256,
            Field::PhoneSha256 => &mut self.event.phone_sha256,
            Field::Unkept => return None,
        })
    }

    fn consent<E: Error>(&mut self, value: Option<&'a RawValue>) -> Result<(), E> {
        let value = value.map(RawValue::get);
        if let Some(text) = value {
            if text.len() > MAX_CONSENT_BYTES {
                return Err(E::custom("too large"));
            }
            serde_json::from_str::<Checked>(text).map_err(E::custom)?;
        }
        once(&mut self.event.consent, value)
    }
}

fn once<T: PartialEq, E: Error>(place: &mut Option<T>, value: Option<T>) -> Result<(), E> {
    match (&place, value) {
        (_, None) => Ok(()),
        (Some(old), Some(new)) if *old != new => Err(E::custom("two values")),
        (_, new) => {
            *place = new;
            Ok(())
        }
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

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.path == Path::Event { Err(E::custom("null")) } else { Ok(()) }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut empty = true;
        loop {
            *self.at = None;
            let Some((member, name)) = map.next_key_seed(Key(self.path))? else { break };
            *self.at = name;
            empty = false;
            match member {
                Member::Text(field) => {
                    let Text(value) = map.next_value()?;
                    self.set(field, value)?;
                }
                Member::Hint(field) => {
                    if let (TextOrNone(Some(value)), Some(place)) = (map.next_value()?, self.place(field)) {
                        *place = Some(value);
                    }
                }
                Member::Object(path) => {
                    map.next_value_seed(Reader { event: &mut *self.event, at: &mut *self.at, path })?;
                }
                Member::Consent => {
                    let value = map.next_value()?;
                    self.consent(value)?;
                }
                Member::Reset => self.event.reset |= map.next_value::<Option<bool>>()?.unwrap_or_default(),
                Member::Unknown => {
                    map.next_value::<Checked>()?;
                }
            }
        }
        if empty && self.path == Path::Event { Err(A::Error::custom("empty")) } else { Ok(()) }
    }
}

/// A member's name within a path.
struct Key(Path);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = (Member, Option<&'static str>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = (Member, Option<&'static str>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        without_nul(key)?;
        Ok(member(self.0, key))
    }
}

/// Text or null; borrowed where it has no escapes.
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_unit<E: Error>(self) -> Result<Text<'de>, E> {
        Ok(Text(None))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        without_nul(text)?;
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        without_nul(text)?;
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }
}

/// Text, or nothing of any other value, which is checked all the same.
struct TextOrNone<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for TextOrNone<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if raw.starts_with('"') {
            let Text(text) = serde_json::from_str(raw).map_err(D::Error::custom)?;
            return Ok(Self(text));
        }
        serde_json::from_str::<Checked>(raw).map_err(D::Error::custom)?;
        Ok(Self(None))
    }
}
