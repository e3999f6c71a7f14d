//! Passwords: what may be one, and hashing and checking with Argon2id. All of it is slow on purpose: call it
//! through [`super::hashing`].

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use secrecy::{ExposeSecret, SecretString};
use zxcvbn::{Score, zxcvbn};

/// Length in characters (ASVS 6.2.1 and 6.2.9); nothing is cut or folded.
const LENGTH_CHARS: std::ops::RangeInclusive<usize> = 12..=128;
/// Memory in KiB, passes and lanes (the first recommendation for Argon2id in OWASP's Password Storage Cheat
/// Sheet).
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// Most memory in KiB, passes and lanes that a stored hash may cost: somebody who can write to the table must
/// not be able to stop the service with it.
const MAX_STORED_COST: (u32, u32, u32) = (128 * 1024, 10, 4);
/// Score that a password must reach to be set: of 0 to 4, "safely unguessable: moderate protection from
/// offline slow-hash scenario" (zxcvbn). Its dictionaries hold the passwords that are used most.
const MIN_STRENGTH: Score = Score::Three;
/// Salt and output of a hash that no password is known for.
const DUMMY_SALT_AND_HASH: &str = "c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Characters of the shortest word that says something about anyone.
const MIN_WORD_CHARS: usize = 3;

/// Reasons why a password can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The password is too short or too long.
    #[error("must have 12 to 128 characters")]
    Length,
    /// The password is a known one, a pattern, or made of what is known of its owner.
    #[error("is easy to guess: take several unrelated words, or a password manager's")]
    Weak,
    /// Argon2 refused to hash it.
    #[error("can't be hashed")]
    Hash,
}

/// Result of checking a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The password is the stored one.
    Right {
        /// True where the stored hash costs less than one of today.
        outdated: bool,
    },
    /// The password is another one.
    Wrong,
    /// The stored hash is malformed, or costs more than any of ours: nobody knows.
    NotComputed,
}

/// Tells whether a text has more characters than any password has.
pub fn is_too_long(password: &SecretString) -> bool {
    password.expose_secret().chars().nth(*LENGTH_CHARS.end()).is_some()
}

/// Checks and hashes a password that someone sets, of whom `about` is known, into a PHC string. Looks at the
/// first 100 characters for what is easy to guess, which takes up to a quarter of a second where they stand
/// for letters in every way.
pub fn set(password: &SecretString, about: &[String]) -> Result<String, Refused> {
    if !LENGTH_CHARS.contains(&password.expose_secret().chars().count()) {
        return Err(Refused::Length);
    }
    let words = about.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let words = words.filter(|word| word.chars().count() >= MIN_WORD_CHARS);
    let known: Vec<&str> = about.iter().map(String::as_str).chain(words).collect();
    if zxcvbn(password.expose_secret(), &known).score() < MIN_STRENGTH {
        return Err(Refused::Weak);
    }
    hash(password)
}

/// Hashes a password into a PHC string.
pub fn hash(password: &SecretString) -> Result<String, Refused> {
    let params = Params::new(COST.0, COST.1, COST.2, None).map_err(|_| Refused::Hash)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.expose_secret().as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|_| Refused::Hash)
}

/// Checks a password against a stored hash, with the cost that this was made with. Without a hash, or with
/// one that is not to be computed, the work is that of a usual check, and the answer is no.
pub fn verify(password: &SecretString, stored: Option<&str>) -> Verification {
    let matches = |hash: &PasswordHash| {
        // Algorithm, version and cost are the hash's own.
        Argon2::default().verify_password(password.expose_secret().as_bytes(), hash).is_ok()
    };
    let Some((hash, outdated)) = stored.and_then(computable) else {
        let dummy = format!("$argon2id$v=19$m={},t={},p={}${DUMMY_SALT_AND_HASH}", COST.0, COST.1, COST.2);
        #[expect(clippy::expect_used, reason = "without this work a login would tell who has an account")]
        let dummy = PasswordHash::new(&dummy).expect("the dummy is a hash");
        let _ = matches(&dummy);
        return if stored.is_some() { Verification::NotComputed } else { Verification::Wrong };
    };
    if matches(&hash) { Verification::Right { outdated } } else { Verification::Wrong }
}

/// Parses a stored hash, and tells whether it costs less than one of today. None where it is not Argon2, or
/// costs over [`MAX_STORED_COST`].
fn computable(stored: &str) -> Option<(PasswordHash, bool)> {
    let hash = PasswordHash::new(stored).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory > MAX_STORED_COST.0
        || passes > MAX_STORED_COST.1
        || lanes > MAX_STORED_COST.2
        || hash.salt.is_none()
        || hash.hash.is_none()
    {
        return None;
    }
    let same = algorithm == Algorithm::Argon2id && hash.version == Some(Version::V0x13.into());
    Some((hash, !same || memory < COST.0 || passes < COST.1))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const GOOD: &str = "tugboat lantern 38 orchard";

    fn with(algorithm: Algorithm, version: Version, (memory, passes, lanes): (u32, u32, u32)) -> String {
        let argon2 = Argon2::new(algorithm, version, Params::new(memory, passes, lanes, None).unwrap());
        argon2.hash_password(GOOD.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn a_hash_has_the_cost_of_the_design_and_verifies() {
        for password in ["pass phrase 🍪🍪 of mine".to_owned(), " a".repeat(64), "🍪é".repeat(32)] {
            let hash = hash(&password.clone().into()).unwrap();
            assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
            assert_eq!(
                verify(&password.clone().into(), Some(&hash)),
                Verification::Right { outdated: false }
            );
            let cut: String = password.chars().take(password.chars().count() - 1).collect();
            assert_eq!(verify(&cut.into(), Some(&hash)), Verification::Wrong, "nothing is cut");
            assert_eq!(
                verify(&password.trim_start().to_uppercase().into(), Some(&hash)),
                Verification::Wrong
            );
        }
    }

    #[test]
    fn a_stored_hash_is_checked_at_its_own_cost_up_to_a_cap() {
        let right = |hash: &str| verify(&GOOD.into(), Some(hash));
        let id = |cost| with(Algorithm::Argon2id, Version::V0x13, cost);
        assert_eq!(right(&id((8 * 1024, 1, 1))), Verification::Right { outdated: true });
        assert_eq!(right(&id((19_456, 2, 2))), Verification::Right { outdated: false });
        assert_eq!(right(&id((32 * 1024, 3, 4))), Verification::Right { outdated: false });
        assert_eq!(
            right(&with(Algorithm::Argon2i, Version::V0x13, COST)),
            Verification::Right { outdated: true }
        );
        assert_eq!(
            right(&with(Algorithm::Argon2id, Version::V0x10, COST)),
            Verification::Right { outdated: true }
        );
        let began = Instant::now();
        for hostile in [
            "$argon2id$v=19$m=4194304,t=1000,p=1$c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=131073,t=2,p=1$c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=11,p=1$c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=2,p=5$c2lnbmFsLWlkZW50aXR5$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=19456,t=2,p=1$c2lnbmFsLWlkZW50aXR5",
            "$2b$12$abcdefghijklmnopqrstuv",
            "",
        ] {
            assert_eq!(right(hostile), Verification::NotComputed, "{hostile}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "one of them was computed");
    }

    #[test]
    fn a_check_of_nothing_takes_as_long_as_any() {
        let hash = hash(&GOOD.into()).unwrap();
        let time = |stored: Option<&str>| {
            let began = Instant::now();
            assert_eq!(verify(&"wrong".into(), stored), Verification::Wrong);
            began.elapsed()
        };
        // In turn, so that a busy machine slows both. What it adds is never less than nothing: the quickest of many
        // is the work itself.
        let least =
            |(one, other): (Duration, Duration), _| (one.min(time(None)), other.min(time(Some(&hash))));
        let (nothing, wrong) = (0..50).fold((Duration::MAX, Duration::MAX), least);
        let ratio = nothing.as_secs_f64() / wrong.as_secs_f64();
        assert!((0.9..1.1).contains(&ratio), "{nothing:?} and {wrong:?}");
    }

    #[test]
    fn length_counts_characters() {
        let refused = |password: String| set(&password.into(), &[]).err();
        assert_eq!(refused("vB7#qL2$xW9".to_owned()), Some(Refused::Length), "eleven");
        assert_eq!(refused("vB7#qL2$xW9é".to_owned()), None, "twelve, in thirteen bytes");
        let most: String = GOOD.chars().chain(std::iter::repeat('🍪')).take(128).collect();
        assert_eq!(refused(most.clone()), None);
        assert_eq!(refused(most.clone() + "🍪"), Some(Refused::Length));
        assert!(!is_too_long(&most.clone().into()) && is_too_long(&(most + "a").into()));
    }

    #[test]
    fn what_is_easy_to_guess_is_refused() {
        let about = ["ada.lovelace@analytical.example", "Augusta Ada King", "Babbage & Sons Engines"];
        let about: Vec<String> = about.iter().map(|text| (*text).to_owned()).collect();
        for weak in [
            "password1234",
            "Passw0rd!234",
            "123456789012",
            "qwertyuiop[]",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "iloveyou1234",
            "ada.lovelace@analytical.example",
            "Babbage & Sons Engines",
            "lovelaceanalytical",
        ] {
            assert_eq!(set(&weak.into(), &about), Err(Refused::Weak), "{weak}");
        }
        for good in
            [GOOD, "correct horse battery staple", "vB7#qL2$xW9!", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]
        {
            assert!(set(&good.into(), &about).is_ok(), "{good}");
        }
    }
}
