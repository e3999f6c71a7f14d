//! Texts on gateway sync as a whole, for the customer who sets it up: what no single vendor's record says.

/// The texts, and a table of what each kind of visitor brings.
#[derive(Debug)]
pub struct SyncGuide {
    /// The difference between what a sync and what server-side delivery is set up with.
    pub partner_id: &'static str,
    /// The price of a shorter life of IDs, and of a longer one.
    pub ttl: &'static str,
    /// The warning that belongs beside the pipeline's consent mode.
    pub consent_mode: &'static str,
    /// The share of visitors to expect.
    pub expectation: &'static str,
    /// Kinds of visitors, each with what becomes of a sync.
    pub visitors: &'static [(&'static str, &'static str)],
    /// Ways to match visitors whom syncs don't reach.
    pub helps: &'static [&'static str],
    /// Ways that are thought to, and don't.
    pub does_not_help: &'static [&'static str],
}

/// The guide to gateway sync.
pub const SYNC_GUIDE: SyncGuide = SyncGuide {
    partner_id: "A sync is set up with the public ID of a tag, a pixel or a partner, and with no secret. Delivering events \
        to the same vendor takes an advertiser account and an access token, which belong to the destination. The two look \
        alike and are not interchangeable: with the wrong one the vendor sends nothing back.",
    ttl: "An ID is asked for again shortly before its days are over. Fewer days keep IDs closer to what the vendor knows \
        now, and send each visitor on the vendor's redirects more often; more days spare requests, and deliver IDs that \
        the vendor may have replaced.",
    consent_mode: "A sync stores nothing on the visitor's device by itself, but the redirect has the vendor read and write \
        cookies there. That needs consent beforehand under the ePrivacy Directive (in the UK: PECR), however the ID is \
        kept afterwards. So use explicit wherever visitors from the EU or the UK come, which denies until consent is \
        there; implicit is for traffic under opt-out laws alone, as in the US.",
    expectation: "Of desktop visitors in the UK and the EU expect an ID of about 60 to 70 of 100, fewer where Safari and \
        iPhones prevail. A vendor that stays under 40 has most likely changed its endpoint, or has been given another \
        partner ID than its own.",
    visitors: &[
        (
            "Chrome or Edge without a blocker",
            "The sync works: the vendor's cookie is read, and its ID comes back if the vendor knows the browser.",
        ),
        (
            "Any browser with an ad blocker, and Brave",
            "The request to the vendor is stopped, nothing comes back, and no ID is stored. Tries go on a few times and \
             then daily, at most eight in 90 days.",
        ),
        (
            "Safari, and every browser on iPhone and iPad",
            "Cookies of third parties are blocked: the vendor has no ID, or makes a new one each time.",
        ),
        (
            "Firefox",
            "Each site has its own jar of third parties' cookies: an ID may come back, and is of use on your site alone.",
        ),
        (
            "Arrived by a paid click",
            "The click ID is read from the page's URL before any sync, so there is a match key with or without a blocker.",
        ),
        (
            "Has given an email address or a phone number",
            "Conversions APIs match by its hash; a synced ID comes on top.",
        ),
    ],
    helps: &[
        "Learn who visitors are earlier: forms, accounts, newsletters.",
        "Deliver hashed email and phone with conversions (Enhanced Conversions, the vendors' conversions APIs).",
        "Leave click IDs and generated IDs on: they ask no vendor, so no blocker stops them.",
    ],
    does_not_help: &[
        "Uploading customer lists (Customer Match): they reach customers you know, not visitors you don't.",
        "Another name for the collect host: it is the vendor's host that blockers stop.",
        "A shorter life of IDs, or more tries: whoever blocks the vendor blocks it the next time.",
    ],
};
