//! A TCF string of version 2, as far as a vendor's access to the device depends on it (IAB Tech Lab, "Transparency and
//! Consent String", versions 2.2 and 2.3). It has a core, and after dots further segments in any order.

use super::{
    super::bits::Bits,
    vendor_set::{Ranges, VendorSet},
};

/// Longest string that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// The purpose "store and/or access information on a device".
const ACCESS: u16 = 1;
/// Segment of the vendors that were disclosed to the visitor.
const DISCLOSED_VENDORS: u16 = 1;
/// Type of a publisher's restriction that leaves the vendor the choice, where the visitor has consented.
const REQUIRE_CONSENT: u16 = 1;

/// A string that has the form of one: whether it is valid, and what it allows, is the vote's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcString {
    text: Box<str>,
    /// Time at which the string was first made, in seconds since the Unix epoch.
    pub created: i64,
    /// Time at which its choices were last changed, in seconds since the Unix epoch.
    pub updated: i64,
    /// Version of the policies that it was made under.
    pub policy: u16,
    /// True where the string speaks for one site, or a group of one owner, alone.
    pub is_service_specific: bool,
    /// True where the visitor consents to access to the device. A legitimate interest is none in it.
    pub consents_to_access: bool,
    /// Vendors that the visitor consents to.
    consented: VendorSet,
    /// Vendors that were disclosed to the visitor; none where the string doesn't say.
    disclosed: Option<VendorSet>,
    /// Vendors that the publisher forbids access to the device; mostly there is no such restriction.
    forbidden: Vec<Ranges>,
}

impl TcString {
    /// Reads a string; none where it is cut short, is of another version, or has not the form of one.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut segments = segments(text);
        let (start, end) = segments.next()?;
        let mut string = Self::core(text, Bits::of(text, start, end)?)?;
        for (start, end) in segments {
            let mut bits = Bits::of(text, start, end)?;
            if bits.take_short(3)? == DISCLOSED_VENDORS {
                let disclosed = VendorSet::read(&mut bits)?;
                // Of two that differ no one can say which was meant.
                if string.disclosed.replace(disclosed).is_some() {
                    return None;
                }
            }
        }
        Some(string)
    }

    fn core(text: &str, mut bits: Bits<'_>) -> Option<Self> {
        if bits.take(6)? != 2 {
            return None;
        }
        let created = bits.take(36)?;
        let updated = bits.take(36)?;
        // The platform's ID, version and screen, the language, the version of the vendor list.
        bits.skip(12 + 12 + 6 + 12 + 12)?;
        let policy = bits.take_short(6)?;
        let is_service_specific = bits.flag()?;
        // Whether texts are its own, and special features.
        bits.skip(1 + 12)?;
        let consents_to_access = bits.flag()?;
        // The other purposes, those of legitimate interest, the publisher's own treatment of access, its country.
        bits.skip(23 + 24 + 1 + 12)?;
        let consented = VendorSet::read(&mut bits)?;
        VendorSet::read(&mut bits)?;
        let forbidden = forbidden(&mut bits)?;
        let seconds = |deciseconds: u64| i64::try_from(deciseconds / 10).ok();
        Some(Self {
            text: text.into(),
            created: seconds(created)?,
            updated: seconds(updated)?,
            policy,
            is_service_specific,
            consents_to_access,
            consented,
            disclosed: None,
            forbidden,
        })
    }

    /// True where the visitor consents to the vendor.
    pub fn consents_to(&self, vendor: u16) -> bool {
        self.consented.contains(&self.text, vendor)
    }

    /// True where the publisher forbids the vendor access to the device, or has it rest on a legitimate interest,
    /// which can't carry it.
    pub fn forbids_access(&self, vendor: u16) -> bool {
        self.forbidden.iter().any(|vendors| vendors.contains(&self.text, vendor))
    }

    /// True where the vendor was disclosed to the visitor; none where the string doesn't say who was.
    pub fn discloses(&self, vendor: u16) -> Option<bool> {
        self.disclosed.map(|disclosed| disclosed.contains(&self.text, vendor))
    }
}

/// Reads to the end of the publisher's restrictions, for those that forbid access to the device; none where they are cut
/// short, or one is none. A restriction of a type that is not defined counts as one that forbids.
fn forbidden(bits: &mut Bits<'_>) -> Option<Vec<Ranges>> {
    let mut forbidden = Vec::new();
    for _ in 0..bits.take_short(12)? {
        let purpose = bits.take_short(6)?;
        let kind = bits.take_short(2)?;
        let vendors = Ranges::read(bits, u16::MAX)?;
        if purpose == ACCESS && kind != REQUIRE_CONSENT {
            forbidden.push(vendors);
        }
    }
    Some(forbidden)
}

/// The first and the last byte, exclusive, of each segment.
fn segments(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    text.split('.').map(move |segment| {
        let own = (start, start + segment.len());
        start = own.1 + 1;
        own
    })
}
