//! The report of a comparison. Keys are shortened, as they name visitors, and no value is ever printed.

use std::collections::BTreeMap;

use super::{kind, redis_values::Verdict};
use crate::identifiers::shorten;

/// Counts of the keys of one kind, by outcome.
#[derive(Debug, Default)]
struct Counts {
    equal: u64,
    absent: u64,
    busy: u64,
    different: u64,
    orphan: u64,
}

/// Counts of the keys that were looked at, by kind.
#[derive(Debug, Default)]
pub struct Report {
    kinds: BTreeMap<String, Counts>,
    looked_at: u64,
}

impl Report {
    /// Counts a key, and prints one that is wrong.
    pub fn count(&mut self, name: &str, verdict: Verdict) {
        self.looked_at += 1;
        let counts = self.kinds.entry(kind(name).to_owned()).or_default();
        let count = match verdict {
            Verdict::Equal => &mut counts.equal,
            Verdict::Absent => &mut counts.absent,
            Verdict::Busy => &mut counts.busy,
            Verdict::Different => &mut counts.different,
            Verdict::Orphan => &mut counts.orphan,
        };
        *count += 1;
        match verdict {
            Verdict::Different => println!("different {}", short(name)),
            Verdict::Orphan => println!("orphan {}", short(name)),
            _ => {}
        }
    }

    /// Says on standard error how far it is.
    pub fn progress(&self) {
        eprintln!("compared {} keys", self.looked_at);
    }

    /// Prints the table of counts.
    pub fn print(&self) {
        println!(
            "{:<10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "kind", "equal", "absent", "busy", "different", "orphan"
        );
        for (kind, counts) in &self.kinds {
            let Counts { equal, absent, busy, different, orphan } = counts;
            println!("{kind:<10} {equal:>9} {absent:>9} {busy:>9} {different:>9} {orphan:>9}");
        }
    }

    /// True where nothing is wrong. Keys that are being written are not.
    pub fn is_clean(&self) -> bool {
        self.kinds.values().all(|counts| counts.different + counts.orphan == 0)
    }
}

/// Shortens a key's name to its kind, its organisation and the first characters of what it is about.
fn short(name: &str) -> String {
    let mut parts = name.split(':');
    let (kind, org) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{kind}:{org}:{}", shorten(parts.next_back().unwrap_or_default()))
}
