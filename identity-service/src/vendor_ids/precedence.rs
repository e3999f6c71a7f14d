//! Precedence: whose vendor ID answers, of those that the identifiers of a person have brought.
//!
//! A browser's own value comes first, so that each event is delivered with what its browser really holds. A value of
//! another is the better known to be the same person's, the more its tie is worth: whoever only claims a user ID
//! neither adds nor changes anything for browsers that have shown a proof.

use time::OffsetDateTime;

use super::ties::Ties;
use crate::storage::postgres::rows::{Owner, VendorIdRow};

/// The one for whom an ID is asked.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// The person, by their canonical or user ID.
    Person,
    /// A browser of the person's, by its anonymous ID.
    Browser(&'a str),
}

/// Chooses among `ids`, which are all of one field and person; none where none of them may answer.
///
/// What a browser holds (an ID of a sync, an enrichment or a cookie) is its own, where it lives; else the newest of
/// owners tied by a proof; else, unless the browser is tied by a proof itself, the newest of the others. A click ID
/// speaks of the person's last click: the newest of the browser's own and of those tied by a proof, else the same
/// last step. An ID that its browser's consent denies answers for that browser alone.
pub fn choose<'a>(
    ids: &'a [VendorIdRow],
    ties: &Ties,
    asker: Asker<'_>,
    now: OffsetDateTime,
) -> Option<&'a VendorIdRow> {
    let living = || ids.iter().filter(|id| id.expires_at > now);
    let newest = |is_proven: bool| {
        let others = living().filter(|id| !id.is_withheld && ties.is_proven(&id.owner) == is_proven);
        others.max_by_key(|id| newness(id))
    };
    let (own, is_proven) = match asker {
        Asker::Person => (None, false),
        Asker::Browser(browser) => {
            let own = living().find(|id| id.owner.anonymous_id() == Some(browser));
            (own, ties.is_browser_proven(browser) == Some(true))
        }
    };
    let is_held = |id: &&VendorIdRow| id.source != "click";
    let first =
        own.filter(is_held).or_else(|| own.into_iter().chain(newest(true)).max_by_key(|id| newness(id)));
    first.or_else(|| newest(false).filter(|_| !is_proven))
}

/// The later, the newer; of two that came at once always the same.
fn newness(id: &VendorIdRow) -> (OffsetDateTime, &Owner) {
    (id.collected_at, &id.owner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::{Duration, macros::datetime};
    use uuid::Uuid;

    use super::*;
    use crate::{
        identifiers::{Identifier, Kind},
        storage::via::Via,
    };

    const NOW: OffsetDateTime = datetime!(2026-11-28 10:00 UTC);

    fn id(name: &str) -> Identifier {
        let kind = if name.starts_with('u') { Kind::UserId } else { Kind::AnonymousId };
        Identifier { kind, value: name.to_owned() }
    }

    /// `owner:minutes`, the minutes since which it has been there; `x` behind them: it has ended; `d`: its browser
    /// denies it. The owner `-` is nobody.
    fn row(text: &str, source: &str) -> VendorIdRow {
        let (owner, age) = text.split_once(':').unwrap();
        let minutes: i64 = age.trim_end_matches(['x', 'd']).parse().unwrap();
        VendorIdRow {
            canonical_id: Uuid::nil(),
            field: "field".to_owned(),
            owner: if owner == "-" { Owner::NOBODY } else { Owner::of(&id(owner)) },
            value: text.to_owned(),
            source: source.to_owned(),
            collected_at: NOW - Duration::minutes(minutes),
            expires_at: if age.ends_with('x') { NOW } else { NOW + Duration::days(1) },
            pipeline_id: None,
            is_withheld: age.ends_with('d'),
        }
    }

    /// Identifiers tied by a proof, and those without one: `p` and `u`, and `c`, `d`.
    fn ties(is_user_proven: bool) -> Ties {
        let user = if is_user_proven { Via::Signed } else { Via::Claim };
        Ties::new(BTreeMap::from([
            (id("p"), Via::UserHash),
            (id("q"), Via::IdentityToken),
            (id("c"), Via::Claim),
            (id("d"), Via::Cookie),
            (id("u"), user),
        ]))
    }

    fn chosen(ids: &str, source: &str, ties: &Ties, asker: Asker<'_>) -> String {
        let ids: Vec<VendorIdRow> = ids.split_whitespace().map(|text| row(text, source)).collect();
        choose(&ids, ties, asker, NOW).map_or_else(|| "none".to_owned(), |id| id.value.clone())
    }

    /// Who has an ID, and what the proven browser `p`, the claiming browser `c` and the person are answered.
    const HELD: &[(&str, [&str; 3])] = &[
        ("", ["none", "none", "none"]),
        // A browser's own, whatever others bring later.
        ("p:9 c:1 q:5", ["p:9", "c:1", "q:5"]),
        ("p:9 c:1", ["p:9", "c:1", "p:9"]),
        // Else the newest of those tied by a proof.
        ("q:9 d:1", ["q:9", "q:9", "q:9"]),
        ("q:9 u:8 d:1", ["u:8", "u:8", "u:8"]),
        // Else, for those without a proof, the newest of the others.
        ("c:9 d:1", ["none", "c:9", "d:1"]),
        ("d:9", ["none", "d:9", "d:9"]),
        ("-:9", ["none", "-:9", "-:9"]),
        ("-:1 d:9", ["none", "-:1", "-:1"]),
        ("-:1 q:9", ["q:9", "q:9", "q:9"]),
        // What has ended is as good as none.
        ("p:1x q:9 c:5x", ["q:9", "q:9", "q:9"]),
        ("q:1x d:9", ["none", "d:9", "d:9"]),
        // What a browser's consent denies is its own alone.
        ("q:1d d:9", ["none", "d:9", "d:9"]),
        ("p:1d q:9", ["p:1d", "q:9", "q:9"]),
        ("c:1d", ["none", "c:1d", "none"]),
    ];

    const CLICKS: &[(&str, [&str; 3])] = &[
        ("", ["none", "none", "none"]),
        // The last click, of the browser itself or of those tied by a proof.
        ("p:9 q:1", ["q:1", "q:1", "q:1"]),
        ("p:1 q:9", ["p:1", "p:1", "p:1"]),
        ("q:9 c:1", ["q:9", "c:1", "q:9"]),
        ("q:1 c:9", ["q:1", "q:1", "q:1"]),
        ("q:9 d:1", ["q:9", "q:9", "q:9"]),
        // Where neither has one, the last of the others.
        ("d:1", ["none", "d:1", "d:1"]),
        ("c:9 d:1", ["none", "c:9", "d:1"]),
        ("u:5", ["u:5", "u:5", "u:5"]),
        ("q:1x c:9", ["none", "c:9", "c:9"]),
        ("q:1d c:9", ["none", "c:9", "c:9"]),
        ("p:1d q:9", ["p:1d", "q:9", "q:9"]),
    ];

    #[test]
    fn every_case_of_the_truth_table() {
        let askers = [Asker::Browser("p"), Asker::Browser("c"), Asker::Person];
        for (source, table) in [("sync", HELD), ("generated", HELD), ("enrichment", HELD), ("click", CLICKS)]
        {
            for (ids, expected) in table {
                let found = askers.map(|asker| chosen(ids, source, &ties(true), asker));
                assert_eq!(found, *expected, "{source}: {ids}");
            }
        }
    }

    #[test]
    fn a_user_s_own_id_counts_as_much_as_the_user_s_tie() {
        assert_eq!(chosen("u:9 q:1", "click", &ties(true), Asker::Browser("p")), "q:1");
        assert_eq!(chosen("u:1 q:9", "click", &ties(true), Asker::Browser("p")), "u:1");
        assert_eq!(chosen("u:1 q:9", "click", &ties(false), Asker::Browser("p")), "q:9");
        assert_eq!(chosen("u:1", "sync", &ties(false), Asker::Browser("p")), "none");
        assert_eq!(chosen("u:1", "sync", &ties(false), Asker::Browser("c")), "u:1");
    }

    #[test]
    fn a_browser_that_is_not_there_is_answered_as_one_without_a_proof() {
        assert_eq!(chosen("q:9 d:1", "sync", &ties(true), Asker::Browser("elsewhere")), "q:9");
    }
}
