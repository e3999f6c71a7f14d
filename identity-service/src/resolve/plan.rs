//! Which identifiers of a request belong together. Pure: what is known goes in; what is to be made and linked,
//! and what must not be, comes out.

use std::collections::{HashMap, HashSet};

use proto::v1::{Refusal, RefusalReason};
use uuid::Uuid;

use super::subject::Person;
use crate::identifiers::{Identifier, Kind};

/// A canonical identity that exists, or one that the plan makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// It exists.
    Known(Uuid),
    /// The one made for `new[n]`.
    New(usize),
}

/// What to do for the people of one request.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Identifiers that get a canonical identity of their own.
    pub new: Vec<Identifier>,
    /// Identifiers that join another's.
    pub links: Vec<(Identifier, Target)>,
    /// What was not linked, for each person.
    pub refusals: Vec<Vec<Refusal>>,
}

impl Plan {
    /// Plans for `people` in order. `canonical` tells what is known; `users` are the known canonical identities
    /// that have a user already: two users are never fused.
    pub fn of(
        people: &[&Person],
        canonical: impl Fn(&Identifier) -> Option<Uuid>,
        users: HashSet<Uuid>,
    ) -> Self {
        let mut planner = Planner {
            canonical,
            assigned: HashMap::new(),
            has_user: users.into_iter().map(Target::Known).collect(),
            plan: Self::default(),
        };
        for person in people {
            let refusals = planner.person(person);
            planner.plan.refusals.push(refusals);
        }
        planner.plan
    }
}

struct Planner<F> {
    canonical: F,
    assigned: HashMap<Identifier, Target>,
    has_user: HashSet<Target>,
    plan: Plan,
}

impl<F: Fn(&Identifier) -> Option<Uuid>> Planner<F> {
    fn person(&mut self, person: &Person) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let user = person.ids().find(|id| id.kind == Kind::UserId);
        let cookie = person.others.iter().find(|id| id.kind == Kind::AnonymousId);
        let own = self.target(&person.primary).unwrap_or_else(|| {
            let joined = self.joins(user, cookie, &mut refusals);
            self.assign(&person.primary, joined)
        });
        if let Some(user) = user {
            match self.target(user) {
                Some(target) => {
                    self.has_user.insert(target);
                }
                // Somebody else is logged in on this browser's identity.
                None if self.has_user.contains(&own) => {
                    refusals.push(refusal("user_id", RefusalReason::DifferentUsers));
                    let target = self.assign(user, None);
                    self.has_user.insert(target);
                }
                None => {
                    self.assign(user, Some(own));
                    self.has_user.insert(own);
                }
            }
        }
        if let Some(cookie) = cookie
            && self.target(cookie).is_none()
        {
            self.assign(cookie, Some(own));
        }
        refusals
    }

    /// What an unknown browser joins: its user's identity, else its cookie's, unless that is another user's.
    fn joins(
        &self,
        user: Option<&Identifier>,
        cookie: Option<&Identifier>,
        refusals: &mut Vec<Refusal>,
    ) -> Option<Target> {
        if let Some(target) = user.and_then(|user| self.target(user)) {
            return Some(target);
        }
        let target = cookie.and_then(|cookie| self.target(cookie))?;
        if user.is_some() && self.has_user.contains(&target) {
            refusals.push(refusal("cookie_anonymous_id", RefusalReason::DifferentUsers));
            return None;
        }
        Some(target)
    }

    fn target(&self, id: &Identifier) -> Option<Target> {
        self.assigned.get(id).copied().or_else(|| (self.canonical)(id).map(Target::Known))
    }

    fn assign(&mut self, id: &Identifier, joined: Option<Target>) -> Target {
        let target = joined.unwrap_or(Target::New(self.plan.new.len()));
        if joined.is_some() {
            self.plan.links.push((id.clone(), target));
        } else {
            self.plan.new.push(id.clone());
        }
        self.assigned.insert(id.clone(), target);
        target
    }
}

fn refusal(identifier: &str, reason: RefusalReason) -> Refusal {
    Refusal { identifier: identifier.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Uuid = Uuid::from_u128(1);
    const Y: Uuid = Uuid::from_u128(2);

    fn id(text: &str) -> Identifier {
        let kind = if text.starts_with('u') { Kind::UserId } else { Kind::AnonymousId };
        Identifier { kind, value: text.to_owned() }
    }

    fn person(ids: &[&str]) -> Person {
        let mut ids = ids.iter().map(|text| id(text));
        Person {
            primary: ids.next().unwrap(),
            others: ids.collect(),
            anonymous_id: None,
            refusals: Vec::new(),
            consent: None,
            want_pending_syncs: false,
        }
    }

    /// `known` as `name=canonical`; canonical identities in `users` have one.
    fn plan(people: &[&[&str]], known: &[(&str, Uuid)], users: &[Uuid]) -> Plan {
        let people: Vec<Person> = people.iter().map(|ids| person(ids)).collect();
        let people: Vec<&Person> = people.iter().collect();
        let canonical = |wanted: &Identifier| {
            known.iter().find(|(name, _)| id(name) == *wanted).map(|(_, canonical)| *canonical)
        };
        Plan::of(&people, canonical, users.iter().copied().collect())
    }

    fn reasons(plan: &Plan) -> Vec<(&str, i32)> {
        plan.refusals.iter().flatten().map(|r| (r.identifier.as_str(), r.reason)).collect()
    }

    const OTHERS: i32 = RefusalReason::DifferentUsers as i32;

    #[test]
    fn strangers_are_made_and_their_identifiers_linked() {
        let plan = plan(&[&["a", "u", "c"]], &[], &[]);
        assert_eq!(plan.new, [id("a")]);
        assert_eq!(plan.links, [(id("u"), Target::New(0)), (id("c"), Target::New(0))]);
    }

    #[test]
    fn an_unknown_browser_joins_its_user_before_its_cookie() {
        let both = plan(&[&["a", "u", "c"]], &[("u", X), ("c", Y)], &[X]);
        assert_eq!((both.new.len(), both.links), (0, vec![(id("a"), Target::Known(X))]));
        let cookie = plan(&[&["a", "c"]], &[("c", Y)], &[Y]);
        assert_eq!(cookie.links, [(id("a"), Target::Known(Y))]);
    }

    #[test]
    fn two_users_are_never_fused() {
        let login = plan(&[&["a", "u2"]], &[("a", X)], &[X]);
        assert_eq!((login.new.clone(), login.links.len()), (vec![id("u2")], 0));
        assert_eq!(reasons(&login), [("user_id", OTHERS)]);

        let cookie = plan(&[&["a", "u2", "c"]], &[("c", X)], &[X]);
        assert_eq!(cookie.new, [id("a")]);
        assert_eq!(cookie.links, [(id("u2"), Target::New(0))]);
        assert_eq!(reasons(&cookie), [("cookie_anonymous_id", OTHERS)]);

        let batch = plan(&[&["a", "u1"], &["a", "u2"]], &[], &[]);
        assert_eq!(batch.new, [id("a"), id("u2")]);
        assert_eq!(batch.links, [(id("u1"), Target::New(0))]);
    }

    #[test]
    fn people_of_one_request_see_each_other() {
        let plan = plan(&[&["a1", "u"], &["a2", "u"], &["a1"]], &[], &[]);
        assert_eq!(plan.new, [id("a1")]);
        assert_eq!(plan.links, [(id("u"), Target::New(0)), (id("a2"), Target::New(0))]);
    }
}
