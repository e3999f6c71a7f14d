//! Names of the members that are read, in both spellings.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::{ANONYMOUS_ID, USER_ID, checked::without_nul, field::Field};

/// Object within an event whose members are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Event,
    Traits,
    Context,
    /// The context of a whole batch, in which what is said of one event alone does not count.
    BatchContext,
    ContextTraits,
    Page,
}

/// Kind of a member, by what is done with it.
pub enum Member {
    Text(Field),
    Object(Path),
    Consent,
    Reset,
    Syncs,
    Unknown,
}

/// The member `key` of `path`, and its name, empty for one that is not known. Both spellings of each name are known.
fn member(path: Path, key: &str) -> (Member, &'static str) {
    use Member::{Consent, Object, Reset, Syncs, Text, Unknown};
    match (path, key) {
        (Path::Event, "anonymousId" | "anonymous_id") => (Text(Field::AnonymousId), ANONYMOUS_ID),
        (Path::Event, "userId" | "user_id") => (Text(Field::UserId), USER_ID),
        (Path::Event, "messageId" | "message_id") => (Text(Field::MessageId), "messageId"),
        (Path::Event, "timestamp") => (Text(Field::Timestamp), "timestamp"),
        (Path::Event, "traits") => (Object(Path::Traits), "traits"),
        (Path::Event, "context") => (Object(Path::Context), "context"),
        (Path::Traits, "email") => (Text(Field::Email), "traits.email"),
        (Path::Traits, "phone") => (Text(Field::Phone), "traits.phone"),
        (Path::Traits, "email_sha256" | "emailSha256") => (Text(Field::EmailSha256), "traits.email_sha256"),
        (Path::Traits, "phone_sha256" | "phoneSha256") => (Text(Field::PhoneSha256), "traits.phone_sha256"),
        (Path::Event, "syncs") => (Syncs, "syncs"),
        (Path::ContextTraits, "email") => (Text(Field::Email), "context.traits.email"),
        (Path::ContextTraits, "phone") => (Text(Field::Phone), "context.traits.phone"),
        (Path::ContextTraits, "email_sha256" | "emailSha256") => {
            (Text(Field::EmailSha256), "context.traits.email_sha256")
        }
        (Path::ContextTraits, "phone_sha256" | "phoneSha256") => {
            (Text(Field::PhoneSha256), "context.traits.phone_sha256")
        }
        (Path::Context | Path::BatchContext, "page") => (Object(Path::Page), "context.page"),
        (Path::Context | Path::BatchContext, "traits") => (Object(Path::ContextTraits), "context.traits"),
        (Path::Context | Path::BatchContext, "consent") => (Consent, "context.consent"),
        (Path::Context, "reset") => (Reset, "context.reset"),
        (Path::Context, "userHash" | "user_hash") => (Text(Field::UserHash), "context.userHash"),
        (Path::Context, "identityToken" | "identity_token") => {
            (Text(Field::IdentityToken), "context.identityToken")
        }
        (Path::Page, "url") => (Text(Field::PageUrl), "context.page.url"),
        (Path::Page, "search") => (Text(Field::PageSearch), "context.page.search"),
        (Path::Page, "referrer") => (Text(Field::Referrer), "context.page.referrer"),
        _ => (Unknown, ""),
    }
}

/// A member's name within a path.
pub struct Key(pub Path);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = (Member, &'static str);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = (Member, &'static str);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        without_nul(key)?;
        Ok(member(self.0, key))
    }
}
