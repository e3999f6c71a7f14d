//! A family of identifiers that are written to by several calls at once, and the states that it may be in.

use std::fmt::Debug;

use harness::{
    people::{browser, user, vouched},
    world::World,
};
use proto::v1::{Subject, identity_ref::Id};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{
    BROWSERS, IDS,
    model::Model,
    op::{Op, Way},
};

/// The text of an identifier of a family.
pub fn text(family: &str, id: u8) -> String {
    format!("{family}-{id}")
}

pub struct Family {
    pub name: String,
    /// States that the family may be in.
    pub models: Vec<Model>,
    pub age: usize,
}

impl Family {
    pub fn new(number: usize) -> Self {
        Self { name: format!("f{number}"), models: vec![Model::default()], age: 0 }
    }

    pub fn text(&self, id: u8) -> String {
        text(&self.name, id)
    }

    pub fn id(&self, id: u8) -> Id {
        if id < BROWSERS { browser(self.text(id)) } else { user(self.text(id)) }
    }

    /// Keeps the states in which an answer is right; there has to be one.
    pub fn keep(&mut self, answer: &dyn Debug, is_right: impl Fn(&Model) -> bool) {
        let is_any = self.models.iter().any(&is_right);
        assert!(is_any, "{}: {answer:#?}\nis in none of {:#?}", self.name, self.models);
        self.models.retain(is_right);
    }

    /// Draws an event of a page, or of a service, which vouches for what it says.
    pub fn draw(&self, random: &mut StdRng, on_page: bool) -> Op {
        let browser = random.random_range(0..BROWSERS);
        let on_page = on_page.then(|| if random.random_bool(0.5) { Way::UserHash } else { Way::Claim });
        let way = on_page.unwrap_or(Way::Signed);
        let user = Some((random.random_range(BROWSERS..IDS), way)).filter(|_| random.random_bool(0.5));
        // What a device's reset keeps apart from then on is in *visitors/resets*; that of a service names nobody else.
        let reset = on_page.is_none() && random.random_bool(0.2);
        let cookie = Some(random.random_range(0..BROWSERS)).filter(|_| !reset && random.random_bool(0.4));
        Op::See { browser, user, cookie, reset }
    }

    /// Draws an erasure, or the undoing of a merge that was seen.
    pub fn draw_rare(&self, random: &mut StdRng) -> Op {
        let merged = self.models[0].0.iter().filter(|own| own.merged_into.is_some());
        let merged: Vec<_> = merged.filter_map(|own| own.name.clone()).collect();
        let merged = merged.choose(random).filter(|_| random.random_bool(0.8)).cloned();
        merged.map_or_else(|| Op::Erase(random.random_range(0..IDS)), Op::Unmerge)
    }

    pub fn subject(&self, world: &World, op: &Op) -> Option<Subject> {
        let Op::See { browser, user, cookie, reset } = *op else { return None };
        let subject = Subject {
            anonymous_id: Some(self.text(browser)),
            user_id: user.map(|(id, _)| self.text(id)),
            cookie_anonymous_id: cookie.map(|id| self.text(id)),
            reset,
            ..Subject::default()
        };
        let is_vouched = user.is_some_and(|(_, way)| way == Way::UserHash);
        Some(if is_vouched { vouched(world, subject) } else { subject })
    }
}
