//! Reading what is stored in the fields that a request collects: ahead, together with all else, and for
//! identities that could not be guessed.

use std::collections::BTreeSet;

use bb8_redis::redis::{Pipeline, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::vendor_ids::stored::{Fields, Held};
use crate::{
    app::Core,
    error::Result,
    resolve::{Tenant, facts::Read, subject::Person},
    storage::{
        delivered, projections, read_through,
        redis::{
            keys,
            protocol::{self, Text, VERSION_FIELD},
        },
    },
    sync::view::View,
};

/// The fields that `people` may change.
pub fn fields(tenant: &Tenant, people: &[&Person]) -> Vec<&'static str> {
    let Some(source) = &tenant.source else { return Vec::new() };
    let clicks = people.iter().flat_map(|person| &person.brought.clicks).map(|(record, _)| record.field);
    let may_make = people.iter().any(|person| person.brought.may_make);
    let made = source.generated_ids.iter().filter(|_| may_make).map(|record| record.field);
    let fields: BTreeSet<&str> = clicks.chain(made).collect();
    fields.into_iter().collect()
}

/// Adds the command that [`judge`] reads the answer of.
pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid, fields: &[&'static str]) {
    pipe.cmd("HMGET").arg(keys::vendor_ids(org, canonical).name).arg(VERSION_FIELD).arg(fields);
}

/// Judges an answer: the fields of the key, or the reason why it says nothing.
pub fn judge(answer: Value, fields: &[&'static str]) -> Result<Fields, Text> {
    let mut texts = protocol::strings(answer).into_iter();
    match protocol::hash_state(texts.next().flatten().as_deref()) {
        Text::Ready(_) => {}
        other => return Err(other),
    }
    let held = |(field, text): (&&str, Option<String>)| Some(((*field).to_owned(), Held::of_text(&text?)?));
    Ok(fields.iter().zip(texts).filter_map(held).collect())
}

/// The second look, at everybody who brings something and was not guessed, with their schedule. What can't be
/// read stays unknown.
pub async fn rest(core: &Core, tenant: &Tenant, people: &[&Person], read: &mut Read, now: OffsetDateTime) {
    let fields = fields(tenant, people);
    let mut unknown = BTreeSet::new();
    for person in people.iter().filter(|person| person.brought.is_any()) {
        let Some(known) = read.canonical(&person.primary) else { continue };
        if known.created {
            read.learn_held(known.canonical, Fields::new());
        } else if read.held(known.canonical).is_none() {
            unknown.insert(known.canonical);
        }
    }
    if unknown.is_empty() {
        return;
    }
    let mut pipe = Pipeline::new();
    for canonical in &unknown {
        ask(&mut pipe, tenant.org, *canonical, &fields);
        View::ask(&mut pipe, tenant.org, *canonical);
    }
    let mut lost = Vec::new();
    let mut missing = Vec::new();
    let answers = core.stores.redis.pipeline::<Vec<Value>>(&pipe).await.unwrap_or_default();
    let is_away = answers.is_empty();
    let mut answers = answers.into_iter();
    for canonical in unknown {
        match judge(answers.next().unwrap_or(Value::Nil), &fields) {
            Ok(held) => read.learn_held(canonical, held),
            Err(state) => {
                if state == Text::Missing && !is_away {
                    missing.push(keys::vendor_ids(tenant.org, canonical));
                }
                lost.push(canonical);
            }
        }
        if let Some(view) = View::read(&mut answers) {
            read.learn_syncs(canonical, view);
        }
    }
    if lost.is_empty() {
        return;
    }
    let loaded = read_through::through(&core.stores, &missing, async {
        let mut connection = core.stores.connection().await?;
        let (entries, known) = delivered::entries(&mut connection, tenant.org, &lost, now).await?;
        Ok((known, entries))
    });
    match loaded.await {
        Ok(mut known) => {
            let rebuilt: Vec<Uuid> = known.keys().copied().collect();
            for canonical in lost {
                let rows = known.remove(&canonical).unwrap_or_default();
                let held = rows.iter().map(|row| (row.field.clone(), Held::of_row(row)));
                read.learn_held(canonical, held.collect());
            }
            // Redis has lost this identity's keys; the projections for other systems are among them.
            if !missing.is_empty() {
                projections::refresh(core, tenant.org, rebuilt, now).await;
            }
        }
        Err(error) => serve::failing!(WARN, %error, "what is stored can't be read; nothing is collected"),
    }
}
