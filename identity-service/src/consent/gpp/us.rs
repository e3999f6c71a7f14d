//! The votes of GPP's sections for the United States: national (7), and a state's each (8 to 27). Their law is one of
//! opt-out, so they only ever deny (IAB Tech Lab, "Global Privacy Platform", "Sections").

use super::super::{Vote, bits::Bits};

/// Type of the sub-section that says whether Global Privacy Control was on.
const GPC: u64 = 1;

/// A section, as far as the use of an ID depends on it.
#[derive(Debug)]
pub struct UsSection {
    /// First bits of the opt-outs, of two bits each: of sale, of sharing and of targeted advertising, as the section has
    /// them. They are the same in all versions of a section.
    opt_outs: &'static [usize],
    /// True where a sub-section of type 1 is that of Global Privacy Control.
    has_gpc: bool,
    /// True where the section may begin with a header of its own.
    may_have_header: bool,
}

impl UsSection {
    const fn new(opt_outs: &'static [usize], has_gpc: bool) -> Self {
        Self { opt_outs, has_gpc, may_have_header: false }
    }

    const fn with_header(has_gpc: bool) -> Self {
        Self { opt_outs: &[16, 18], has_gpc, may_have_header: true }
    }

    /// The section of that ID; none where it is not one of these.
    pub const fn find(id: u16) -> Option<Self> {
        Some(match id {
            7 => Self::new(&[18, 20, 22], true),
            8 | 10 | 12 | 14..=17 | 19..=23 => Self::new(&[12, 14], true),
            9 | 13 => Self::new(&[12, 14], false),
            11 => Self::new(&[14, 16], false),
            18 => Self::new(&[14, 16], true),
            24 => Self::with_header(true),
            // Their sub-section 1 is of sensitive data.
            25..=27 => Self::with_header(false),
            _ => return None,
        })
    }

    /// The vote of the section `id` with that text.
    pub fn vote(&self, id: u16, text: &str) -> Vote {
        self.read(id, text).unwrap_or(Vote::Unreadable)
    }

    /// The vote; none where the text is none of the section's.
    fn read(&self, id: u16, text: &str) -> Option<Vote> {
        let mut segments = text.split('.').map(|segment| Bits::of(segment, 0, segment.len()));
        let mut core = segments.next()??;
        let first = core.take(6)?;
        if self.may_have_header {
            // The reference library writes these sections without the header that they are specified with. A core begins
            // with the version of an agreement, which is far from the section's ID.
            if first == u64::from(id) {
                if core.take(6)? != 1 {
                    return None;
                }
                core = segments.next()??;
                core.take(6)?;
            }
        } else if !matches!(first, 1 | 2) {
            return None;
        }
        let mut vote = Vote::Silent;
        for at in self.opt_outs {
            let mut own = core;
            // The first six bits are taken.
            own.skip(at.checked_sub(6)?)?;
            vote = vote.max(match own.take(2)? {
                1 => Vote::Deny,
                // Not defined.
                3 => Vote::Unreadable,
                _ => Vote::Silent,
            });
        }
        for segment in segments {
            let mut segment = segment?;
            if segment.take(2)? == GPC && self.has_gpc && segment.flag()? {
                vote = Vote::Deny;
            }
        }
        Some(vote)
    }
}
