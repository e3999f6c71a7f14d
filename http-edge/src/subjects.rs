//! Events become subjects of one `Resolve` call, in order; adjacent ones about the same person share one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use prost_types::Timestamp;
use proto::v1::{CollectedEvent, ConsentSignals, Subject, VendorCookie};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{caller, cookies::BrowserCookies, event::Event};

/// Events that make one subject.
#[derive(Debug, PartialEq, Eq)]
pub struct Group<'a> {
    event: Event<'a>,
    /// The first of the events, as it was sent.
    raw: &'a str,
    /// Indices of the events in their batch.
    pub indices: Vec<usize>,
    /// Index of the event whose consent counts; none where none brings any.
    pub consent_of: Option<usize>,
}

/// Puts `events` (each with its index, and as it was sent) into groups.
pub fn collapse<'a>(events: impl IntoIterator<Item = (usize, &'a str, Event<'a>)>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (index, raw, event) in events {
        let consent_of = event.consent.map(|_| index);
        match groups.last_mut() {
            Some(last) if same(&last.event, &event) => {
                merge(&mut last.event, event);
                last.indices.push(index);
                last.consent_of = consent_of.or(last.consent_of);
            }
            _ => groups.push(Group { event, raw, indices: vec![index], consent_of }),
        }
    }
    groups
}

/// The events of `groups` as they were sent, `raw` being all of them in order, each with its subject's place.
pub fn events(groups: &[Group<'_>], raw: &[Cow<'_, str>]) -> Vec<CollectedEvent> {
    let mut raw = raw.iter();
    let mut events = Vec::with_capacity(raw.len());
    for (subject, group) in groups.iter().enumerate() {
        let subject = u32::try_from(subject).unwrap_or(u32::MAX);
        let own = raw.by_ref().take(group.indices.len());
        events.extend(own.map(|raw| CollectedEvent { subject, json: raw.as_bytes().to_vec() }));
    }
    events
}

/// True where both events say the same about who the person is, and neither says what the other would hide.
fn same(a: &Event<'_>, b: &Event<'_>) -> bool {
    fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
        a.is_none() || b.is_none() || a == b
    }
    a.anonymous_id == b.anonymous_id
        && a.user_id == b.user_id
        && a.user_hash == b.user_hash
        && a.identity_token == b.identity_token
        && a.reset == b.reset
        && agree(a.traits.email.as_ref(), b.traits.email.as_ref())
        && agree(a.traits.phone.as_ref(), b.traits.phone.as_ref())
        && agree(a.traits.email_sha256.as_ref(), b.traits.email_sha256.as_ref())
        && agree(a.traits.phone_sha256.as_ref(), b.traits.phone_sha256.as_ref())
        && agree(clicked(a).as_ref(), clicked(b).as_ref())
}

/// Texts of the event's page that can hold a click ID; none where none can.
fn clicked<'e, 'a>(event: &'e Event<'a>) -> Option<[Option<&'e Cow<'a, str>>; 3]> {
    let with_parameters = |url: &&Cow<'a, str>| url.bytes().any(|byte| matches!(byte, b'?' | b'#'));
    let places = [
        event.page_url.as_ref().filter(with_parameters),
        event.page_search.as_ref(),
        event.referrer.as_ref().filter(with_parameters),
    ];
    places.iter().any(Option::is_some).then_some(places)
}

/// Adds the later event to the earlier one; the later one wins.
fn merge<'a>(into: &mut Event<'a>, later: Event<'a>) {
    fn take<T>(into: &mut Option<T>, later: Option<T>) {
        if later.is_some() {
            *into = later;
        }
    }
    // A referrer says who led to that page, and to no other.
    if clicked(into).is_none() && (later.page_url.is_some() || clicked(&later).is_some()) {
        (into.page_url, into.page_search, into.referrer) =
            (later.page_url, later.page_search, later.referrer);
    }
    take(&mut into.message_id, later.message_id);
    take(&mut into.timestamp, later.timestamp);
    take(&mut into.consent, later.consent);
    take(&mut into.traits.email, later.traits.email);
    take(&mut into.traits.phone, later.traits.phone);
    take(&mut into.traits.email_sha256, later.traits.email_sha256);
    take(&mut into.traits.phone_sha256, later.traits.phone_sha256);
}

/// Subjects of `groups`. A browser's request adds what its `cookies` say, and asks for pending syncs once where it
/// `wants_syncs`; a signed call has neither.
pub fn subjects(
    groups: &[Group<'_>],
    headers: &HeaderMap,
    cookies: Option<&BrowserCookies>,
    wants_syncs: bool,
) -> Vec<Subject> {
    let sec_gpc = caller::sec_gpc(headers);
    let last = groups.len().saturating_sub(1);
    let of_group = |(at, group): (usize, &Group<'_>)| {
        let mut subject = subject(&group.event, sec_gpc);
        if let Some(cookies) = cookies {
            add(&mut subject, cookies);
            subject.want_pending_syncs = wants_syncs && at == last;
        } else {
            subject.message_id = Some(message_id(group, headers));
            subject.timestamp = time_of(&group.event);
        }
        subject
    };
    groups.iter().enumerate().map(of_group).collect()
}

fn add(subject: &mut Subject, cookies: &BrowserCookies) {
    let mut ids = cookies.anonymous_ids.iter().cloned();
    subject.cookie_anonymous_id = ids.next();
    subject.cookie_anonymous_ids = ids.collect();
    subject.vendor_cookies = cookies.vendors.iter().cloned().collect();
    let further = cookies.further_vendors.iter().cloned();
    subject.further_vendor_cookies = further.map(|(name, value)| VendorCookie { name, value }).collect();
}

/// Subject as `event` alone tells it.
fn subject(event: &Event<'_>, sec_gpc: bool) -> Subject {
    Subject {
        anonymous_id: owned(event.anonymous_id.as_deref()),
        user_id: owned(event.user_id.as_deref()),
        user_hash: owned(event.user_hash.as_deref()),
        identity_token: owned(event.identity_token.as_deref()),
        reset: event.reset,
        page_url: owned(event.page_url.as_deref()),
        page_search: owned(event.page_search.as_deref()),
        referrer: owned(event.referrer.as_deref()),
        consent: (event.consent.is_some() || sec_gpc)
            .then(|| ConsentSignals { json: owned(event.consent), sec_gpc }),
        email: owned(event.traits.email.as_deref()),
        phone: owned(event.traits.phone.as_deref()),
        email_sha256: owned(event.traits.email_sha256.as_deref()),
        phone_sha256: owned(event.traits.phone_sha256.as_deref()),
        ..Subject::default()
    }
}

/// The ID of a signed message, which changes who is who once. One that has none is known again by what was signed.
fn message_id(group: &Group<'_>, headers: &HeaderMap) -> String {
    owned(group.event.message_id.as_deref()).unwrap_or_else(|| {
        let stamp = headers.get(&caller::TIMESTAMP).map(HeaderValue::as_bytes).unwrap_or_default();
        let digest = Sha256::new().chain_update(stamp).chain_update(b".").chain_update(group.raw).finalize();
        format!("sha256:{}", hex::encode(digest))
    })
}

/// The event's own time; none where it is not of RFC 3339.
fn time_of(event: &Event<'_>) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(event.timestamp.as_deref()?, &Rfc3339).ok()?;
    Some(Timestamp { seconds: at.unix_timestamp(), nanos: i32::try_from(at.nanosecond()).ok()? })
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::event::Traits;

    fn event<'a>(anonymous: &'a str, consent: Option<&'a str>, url: Option<&'a str>) -> Event<'a> {
        Event {
            anonymous_id: Some(anonymous.into()),
            consent,
            page_url: url.map(Cow::Borrowed),
            ..Event::default()
        }
    }

    fn groups<'a>(events: &[Event<'a>]) -> Vec<Group<'a>> {
        collapse(events.iter().cloned().enumerate().map(|(index, event)| (index, "{}", event)))
    }

    #[test]
    fn adjacent_events_of_one_identity_are_one_subject_and_later_consent_wins() {
        let groups = groups(&[
            event("a", Some("1"), None),
            event("a", None, None),
            event("a", Some("2"), None),
            event("b", None, None),
            event("a", None, None),
        ]);
        let found: Vec<_> = groups.iter().map(|g| (g.event.consent, g.indices.as_slice())).collect();
        assert_eq!(found, [(Some("2"), &[0, 1, 2][..]), (None, &[3]), (None, &[4])]);
    }

    #[test]
    fn no_identity_and_no_click_is_hidden() {
        let login = Event { user_id: Some("u".into()), ..event("a", None, None) };
        let logout = Event { reset: true, ..event("a", None, None) };
        assert_eq!(groups(&[event("a", None, None), login, logout]).len(), 3);
        let click = |url| event("a", None, Some(url));
        let merged = groups(&[click("/"), click("/?gclid=1"), click("/next")]);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].event.page_url.as_deref(), Some("/?gclid=1"));
        assert_eq!(groups(&[click("/?gclid=1"), click("/?gclid=2")]).len(), 2);
        let led = |url, by: Option<&'static str>| Event { referrer: by.map(Cow::Borrowed), ..click(url) };
        for events in
            [[led("/?_dfl=1", None), led("/", Some("own"))], [led("/", Some("own")), led("/?_dfl=1", None)]]
        {
            assert_eq!(subject(&groups(&events)[0].event, false).referrer, None, "of another page");
        }
        let kept = groups(&[led("/?_dfl=1", Some("own")), led("/?_dfl=1", None)]);
        assert_eq!(kept[0].event.referrer.as_deref(), Some("own"));
        let search = |search| Event { page_search: Some(Cow::Borrowed(search)), ..click("/") };
        for (one, other) in [
            (search("?gclid=1"), search("?gclid=2")),
            (search("?gclid=1"), click("/?gclid=2")),
            (click("/#gclid=1"), click("/#gclid=2")),
            (led("/", Some("/?gclid=1")), led("/", Some("/?gclid=2"))),
            (led("/", Some("/?gclid=1")), click("/?gclid=2")),
        ] {
            assert_eq!(groups(&[one, other]).len(), 2);
        }
        for hidden in [search("?gclid=1"), click("/#gclid=1"), led("/", Some("/?gclid=1"))] {
            for events in [[hidden.clone(), click("/next")], [click("/before"), hidden.clone()]] {
                let merged = groups(&events);
                assert_eq!(merged.len(), 1);
                assert_eq!(clicked(&merged[0].event), clicked(&hidden));
            }
        }
        let email = |email: &'static str| Event {
            traits: Traits { email: Some(email.into()), ..Traits::default() },
            ..event("a", None, None)
        };
        assert_eq!(groups(&[event("a", None, None), email("x"), email("y")]).len(), 2);
    }

    #[test]
    fn a_browser_adds_its_cookies_and_asks_once_and_a_server_does_not() {
        let mut headers: HeaderMap =
            [(COOKIE, "_dfid=c; _ga=g; other=o; _dfid=d; _ga=h".parse().unwrap())].into_iter().collect();
        headers.insert("sec-gpc", "1".parse().unwrap());
        let groups = groups(&[event("a", None, None), event("b", Some("{}"), None)]);
        let cookies = BrowserCookies::read(&headers, &["_ga".to_owned()]);
        let browser = subjects(&groups, &headers, Some(&cookies), true);
        assert!(browser.iter().all(|s| s.cookie_anonymous_id.as_deref() == Some("c")));
        assert!(browser.iter().all(|s| s.cookie_anonymous_ids == ["d"]));
        let further = VendorCookie { name: "_ga".into(), value: "h".into() };
        assert_eq!(browser[1].further_vendor_cookies, [further]);
        assert_eq!(browser[0].vendor_cookies.keys().collect::<Vec<_>>(), ["_ga"]);
        assert_eq!(browser.iter().map(|s| s.want_pending_syncs).collect::<Vec<_>>(), [false, true]);
        assert_eq!(browser[0].consent, Some(ConsentSignals { json: None, sec_gpc: true }));
        assert!(browser.iter().all(|s| s.message_id.is_none() && s.timestamp.is_none()));
        let unasked = subjects(&groups, &headers, Some(&cookies), false);
        assert!(unasked.iter().all(|s| !s.want_pending_syncs));
        let server = subjects(&groups, &headers, None, true);
        assert!(server.iter().all(|s| s.cookie_anonymous_id.is_none() && s.vendor_cookies.is_empty()));
        assert!(!server[1].want_pending_syncs);
    }

    #[test]
    fn a_signed_message_is_known_by_its_id_else_by_what_was_signed() {
        let id = |raw: &str, id: Option<&str>, stamp: Option<&str>| {
            let event = Event { message_id: id.map(Cow::Borrowed), ..event("a", None, None) };
            let mut headers = HeaderMap::new();
            if let Some(stamp) = stamp {
                headers.insert(&caller::TIMESTAMP, stamp.parse().unwrap());
            }
            subjects(&collapse([(0, raw, event)]), &headers, None, true)[0].message_id.clone().unwrap()
        };
        assert_eq!(id("{}", Some("m"), Some("1")), "m");
        let digests = [
            id("{}", None, None),
            id("{ }", None, None),
            id("{}", None, Some("1")),
            id("{}", None, Some("2")),
        ];
        assert!(digests.iter().all(|digest| digest.len() == 71 && digest.starts_with("sha256:")));
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest));
        }
        assert_eq!(id("{}", None, Some("1")), digests[2]);
    }

    #[test]
    fn the_event_s_own_time_is_rfc_3339_or_none() {
        let time = |text: &'static str| time_of(&Event { timestamp: Some(text.into()), ..Event::default() });
        let at = Timestamp { seconds: 1_795_255_200, nanos: 500_000_000 };
        assert_eq!(time("2026-11-21T10:00:00.5Z"), Some(at));
        assert_eq!(time("2026-11-21T11:00:00.5+01:00"), Some(at));
        for none in ["", "2026-11-21", "2026-11-21T10:00:00", "1795255200", "now", "99999-01-01T00:00:00Z"] {
            assert_eq!(time(none), None, "{none}");
        }
    }
}
