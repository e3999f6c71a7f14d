//! The vote of IAB's Global Privacy Platform string: a header, and sections of their own form behind it.

pub mod applicable;
mod header;
mod us;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use self::{applicable::Applicable, us::UsSection};
use super::{
    Vote,
    tcf::{self, Tcf},
    us_privacy,
};
use crate::vendors::ConsentNeed;

/// Longest string that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// The section that is a TCF string.
const TCF_EU: u16 = 2;
/// The section that is a US Privacy string.
const US_PRIVACY: u16 = 6;

/// The string of one browser, as far as its sections are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpp {
    /// The vote of the sections that say the same of every need.
    general: Vote,
    /// The section for the European Union.
    tcf: Tcf,
}

impl Gpp {
    /// Reads the object's member `gpp`, as the platform says what of it is in force.
    pub fn read(object: &Map<String, Value>) -> Self {
        let applicable = Applicable::read(object);
        let read = match (object.get("gpp"), applicable) {
            // The platform has not decided, or nobody knows what it has: the string may be one of before.
            (_, Applicable::Pending | Applicable::Unreadable) => None,
            (None, _) | (Some(_), Applicable::Nothing) => Some(Self::SILENT),
            (Some(Value::String(text)), _) => Self::of(text, applicable, tcf::is_in_force(object)),
            (Some(_), _) => None,
        };
        read.unwrap_or(Self { general: Vote::Unreadable, ..Self::SILENT })
    }

    /// The vote on a need, at that time.
    pub fn vote(&self, need: &ConsentNeed, now: OffsetDateTime) -> Vote {
        self.general.max(self.tcf.vote(need, now))
    }

    const SILENT: Self = Self { general: Vote::Silent, tcf: Tcf::Absent };

    /// Reads a string; none where its header and its sections don't fit. Where the platform says nothing, the sections that
    /// can be read are in force; else those that it names, and one that is not there or can't be read denies.
    fn of(text: &str, applicable: Applicable, gdpr: bool) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut sections = text.split('~');
        let ids = header::section_ids(sections.next()?)?;
        if sections.clone().count() != ids.len() || sections.clone().any(str::is_empty) {
            return None;
        }
        let wanted = match applicable {
            Applicable::Sections(wanted) => Some(wanted),
            _ => None,
        };
        let mut read = Self::SILENT;
        if wanted.is_some_and(|wanted| wanted.iter().any(|id| !ids.contains(&id))) {
            read.general = Vote::Unreadable;
        }
        let in_force = |(id, _): &(u16, &str)| match wanted {
            Some(wanted) => wanted.contains(*id),
            None => *id != TCF_EU || gdpr,
        };
        for (id, section) in ids.into_iter().zip(sections).filter(in_force) {
            let vote = match (id, UsSection::find(id)) {
                (TCF_EU, _) => {
                    read.tcf = Tcf::of(section);
                    Vote::Silent
                }
                (US_PRIVACY, _) => us_privacy::of_text(section),
                (_, Some(known)) => known.vote(id, section),
                (_, None) if wanted.is_some() => Vote::Unreadable,
                (_, None) => Vote::Silent,
            };
            read.general = read.general.max(vote);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests;
