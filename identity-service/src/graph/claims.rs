//! The claims of one event about who is who, as the rules work with them.

use time::OffsetDateTime;

use crate::{
    identifiers::{Identifier, Kind},
    pii::Digest,
    storage::via::Via,
};

/// The claims of one event.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The browser, by the ID that it has from now on; the user where there is no browser.
    pub primary: Identifier,
    /// The user whom the event names.
    pub user: Option<Identifier>,
    /// The way in which the event names the user: [`Via::Signed`], [`Via::UserHash`], [`Via::IdentityToken`] or
    /// [`Via::Claim`].
    pub user_via: Via,
    /// Time of issue of the identity token that vouches for the user, where one does.
    pub token_issued_at: Option<OffsetDateTime>,
    /// The cookie's anonymous ID, where it differs from the browser's.
    pub cookie: Option<Identifier>,
    /// The browser's identity on the domain that it comes from, as an opened link token says.
    pub link: Option<LinkToken>,
    /// True where a new person uses this device from now on.
    pub reset: bool,
    /// The IDs that the device had before, where it begins anew.
    pub replaced: Vec<Identifier>,
    /// The last moment at which a signed event may have been signed, where that is known: it undoes no newer link.
    pub signed_until: Option<OffsetDateTime>,
    /// Digest of a signed call's message ID: a message changes the graph once.
    pub message: Option<Digest>,
}

/// A token whose seal and age are right. PostgreSQL knows if it was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkToken {
    /// The browser, by its ID on the domain that it comes from.
    pub browser: Identifier,
    /// Time at which the token was made, to the millisecond.
    pub issued_at: OffsetDateTime,
    /// SHA-256 of the token's text, under which its use is recorded: a token counts once.
    pub digest: Digest,
}

impl Claims {
    /// The browser, where the event comes from one.
    pub fn browser(&self) -> Option<&Identifier> {
        Some(&self.primary).filter(|id| id.kind == Kind::AnonymousId)
    }

    /// The anonymous ID that the browser has from now on; none without a browser.
    pub fn anonymous_id(&self) -> Option<&str> {
        self.browser().map(|browser| browser.value.as_str())
    }

    /// The same without its identity token, which vouches for nobody any more.
    pub fn without_token(&self) -> Self {
        let user_via = if self.user_via == Via::IdentityToken { Via::Claim } else { self.user_via };
        Self { user_via, token_issued_at: None, ..self.clone() }
    }

    /// Time at which the event was said: that of its signing, else `now`.
    pub fn said_at(&self, now: OffsetDateTime) -> OffsetDateTime {
        self.signed_until.unwrap_or(now).min(now)
    }

    /// Identifiers of the event, the primary one first and none twice.
    pub fn ids(&self) -> impl Iterator<Item = &Identifier> {
        let user = self.user.as_ref().filter(|_| self.browser().is_some());
        std::iter::once(&self.primary).chain(user).chain(&self.cookie)
    }

    /// The same identifiers, followed by the browser that a link token names and those that a reset replaces.
    pub fn named(&self) -> impl Iterator<Item = &Identifier> {
        self.ids().chain(self.link.iter().map(|token| &token.browser)).chain(&self.replaced)
    }
}
