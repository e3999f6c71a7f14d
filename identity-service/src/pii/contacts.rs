//! Email and phone of a person as an event brings them, digested at once.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::LazyLock,
};

use md5::Md5;
use proto::v1::Subject;
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::normal;
use crate::identifiers::{Identifier, placeholder};

/// Digests of one text, raw. Vendors get them in their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digests {
    /// The SHA-256 digest, which is always there.
    pub sha256: [u8; 32],
    /// The SHA-1 digest; none where the caller sent a ready-made SHA-256.
    pub sha1: Option<[u8; 20]>,
    /// The MD5 digest; none where the caller sent a ready-made SHA-256.
    pub md5: Option<[u8; 16]>,
}

impl Digests {
    /// All three in a row, SHA-256 first; none where one is not known.
    pub fn in_a_row(self) -> Option<Vec<u8>> {
        Some([&self.sha256[..], &self.sha1?, &self.md5?].concat())
    }
}

/// An email or a phone, digested.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Digests of the trimmed, lower-case text.
    pub lower: Digests,
    /// Digests of UID2's normal form, where it is known: of a phone the number in E.164, with its plus.
    pub uid2: Option<Digests>,
    /// Digests of a phone's digits alone, as Meta and Snapchat ask for them.
    pub digits: Option<Digests>,
    /// Digests of the ten digits of a number of North America, as LiveRamp asks for them.
    pub ten: Option<Digests>,
}

impl Contact {
    /// A contact of which one form is known.
    fn of(lower: Digests, uid2: Option<Digests>) -> Self {
        Self { lower, uid2, digits: None, ten: None }
    }
}

/// An email or a phone, and whether it is the customer's server that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The contact.
    pub contact: Contact,
    /// True where it is vouched for.
    pub verified: bool,
}

/// Email and phone that one event brings. Boxed, as most events bring none and each would carry the room for their
/// digests from step to step.
#[derive(Debug, Clone, Default)]
pub struct Contacts {
    /// The email, where the event has a usable one.
    pub email: Option<Box<Said>>,
    /// The phone, where the event has a usable one.
    pub phone: Option<Box<Said>>,
}

/// A contact as it is to be stored.
#[derive(Debug, Clone)]
pub struct NewContact {
    /// The canonical identity that it came to.
    pub canonical: Uuid,
    /// Digests of the email or phone.
    pub contact: Contact,
    /// True where the contact came in a signed call or an identity token.
    pub verified: bool,
    /// The user and the time of issue of the token that it came in.
    pub token: Option<(Identifier, OffsetDateTime)>,
}

/// New contacts by the identifier that they came with and the word for them.
pub type NewContacts = BTreeMap<(Identifier, &'static str), NewContact>;

/// A digest of an address can be guessed back, so it is not printed either.
impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contact(…)")
    }
}

impl Contacts {
    /// Takes email and phone out of `subject`, which are `verified` or not. One that can't be normalised is left out,
    /// as it would match nobody.
    pub fn take(subject: &mut Subject, verified: bool) -> Self {
        let email = subject.email.take().map(SecretString::from);
        let phone = subject.phone.take().map(SecretString::from);
        let email = email.and_then(|email| of_email(email.expose_secret()));
        let phone = phone.and_then(|phone| of_phone(phone.expose_secret()));
        let ready = |hex: Option<String>| hex.as_deref().and_then(ready_made);
        let ready_email = ready(subject.email_sha256.take()).map(|lower| Contact::of(lower, None));
        // A number has one normal form.
        let ready_phone = ready(subject.phone_sha256.take()).map(|lower| Contact::of(lower, Some(lower)));
        let said = |contact| Box::new(Said { contact, verified });
        // Of a number without its country the digest that comes beside it says more.
        let phone = phone.map(|own| Contact { uid2: own.uid2.or_else(|| ready_phone?.uid2), ..own });
        let phone = phone.or(ready_phone);
        Self { email: email.or(ready_email).map(said), phone: phone.map(said) }
    }

    /// Takes what the customer's server vouches for, by SHA-256, in place of what the event claims. Of the same
    /// contact all digests that the event has count.
    pub fn vouch(&mut self, email: Option<[u8; 32]>, phone: Option<[u8; 32]>) {
        let vouched = |claimed: Option<&Said>, sha256: [u8; 32], uid2: fn(Digests) -> Option<Digests>| {
            let lower = Digests { sha256, sha1: None, md5: None };
            let has = |form: Digests| form.sha256 == sha256;
            let is_same =
                |own: &Contact| has(own.lower) || uid2(lower).is_some() && own.uid2.is_some_and(has);
            let same = claimed.map(|said| said.contact).filter(is_same);
            let contact = same.unwrap_or(Contact::of(lower, uid2(lower)));
            Some(Box::new(Said { contact, verified: true }))
        };
        if let Some(sha256) = email {
            self.email = vouched(self.email.as_deref(), sha256, |_| None);
        }
        if let Some(sha256) = phone {
            // A number has one normal form.
            self.phone = vouched(self.phone.as_deref(), sha256, Some);
        }
    }

    /// Contacts that are there, each with the word for it.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Said)> {
        [("email", &self.email), ("phone", &self.phone)]
            .into_iter()
            .filter_map(|(what, said)| Some((what, **said.as_ref()?)))
    }
}

fn of_email(text: &str) -> Option<Contact> {
    let email = normal::email(text)?;
    Some(Contact::of(digests(&email.lower), email.uid2.map(|form| digests(&form))))
}

fn of_phone(text: &str) -> Option<Contact> {
    let normal::Phone { lower, e164, digits: alone, ten } = normal::phone(text)?;
    let form = |form: Option<normal::Clear>| form.map(|form| digests(&form));
    Some(Contact { lower: digests(&lower), uid2: form(e164), digits: form(alone), ten: form(ten) })
}

fn digests(text: &str) -> Digests {
    Digests {
        sha256: Sha256::digest(text).into(),
        sha1: Some(Sha1::digest(text).into()),
        md5: Some(Md5::digest(text).into()),
    }
}

fn ready_made(text: &str) -> Option<Digests> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(text.trim(), &mut sha256).ok()?;
    Some(Digests { sha256, sha1: None, md5: None }).filter(|_| !OF_NOTHING.contains(&sha256))
}

/// SHA-256 digests of texts that are nobody's email or phone: tag managers digest what is not there as well.
static OF_NOTHING: LazyLock<HashSet<[u8; 32]>> = LazyLock::new(|| {
    let signs =
        ["", " ", "+", "-", "0", "-1", "@", "[]", "{}", "[object Object]", "[object object]", "(not set)"];
    let words = placeholder::words().flat_map(|word| {
        let (mut capital, rest) = word
            .split_at_checked(1)
            .map_or_else(Default::default, |(first, rest)| (first.to_uppercase(), rest));
        capital.push_str(rest);
        [word.to_owned(), word.to_uppercase(), capital, format!("{word}@{word}.com")]
    });
    words.chain(signs.map(str::to_owned)).map(|text| Sha256::digest(text).into()).collect()
});

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn of(email: &str, phone: &str) -> Contacts {
        let mut subject = Subject {
            email: Some(email.to_owned()),
            phone: Some(phone.to_owned()),
            email_sha256: Some("00".repeat(32)),
            phone_sha256: Some("00".repeat(32)),
            ..Subject::default()
        };
        let contacts = Contacts::take(&mut subject, false);
        assert_eq!((subject.email, subject.phone), (None, None));
        contacts
    }

    fn uid2(said: Option<&Said>) -> Option<String> {
        Some(STANDARD.encode(said?.contact.uid2?.sha256))
    }

    /// Published in UID2's documentation (gs-normalization-encoding) and the tests of its Java client.
    #[test]
    fn uid2_s_own_vectors() {
        for (email, digest) in [
            ("USER@example.com", "tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ="),
            ("JANESaoirse@gmail.com", "ku4mBX7Z3qJTXWyLFB1INzkyR2WZGW4ANSJUiW21iI8="),
            ("Jane.Saoirse+UID2@gmail.com", "ku4mBX7Z3qJTXWyLFB1INzkyR2WZGW4ANSJUiW21iI8="),
            ("te.st.test+alias@Gmail.com", "LkLfFrut8Tc3h/fIvYDiBKSbaMiau/DtaLBPQYszdMw="),
            (" TEst.TEST@Test.com ", "dvECjPKZHya0/SIhSGwP0m8SgTv1vzLxPULUOsm880M="),
            ("test+test@test.com", "rQ4yzdOz4uG8N54326QyZD6/JwqrXn4lmy34cVCojB8="),
            ("t.e.st@gmail.com", "h5JGBrQTGorO7q6IaFMfu5cSqqB6XTp1aybOD11spnQ="),
            ("foo@bar.com", "DH5qQFhi5ALrdqcPiib8cy0Hwykx6frpqxWCkR0uijs="),
        ] {
            assert_eq!(uid2(of(email, "").email.as_deref()).as_deref(), Some(digest), "{email}");
        }
        let phone = of("", "+1 234 567 8901").phone;
        assert_eq!(uid2(phone.as_deref()).as_deref(), Some("EObwtHBUqDNZR33LNSMdtt5cafsYFuGmuY4ZLenlue4="));
    }

    #[test]
    fn each_form_has_three_digests() {
        let email = of("Te.st+x@gmail.com", "").email.unwrap().contact;
        let lower = digests("te.st+x@gmail.com");
        assert_eq!((email.lower == lower, email.uid2 == Some(digests("test@gmail.com"))), (true, true));
        let known = digests("user@example.com");
        assert_eq!(hex::encode(known.sha1.unwrap()), "63a710569261a24b3766275b7000ce8d7b32e2f7");
        assert_eq!(hex::encode(known.md5.unwrap()), "b58996c504c5638798eb6b511e6f49af");
    }

    #[test]
    fn a_ready_made_digest_counts_where_there_is_nothing_in_clear() {
        let contacts = of("nonsense", "12345678901");
        let email = contacts.email.as_ref().unwrap().contact;
        assert_eq!((email.lower.sha256, email.uid2.is_none()), ([0; 32], true));
        assert_eq!(contacts.phone.as_ref().unwrap().contact.uid2.unwrap().sha256, [0; 32]);
        let mut bad = Subject { email_sha256: Some("0g".repeat(32)), ..Subject::default() };
        assert!(Contacts::take(&mut bad, false).email.is_none());
        assert!(!format!("{contacts:?}").contains('0'));
    }

    #[test]
    fn a_phone_is_digested_in_all_forms() {
        let phone = of("", " +1 (202) 555-0143").phone.unwrap().contact;
        assert!(phone.lower == digests("+1 (202) 555-0143"));
        let forms = [phone.uid2, phone.digits, phone.ten];
        assert!(forms == ["+12025550143", "12025550143", "2025550143"].map(|form| Some(digests(form))));
        let mut vouched = of("", "+1 (202) 555-0143");
        vouched.vouch(None, Some(digests("+12025550143").sha256));
        let vouched = vouched.phone.unwrap();
        assert_eq!((vouched.contact.ten.is_some(), vouched.verified), (true, true), "the same number");
    }

    #[test]
    fn a_digest_of_nothing_is_absent() {
        for nothing in ["", " ", "null", "NULL", "Undefined", "none", "n/a", "[object Object]"] {
            let digest = Some(hex::encode(Sha256::digest(nothing)));
            let mut subject =
                Subject { email_sha256: digest.clone(), phone_sha256: digest, ..Subject::default() };
            let contacts = Contacts::take(&mut subject, true);
            assert!(contacts.email.is_none() && contacts.phone.is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_is_vouched_for_takes_the_place_of_what_is_claimed() {
        let known = digests("user@example.com");
        let claimed = of("User@example.com", "+12345678901");
        let mut same = claimed.clone();
        same.vouch(Some(known.sha256), None);
        let (email, phone) = (same.email.unwrap(), same.phone.unwrap());
        assert_eq!(
            (email.contact, email.verified),
            (claimed.email.as_ref().unwrap().contact, true),
            "with all its digests"
        );
        assert!(!phone.verified, "which nobody vouches for");
        assert_eq!(Some(phone), claimed.phone);
        let mut other = claimed.clone();
        other.vouch(Some([1; 32]), Some([2; 32]));
        let (email, phone) = (other.email.unwrap(), other.phone.unwrap());
        assert_eq!((email.contact.lower.sha256, email.verified), ([1; 32], true));
        assert!(email.contact.uid2.is_none());
        assert_eq!((phone.contact.uid2.unwrap().sha256, phone.verified), ([2; 32], true));
        let mut alone = Contacts::default();
        alone.vouch(None, Some([3; 32]));
        assert!(alone.email.is_none() && alone.phone.unwrap().verified);
    }
}
