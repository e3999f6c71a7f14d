//! Passwords: read once, hashed with Argon2id.

use std::io::{self, IsTerminal};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use secrecy::{ExposeSecret, SecretString};
use serve::{Env, EnvError};

use crate::owner::OwnerError;

/// Length in characters (ASVS 6.2.1 and 6.2.9); nothing is cut or folded.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
/// Memory in KiB, passes and lanes (OWASP's first recommendation for Argon2id, design section 7).
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// The password in `OWNER_PASSWORD` (or its file), else the first line of standard input.
pub fn read(env: &Env) -> Result<SecretString, EnvError> {
    const NAME: &str = "OWNER_PASSWORD";
    if let Some(password) = env.secret(NAME)? {
        return Ok(password);
    }
    if io::stdin().is_terminal() {
        eprintln!("Password (shown as you type):");
    }
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| EnvError::malformed(NAME, format_args!("can't be read: {}", error.kind())))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line.into())
}

/// The PHC string of `password`. Takes about 30 ms and 19 MiB; call it off the async threads.
pub fn hash(password: &SecretString) -> Result<String, OwnerError> {
    let password = password.expose_secret();
    if !LENGTH.contains(&password.chars().count()) {
        return Err(OwnerError::Password);
    }
    let params = Params::new(COST.0, COST.1, COST.2, None).map_err(|_| OwnerError::Hash)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| OwnerError::Hash)
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordVerifier, password_hash::phc::PasswordHash};

    use super::*;

    #[test]
    fn a_hash_has_the_cost_of_the_design_and_verifies() {
        let password = "pass phrase 🍪🍪".to_owned();
        let hash = hash(&password.clone().into()).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let parsed = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok());
        assert!(Argon2::default().verify_password(b"pass phrase", &parsed).is_err());
    }

    #[test]
    fn length_counts_characters() {
        for (password, good) in [
            ("a".repeat(11), false),
            ("é".repeat(12), true),
            ("🍪".repeat(128), true),
            ("a".repeat(129), false),
        ] {
            assert_eq!(hash(&password.into()).is_ok(), good);
        }
    }
}
