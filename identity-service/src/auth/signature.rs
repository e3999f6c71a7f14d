//! HMAC signatures of server calls: `sha256=<hex HMAC-SHA256(server secret, body)>`, or over
//! `timestamp.body` where a timestamp is sent.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use time::OffsetDateTime;

/// How far a timestamp may be off, both ways, in seconds (as Stripe and Standard Webhooks have it).
const WINDOW_SECONDS: u64 = 300;

/// Whether any secret that is still in force made `header`. Without a secret nothing verifies.
pub fn verifies(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    header: &str,
    timestamp: Option<&str>,
    body: &[u8],
    now: OffsetDateTime,
) -> bool {
    let mut expected = [0_u8; 32];
    let Some(Ok(())) =
        header.strip_prefix("sha256=").map(|digits| hex::decode_to_slice(digits, &mut expected))
    else {
        return false;
    };
    if !timestamp.is_none_or(|text| is_recent(text, now)) {
        return false;
    }
    keyed(secrets, now).any(|mut mac| {
        if let Some(timestamp) = timestamp {
            mac.update(timestamp.as_bytes());
            mac.update(b".");
        }
        mac.update(body);
        // Compares in constant time.
        mac.verify_slice(&expected).is_ok()
    })
}

/// Whether `hash` is the hex HMAC-SHA256 of a user ID under any secret that is still in force: the customer's server
/// says that this is who is logged in.
pub fn vouches(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    hash: &str,
    user_id: &str,
    now: OffsetDateTime,
) -> bool {
    let mut expected = [0_u8; 32];
    hex::decode_to_slice(hash, &mut expected).is_ok()
        && keyed(secrets, now).any(|mut mac| {
            mac.update(user_id.as_bytes());
            mac.verify_slice(&expected).is_ok()
        })
}

fn keyed(
    secrets: &[(SecretSlice<u8>, Option<OffsetDateTime>)],
    now: OffsetDateTime,
) -> impl Iterator<Item = Hmac<Sha256>> {
    secrets
        .iter()
        .filter(move |(_, ends)| ends.is_none_or(|ends| now < ends))
        .filter_map(|(secret, _)| Hmac::new_from_slice(secret.expose_secret()).ok())
}

fn is_recent(text: &str, now: OffsetDateTime) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: Option<i64> = digits.then(|| text.parse().ok()).flatten();
    seconds.is_some_and(|seconds| seconds.abs_diff(now.unix_timestamp()) <= WINDOW_SECONDS)
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn sign(secret: &[u8], parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        for part in parts {
            mac.update(part);
        }
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
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
        assert!(!verifies(&own, &good, Some(&ts), b"{}", NOW + Duration::seconds(301)));
        assert!(!verifies(&own, &good, Some(&ts), b"{}", NOW - Duration::seconds(301)));
        assert!(!verifies(&own, &sign(b"k", &[b"{}"]), Some(&ts), b"{}", NOW), "not covered");
        assert!(!verifies(&own, &good, None, b"{}", NOW), "stripped");
        for odd in ["", "-1", "1e9", "99999999999999999999", "abc"] {
            let signed = sign(b"k", &[odd.as_bytes(), b".", b"{}"]);
            assert!(!verifies(&own, &signed, Some(odd), b"{}", NOW), "{odd}");
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
}
