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

/// A route by which a browser is told something that is known of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The vendors' cookies that an answer sets.
    SetCookie,
    /// The syncs that are offered, which tell what has been synced.
    PendingSyncs,
    /// A token of `/v1/link`, which takes whoever brings it along.
    Link,
}

/// The values that a browser is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// Its own alone.
    Own,
    /// Those of the person: its own, and those of all that have shown a proof.
    Person,
}

impl Reader {
    /// All readers, in the order of the table's columns.
    pub const ALL: [Self; 3] = [Self::SetCookie, Self::PendingSyncs, Self::Link];
}

/// The table of what each way to join opens to a browser, by reader: its own always, the person's by a proof alone,
/// else anybody could type in another's user ID and see. Generated IDs and link tokens are a browser's own throughout.
/// Browsers of an identity in which nobody has shown a proof share one schedule.
#[rustfmt::skip]
pub const TABLE: [(Via, [Opens; Reader::ALL.len()]); Via::ALL.len()] = {
    use Opens::{Own, Person};
    //                   Set-Cookie, pending syncs, /v1/link
    [
        (Via::Own,           [Own, Own,    Own]),
        (Via::LinkToken,     [Own, Own,    Own]),
        (Via::Cookie,        [Own, Own,    Own]),
        (Via::Claim,         [Own, Own,    Own]),
        (Via::IdentityToken, [Own, Person, Own]),
        (Via::UserHash,      [Own, Person, Own]),
        (Via::Signed,        [Own, Person, Own]),
    ]
};

impl Via {
    /// All ways, the weaker first.
    pub const ALL: [Self; 7] = [
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

    /// The values that a browser which has come in this way is told of by `reader`.
    pub fn opens(self, reader: Reader) -> Opens {
        let row = TABLE.iter().find(|(way, _)| *way == self);
        let cells = row.into_iter().flat_map(|(_, cells)| Reader::ALL.into_iter().zip(cells));
        cells.into_iter().find(|(of, _)| *of == reader).map_or(Opens::Own, |(_, opens)| *opens)
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
    fn every_way_has_its_row_and_the_person_s_values_need_a_proof() {
        assert_eq!(TABLE.map(|(way, _)| way), Via::ALL);
        for via in Via::ALL {
            for reader in Reader::ALL {
                assert!(via.opens(reader) == Opens::Own || via.is_proof(), "{via:?} {reader:?}");
            }
        }
        assert_eq!(Via::UserHash.opens(Reader::PendingSyncs), Opens::Person);
        assert_eq!(Via::UserHash.opens(Reader::Link), Opens::Own);
    }

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
