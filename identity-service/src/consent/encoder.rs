//! A little encoder of consent strings, for tests: what a platform would write, and what it should not.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "what a test gives it fits")]

use std::collections::BTreeSet;

use time::OffsetDateTime;

/// Characters by their values.
pub const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Bits that are to become a text.
#[derive(Debug, Clone, Default)]
pub struct BitText(Vec<bool>);

impl BitText {
    /// Adds the last `count` bits of a number.
    pub fn add(&mut self, number: u64, count: u32) -> &mut Self {
        self.0.extend((0..count).rev().map(|bit| number >> bit & 1 == 1));
        self
    }

    /// Adds a number of at least 1 in Fibonacci's code.
    pub fn add_fibonacci(&mut self, mut number: u32) -> &mut Self {
        let mut numbers = vec![1, 2];
        while numbers[numbers.len() - 1] < number {
            numbers.push(numbers[numbers.len() - 2] + numbers[numbers.len() - 1]);
        }
        let mut code = vec![];
        for own in numbers.into_iter().rev() {
            let is_in = own <= number;
            number -= if is_in { own } else { 0 };
            if is_in || !code.is_empty() {
                code.push(is_in);
            }
        }
        self.0.extend(code.into_iter().rev());
        self.add(1, 1)
    }

    /// The text, filled with zeros to whole characters.
    pub fn text(&self) -> String {
        let character = |bits: &[bool]| {
            let value = (0..6).fold(0, |value, at| value << 1 | usize::from(bits.get(at) == Some(&true)));
            char::from(ALPHABET[value])
        };
        self.0.chunks(6).map(character).collect()
    }
}

/// The header of a GPP string with the sections of these IDs, one by one.
pub fn gpp_header(ids: &[u16]) -> String {
    let mut bits = BitText::default();
    bits.add(3, 6).add(1, 6).add(ids.len() as u64, 12);
    let mut last = 0;
    for id in ids {
        bits.add(0, 1).add_fibonacci((id - last).into());
        last = *id;
    }
    bits.text()
}

/// A set of vendors, in one of its two forms.
#[derive(Debug, Clone)]
pub enum Vendors {
    Field(BTreeSet<u16>),
    Ranges { max: u16, ranges: Vec<(u16, u16)> },
}

impl Vendors {
    pub fn contains(&self, vendor: u16) -> bool {
        match self {
            Self::Field(ids) => ids.contains(&vendor),
            Self::Ranges { ranges, .. } => ranges.iter().any(|(a, b)| (*a..=*b).contains(&vendor)),
        }
    }

    fn add_to(&self, bits: &mut BitText) {
        match self {
            Self::Field(ids) => {
                let max = ids.last().copied().unwrap_or(0);
                bits.add(max.into(), 16).add(0, 1);
                for id in 1..=max {
                    bits.add(ids.contains(&id).into(), 1);
                }
            }
            Self::Ranges { max, ranges } => {
                bits.add((*max).into(), 16).add(1, 1);
                add_ranges(bits, ranges);
            }
        }
    }
}

fn add_ranges(bits: &mut BitText, ranges: &[(u16, u16)]) {
    bits.add(ranges.len() as u64, 12);
    for (start, end) in ranges {
        bits.add((start != end).into(), 1).add((*start).into(), 16);
        if start != end {
            bits.add((*end).into(), 16);
        }
    }
}

/// A publisher's restriction of vendors.
#[derive(Debug, Clone)]
pub struct Restriction {
    pub purpose: u16,
    pub kind: u16,
    pub ranges: Vec<(u16, u16)>,
}

/// A TCF string as it is meant.
#[derive(Debug, Clone)]
pub struct TcModel {
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
    pub policy: u16,
    pub is_service_specific: bool,
    pub consents_to_access: bool,
    pub consented: Vendors,
    pub legitimate: Vendors,
    pub restrictions: Vec<Restriction>,
    pub disclosed: Option<Vendors>,
    /// True where the segment of the publisher's own purposes goes before that of the disclosed vendors.
    pub publisher_first: bool,
}

impl TcModel {
    /// A string that grants access to every vendor.
    pub fn granting(now: OffsetDateTime) -> Self {
        let everybody = Vendors::Ranges { max: u16::MAX, ranges: vec![(1, u16::MAX)] };
        Self {
            created: now,
            updated: now,
            policy: 5,
            is_service_specific: true,
            consents_to_access: true,
            consented: everybody.clone(),
            legitimate: Vendors::Field(BTreeSet::new()),
            restrictions: Vec::new(),
            disclosed: Some(everybody),
            publisher_first: false,
        }
    }

    /// Writes the string, with its segments.
    pub fn text(&self) -> String {
        let deciseconds = |at: OffsetDateTime| u64::try_from(at.unix_timestamp()).unwrap() * 10;
        let mut core = BitText::default();
        core.add(2, 6).add(deciseconds(self.created), 36).add(deciseconds(self.updated), 36);
        core.add(880, 12).add(1, 12).add(1, 6).add(4, 6).add(13, 6).add(150, 12);
        core.add(self.policy.into(), 6).add(self.is_service_specific.into(), 1).add(0, 13);
        core.add(self.consents_to_access.into(), 1).add(0b0_1110_0000, 23);
        // A legitimate interest in access, which nobody may have.
        core.add(0b1 << 23, 24).add(1, 1).add(3, 6).add(4, 6);
        self.consented.add_to(&mut core);
        self.legitimate.add_to(&mut core);
        core.add(self.restrictions.len() as u64, 12);
        for restriction in &self.restrictions {
            core.add(restriction.purpose.into(), 6).add(restriction.kind.into(), 2);
            add_ranges(&mut core, &restriction.ranges);
        }
        let mut segments = vec![core.text()];
        if let Some(disclosed) = &self.disclosed {
            let mut segment = BitText::default();
            disclosed.add_to(segment.add(1, 3));
            segments.push(segment.text());
        }
        let publisher = BitText::default().add(3, 3).add(0, 54).text();
        segments.insert(if self.publisher_first { 1 } else { segments.len() }, publisher);
        segments.join(".")
    }
}
