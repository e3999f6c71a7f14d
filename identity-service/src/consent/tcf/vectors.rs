//! TCF strings, with what they say and what they allow.

use time::{Date, macros::date};

use super::super::Vote::{self, Deny, Grant, Unreadable};

/// The strings of all vectors.
pub fn texts() -> impl Iterator<Item = &'static str> {
    let published = PUBLISHED.iter().map(|own| own.text);
    published.chain(MADE.iter().map(|(_, text, _)| *text)).chain(MALFORMED.iter().copied())
}

/// A string of the specification, or of others' tests, which was made by rules that are not valid any more.
pub struct Published {
    pub text: &'static str,
    pub updated: Date,
    pub policy: u16,
    pub is_service_specific: bool,
    pub consents_to_access: bool,
    /// Vendors that are consented to: the first, the last, and their number.
    pub consented: (u16, u16, usize),
    /// Vendors that a restriction forbids access.
    pub forbidden: &'static [u16],
    /// Vendors that were disclosed, where the string says so.
    pub disclosed: Option<&'static [u16]>,
}

/// Strings that are to be read field by field, and grant nothing.
pub const PUBLISHED: &[Published] = &[
    Published {
        text: "CQSbk4AQSbk4ANwAAAENAwCgAAAAAAAAAAYgACPAAAAA.IDKQA4AAgAKAGQAygAAA.YAAAAAAAAAAA",
        updated: date!(2025 - 06 - 03),
        policy: 2,
        is_service_specific: true,
        consents_to_access: false,
        consented: (1, 4, 4),
        forbidden: &[],
        disclosed: Some(&[1, 2, 3, 4, 5, 100, 404]),
    },
    Published {
        text: "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA",
        updated: date!(2020 - 02 - 20),
        policy: 2,
        is_service_specific: false,
        consents_to_access: true,
        consented: (2, 8, 3),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: concat!(
            "COw4XqLOw4XqLAAAAAENAXCf-v-gAAAfwIAAACngAI8AIFABgACAA4SADAAgADQ.IAPPwAPrwA.QAPPw",
            "APrwA.cAEAPAAAC7gAHw4AAA",
        ),
        updated: date!(2020 - 03 - 26),
        policy: 2,
        is_service_specific: false,
        consents_to_access: true,
        consented: (2, 5, 4),
        forbidden: &[],
        disclosed: Some(&[1, 2, 3, 4, 5, 6, 19, 20, 21, 22, 23, 25, 27, 28, 29, 30]),
    },
    Published {
        text: concat!(
            "CO4yYChO4yYChCnABBDEA0CsAP_AAAAAAAYgF-wDwAUAB6AEaAK4AaYA5AC6gH_ARqAkEBQ4CuwFvgLs",
            "AX6AAAAYJABAXmKgAgLzGQAQF5joAIC8yUAEBeZSACAvMAAA.f_gAAAAAAQAA",
        ),
        updated: date!(2020 - 08 - 27),
        policy: 2,
        is_service_specific: true,
        consents_to_access: true,
        consented: (40, 765, 15),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
        updated: date!(2022 - 04 - 20),
        policy: 2,
        is_service_specific: true,
        consents_to_access: false,
        consented: (0, 0, 0),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: concat!(
            "CLcVDxRMWfGmWAVAHCENAXCkAKDAADnAABRgA5mdfCKZuYJez-NQm0TBMYA4oCAAGQYIAAAAAAEAIAEg",
            "AA.argAC0gAAAAAAAAAAAA",
        ),
        updated: date!(2012 - 01 - 10),
        policy: 2,
        is_service_specific: true,
        consents_to_access: true,
        consented: (2, 115, 56),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CQVQ2cAQVQ2cAEsABABGB1FAAP_gAEPgAAAAAPwAQAPgAAAA.QAPwAQAPgAAA.IAPwAQAPgAAA",
        updated: date!(2025 - 07 - 28),
        policy: 5,
        is_service_specific: false,
        consents_to_access: true,
        consented: (31, 31, 1),
        forbidden: &[],
        disclosed: Some(&[31]),
    },
    Published {
        text: "CPGWbY_PGWbY_GYAAAENABEAAIAAAAAAAAAAACEAAAAA",
        updated: date!(2021 - 05 - 17),
        policy: 4,
        is_service_specific: false,
        consents_to_access: true,
        consented: (2, 2, 1),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CPGWbY_PGWbY_GYAAAENABCAAEAAAAAAAAAAACEAAAAA",
        updated: date!(2021 - 05 - 17),
        policy: 2,
        is_service_specific: false,
        consents_to_access: false,
        consented: (2, 2, 1),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "COzSDo9OzSDo9B9AAAENAiCAALAAAAAAAAAACOQAQCOAAAAA",
        updated: date!(2020 - 05 - 12),
        policy: 2,
        is_service_specific: false,
        consents_to_access: true,
        consented: (284, 284, 1),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CPF_61ePF_61eFxAAAENAiCAAAAAAAAAAAAAAQAAAAAAAAAAIIACACA",
        updated: date!(2021 - 05 - 10),
        policy: 2,
        is_service_specific: false,
        consents_to_access: false,
        consented: (0, 0, 0),
        forbidden: &[32],
        disclosed: None,
    },
    Published {
        text: "CPfFkMAPfFkMAAAAAAENCgCAAAAAAAAAAAAAAQAAAAAEAIAAAAAAAGDAAgAgCgAQAQBwAIAIAAAA",
        updated: date!(2022 - 09 - 10),
        policy: 2,
        is_service_specific: false,
        consents_to_access: false,
        consented: (32, 32, 1),
        forbidden: &[32],
        disclosed: None,
    },
    Published {
        text: concat!(
            "COxPe2TOxPe2TALABAENAPCgAAAAAAAAAAAAAFAAAAoAAA4IACACAIABgACAFA4ADACAAIygAGADwAQB",
            "IAIAIB0AEAEBSACACAA",
        ),
        updated: date!(2020 - 04 - 02),
        policy: 2,
        is_service_specific: true,
        consents_to_access: false,
        consented: (0, 0, 0),
        forbidden: &[32],
        disclosed: None,
    },
    Published {
        text: "CPfCRQAPfCRQAAAAAAENCgCAAAAAAOAAAAAAAQAAAAAAAIAAAAACAAAA",
        updated: date!(2022 - 09 - 09),
        policy: 2,
        is_service_specific: false,
        consents_to_access: false,
        consented: (0, 0, 0),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "COx3XOeOx3XOeLkAAAENAfCIAAAAAHgAAIAAAAAAAAAA",
        updated: date!(2020 - 04 - 14),
        policy: 2,
        is_service_specific: false,
        consents_to_access: false,
        consented: (0, 0, 0),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CPhJRpMPhJRpMABAMBFRACBoALAAAEJAAIYgAKwAQAKgArABAAqAAA",
        updated: date!(2022 - 10 - 19),
        policy: 1,
        is_service_specific: true,
        consents_to_access: true,
        consented: (21, 21, 1),
        forbidden: &[],
        disclosed: None,
    },
    Published {
        text: "CO4VThZO4VTiuADABBENAzCgAP_AAEOAAAAAAwwAgAEABhAAgAgAAA.YAAAAAAAAAA",
        updated: date!(2020 - 08 - 18),
        policy: 2,
        is_service_specific: true,
        consents_to_access: true,
        consented: (8, 97, 2),
        forbidden: &[],
        disclosed: None,
    },
];

/// Texts that are no strings of this version, cut ones among them.
pub const MALFORMED: &[&str] = &[
    "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA",
    "CONciguONcjGKADACHENAOCIAC0ta__AACiQABwA",
    "COuqj-POu90rDBcBkBENAZCgAPzAAAPAACiQFwwBAABAA1ADEAbQC4YAYAAgAxAG0A",
    "COvcSpYOvcSpYC9AAAENAPCAAAAAAAAAAAAAAFAAAAA",
    "CPItQrlPItQrlAKAfAENBhCsAP_AAHLAAAiQIBtf_X__bX9j",
    "CQGRvoAQGRvoAAHABAENBKFsAP_gAEPgAAAAKhNV",
    "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA.",
    "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA..",
    "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA==",
    "CPXxRfAPXxRfAAfKABENB+CgAAAAAAAAAAYgAAAAAAAA",
    " CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
    "COOOO",
    "COVvFyGB",
    "C",
    "",
    "tcfv2string",
];

/// Strings with the votes on the vendors 91, 42 and 1126, and on one that is on no list, in June 2026: the purpose of
/// each, the string, the votes. Where nothing else is said they were made on 18 March 2026.
pub const MADE: &[(&str, &str, [Vote; 4])] = &[
    (
        "in order",
        concat!(
            "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgIzQCgAFAAVABUADQALYAYQBSAMZAZIBGYAAAAAAA.IIz",
            "QCgAFAAVABUADQALYAYQBSAMZAZIBGYAA",
        ),
        [Grant, Grant, Grant, Grant],
    ),
    (
        "no consent to access",
        "CQhQy4AQhQy4ANwABBENCWFgAHLAAAAAAAYgIzQAgAtgRmAAAAAA.IIzQAgAtgRmA",
        [Deny, Deny, Deny, Deny],
    ),
    (
        "consent to 42 alone",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAVQAQAVAAAAA.IAtwAgAVABbA",
        [Deny, Grant, Deny, Grant],
    ),
    (
        "consent to 91, 42 disclosed",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.IAVQAQAVAAAA",
        [Unreadable, Deny, Deny, Grant],
    ),
    (
        "nobody disclosed, after the deadline",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA",
        [Unreadable, Deny, Deny, Grant],
    ),
    (
        "nobody disclosed, before the deadline",
        "CQeEcwAQeEcwANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA",
        [Grant, Deny, Deny, Grant],
    ),
    (
        "91 is not allowed access",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAgAVABbAAAACCAAgBbAAA.IAtwAgAVABbA",
        [Deny, Grant, Deny, Grant],
    ),
    (
        "1 to 100 need a legitimate interest",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAgAVABbAAAACDAAwABAGQ.IAtwAgAVABbA",
        [Deny, Deny, Deny, Grant],
    ),
    (
        "91 needs consent, and has it",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAgAVABbAAAACCgAgBbAAA.IAtwAgAVABbA",
        [Grant, Grant, Deny, Grant],
    ),
    (
        "legitimate interest alone",
        "CQhQy4AQhQy4ANwABBENCWFgAAAAAMIAAAYgAAABbgAgBbAA.IAtwAQAtgAAA",
        [Deny, Deny, Deny, Deny],
    ),
    (
        "access is not asked for where the publisher is",
        "CQhQy4AQhQy4ANwABBENCWFgAHAAAAAAAIYgAtwAQAtgAAAA.IAtwAQAtgAAA",
        [Deny, Deny, Deny, Deny],
    ),
    (
        "for all sites",
        "CQhQy4AQhQy4ANwABBENCWFAAPLAAAAAAAYgAtwAQAtgAAAA.IAtwAQAtgAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "an older policy, and old",
        "CPSeEgAPSeEgANwABBENCWCgAPLAAAAAAAYgAtwAQAtgAAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "everybody",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYn__wAYAA__-AAAAAA.P__wAYAA__-A",
        [Grant, Grant, Grant, Grant],
    ),
    (
        "a range beyond the highest vendor",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAYAtgjMAAAAAA.IIzQAYAtgjMA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "a range that ends before it begins",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgBkQAYBkADIAAAAAA.IAtwAQAtgAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "vendor 0",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAgAAABbAAAAAA.IAtwAQAtgAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "a bit for each of 65,535, of which 16 are there",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYn__v8A",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "version 3",
        "DQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.IAtwAQAtgAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "cut in the vendors",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgIzQCgAFA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "two segments of disclosed vendors",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.IAVQAQAVAAAA.IAtwAQAtgAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
    (
        "another segment first",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.YAAAAAAAAAAA.IAtwAQAtgAAA",
        [Grant, Deny, Deny, Grant],
    ),
    (
        "a segment of an unknown type",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAtwAQAtgAAAA.IAtwAQAtgAAA.oAAA",
        [Grant, Deny, Deny, Grant],
    ),
    (
        "4,095 ranges promised, two there",
        "CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgIzf_wAtgRmAAAAAA",
        [Unreadable, Unreadable, Unreadable, Unreadable],
    ),
];
