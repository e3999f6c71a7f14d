//! Service tokens: which internal service is calling, and what its roles allow.

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Fewest bytes of a secret that is accepted.
const MIN_SECRET_BYTES: usize = 16;

/// The roles of a service, which say what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// Calls for browsers and for signed callers.
    pub edge: bool,
    /// The same calls, and calls that name organisations.
    pub internal: bool,
    /// Calls of the catalogue and about people.
    pub admin: bool,
}

/// The requirement of a method on its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Open to callers without a token.
    Open,
    /// Open to callers with a token, whatever its roles.
    Any,
    /// Needs the role `edge` or `internal`.
    Collect,
    /// Needs the role `internal`.
    Internal,
    /// Needs the role `admin`.
    Admin,
}

impl Access {
    /// True where a token with `roles` meets the requirement.
    pub fn allows(self, roles: Roles) -> bool {
        match self {
            Self::Open | Self::Any => true,
            Self::Collect => roles.edge || roles.internal,
            Self::Internal => roles.internal,
            Self::Admin => roles.admin,
        }
    }
}

/// The configured tokens, as hashes.
#[derive(Debug)]
pub struct ServiceTokens {
    tokens: Vec<([u8; 32], Roles)>,
    /// True in a development run, where callers without a token may do everything.
    open: bool,
}

impl ServiceTokens {
    /// Makes an empty list that lets everyone do everything. Meant for a development run only.
    pub fn open() -> Self {
        Self { tokens: Vec::new(), open: true }
    }

    /// Reads `name:role:secret,…`. A name may occur several times, for rotation; a secret may, for several
    /// roles. The error names what is wrong, never a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (index, entry) in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).enumerate() {
            let at = index + 1;
            let mut parts = entry.splitn(3, ':');
            let (Some(name), Some(role), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(format!("entry {at} is not name:role:secret"));
            };
            let roles = match role {
                "edge" => Roles { edge: true, ..Roles::default() },
                "internal" => Roles { internal: true, ..Roles::default() },
                "admin" => Roles { admin: true, ..Roles::default() },
                _ => return Err(format!("entry {at}: the role is not edge, internal or admin")),
            };
            if name.is_empty() || secret.len() < MIN_SECRET_BYTES {
                return Err(format!(
                    "entry {at}: the secret is under {MIN_SECRET_BYTES} bytes or the name empty"
                ));
            }
            tokens.push((digest(secret.as_bytes()), roles));
        }
        if tokens.is_empty() {
            return Err("there are no tokens".to_owned());
        }
        Ok(Self { tokens, open: false })
    }

    /// Finds the roles of the request's token; none where it is missing or unknown. Hashes are compared in
    /// constant time and to the end of the list, so that time tells nothing.
    pub fn roles(&self, headers: &HeaderMap) -> Option<Roles> {
        if self.open {
            return Some(Roles { edge: true, internal: true, admin: true });
        }
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(header), None) = (sent.next(), sent.next()) else { return None };
        let (scheme, secret) = header.as_bytes().split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let sent = digest(secret);
        let mut known = false;
        let mut all = Roles::default();
        for (token, roles) in &self.tokens {
            let matches = bool::from(token.ct_eq(&sent));
            known |= matches;
            all.edge |= matches & roles.edge;
            all.internal |= matches & roles.internal;
            all.admin |= matches & roles.admin;
        }
        known.then_some(all)
    }
}

fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn roles(tokens: &ServiceTokens, header: &str) -> Option<Roles> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        tokens.roles(&headers)
    }

    #[test]
    fn a_secret_has_the_roles_of_all_its_entries() {
        let tokens =
            ServiceTokens::parse(&format!("demo:internal:{SECRET}, demo:admin:{SECRET},e:edge:{SECRET}:x"))
                .unwrap();
        let both = roles(&tokens, &format!("Bearer {SECRET}")).unwrap();
        assert_eq!(both, Roles { edge: false, internal: true, admin: true });
        assert!(roles(&tokens, &format!("bearer {SECRET}:x")).unwrap().edge, "a secret may hold colons");
        for bad in ["", "Bearer ", "Bearer x", SECRET, "Basic 0123456789abcdef"] {
            assert_eq!(roles(&tokens, bad), None, "{bad}");
        }
        assert_eq!(tokens.roles(&HeaderMap::new()), None);
    }

    #[test]
    fn faults_are_named_without_the_secret() {
        for bad in
            ["", " , ", "a", "a:b", "a:root:0123456789abcdef", "a:edge:short", ":edge:0123456789abcdef"]
        {
            let error = ServiceTokens::parse(bad).unwrap_err();
            assert!(!error.contains(SECRET) && !error.contains("short:"), "{error}");
        }
    }
}
