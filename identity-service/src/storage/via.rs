//! The way in which an identifier came to its canonical identity.

/// The way, the weaker first: a stronger one takes a weaker one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// A browser's own identity, which has no user.
    Own,
    /// A link token from another of the customer's domains.
    LinkToken,
    /// The browser's cookie, where it differed from the event's anonymous ID.
    Cookie,
    /// A user ID that nothing vouched for.
    Claim,
    /// A user ID with a token of the customer's server.
    IdentityToken,
    /// A user ID with a hash of the customer's server.
    UserHash,
    /// A call that the customer's server signed, or a service made.
    Signed,
}

impl Via {
    const ALL: [Self; 7] = [
        Self::Own,
        Self::LinkToken,
        Self::Cookie,
        Self::Claim,
        Self::IdentityToken,
        Self::UserHash,
        Self::Signed,
    ];

    /// The word in PostgreSQL and in answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::LinkToken => "link_token",
            Self::Cookie => "cookie",
            Self::Claim => "claim",
            Self::IdentityToken => "identity_token",
            Self::UserHash => "user_hash",
            Self::Signed => "signed",
        }
    }

    /// The way that a word stands for. One that is not known, as of a later version, proves nothing.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|via| via.word() == word).unwrap_or(Self::Claim)
    }

    /// True where the customer's server has vouched for it.
    pub fn is_proof(self) -> bool {
        self >= Self::IdentityToken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_three_ways_are_proofs() {
        assert!(Via::ALL.is_sorted());
        for via in Via::ALL {
            assert_eq!(Via::from_word(via.word()), via);
        }
        let proofs: Vec<&str> = Via::ALL.into_iter().filter(|via| via.is_proof()).map(Via::word).collect();
        assert_eq!(proofs, ["identity_token", "user_hash", "signed"]);
        assert!(!Via::from_word("of a later version").is_proof());
    }
}
