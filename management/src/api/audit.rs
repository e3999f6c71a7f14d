//! The audit log: a row in the same transaction as the change it tells of.

use diesel::{
    ExpressionMethods, QueryDsl,
    dsl::{exists, select},
    insert_into,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::audit_log;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    caller::{Caller, Origin},
    error::{Code, Result},
};

/// Fields that say nothing about what was changed.
const UNRECORDED_FIELDS: [&str; 7] =
    ["version", "created_at", "updated_at", "id", "last_refused_host", "last_refused_on", "warnings"];

/// A change, as it is named in the audit log.
#[derive(Debug)]
pub struct Change<'a> {
    /// `source.updated`: the resource and what was done to it.
    pub action: &'a str,
    /// `source`: the kind of thing that was changed.
    pub resource: &'a str,
    /// ID or name of that thing. Tells nothing of a visitor.
    pub id: &'a str,
}

impl Change<'_> {
    /// Notes that `caller` made what was `before` into what is `after`, both as the API shows them, and so
    /// without secrets. None stands for what was not there, or is not there any more. Where nothing was
    /// changed, nothing is noted.
    pub async fn record<T: Serialize>(
        &self,
        connection: &mut AsyncPgConnection,
        caller: &Caller,
        before: Option<&T>,
        after: Option<&T>,
    ) -> Result<()> {
        let changes = difference(&shown(before), &shown(after));
        if before.is_some() && after.is_some() && changes.is_empty() {
            return Ok(());
        }
        self.note(connection, caller, Value::Object(changes)).await
    }

    /// Notes that `caller` did it, where no fields were changed, or `changes` are known already.
    pub async fn note(
        &self,
        connection: &mut AsyncPgConnection,
        caller: &Caller,
        changes: Value,
    ) -> Result<()> {
        let who = Some((caller.user_id, caller.email.as_str()));
        self.insert(connection, caller.org_id, who, &caller.origin, changes).await
    }

    /// Notes it for someone who is not, or not yet, logged in.
    pub async fn insert(
        &self,
        connection: &mut AsyncPgConnection,
        org: Uuid,
        who: Option<(Uuid, &str)>,
        from: &Origin,
        changes: Value,
    ) -> Result<()> {
        insert_into(audit_log::table)
            .values((
                audit_log::id.eq(Uuid::now_v7()),
                audit_log::org_id.eq(org),
                audit_log::user_id.eq(who.map(|(id, _)| id)),
                audit_log::user_email.eq(who.map(|(_, email)| email)),
                audit_log::action.eq(self.action),
                audit_log::resource_type.eq(self.resource),
                audit_log::resource_id.eq(self.id),
                audit_log::changes.eq(changes),
                audit_log::ip.eq(from.ip.to_string()),
                audit_log::user_agent.eq(&from.user_agent),
            ))
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// Notes that `caller` made, changed or removed a `resource`, by what there was and what there is (see
/// [`Change::record`]): `source.created`, `source.updated`, `source.deleted`.
pub async fn record<T: Serialize>(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    resource: &str,
    id: &str,
    before: Option<&T>,
    after: Option<&T>,
) -> Result<()> {
    let done = match (before, after) {
        (None, _) => "created",
        (Some(_), Some(_)) => "updated",
        (Some(_), None) => "deleted",
    };
    Change { action: &format!("{resource}.{done}"), resource, id }
        .record(connection, caller, before, after)
        .await
}

/// Answers a DELETE of what is not there: no content where this organisation has removed it before, so that a
/// second DELETE is as good as the first; else `NOT_FOUND`, as there never was such a thing.
pub async fn already_removed(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    action: &'static str,
    id: Uuid,
) -> Result<StatusCode> {
    let own = audit_log::table.filter(audit_log::org_id.eq(org)).filter(audit_log::action.eq(action));
    let removals = own.filter(audit_log::resource_id.eq(id.to_string()));
    let removed: bool = select(exists(removals)).get_result(connection).await?;
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(Code::NotFound.into()) }
}

fn shown<T: Serialize>(record: Option<&T>) -> Map<String, Value> {
    match record.map(serde_json::to_value) {
        Some(Ok(Value::Object(fields))) => fields,
        _ => Map::new(),
    }
}

/// Maps each field that differs to `{old, new}`.
fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let mut changes = Map::new();
    for name in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
        if old != new && !UNRECORDED_FIELDS.contains(&name.as_str()) {
            changes.insert(name.clone(), json!({ "old": old, "new": new }));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_changed_and_nothing_else() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let before = map(json!({"id": 1, "name": "a", "domains": ["x"], "version": 1}));
        let after = map(json!({"id": 1, "name": "b", "domains": ["x"], "version": 2}));
        assert_eq!(Value::Object(difference(&before, &after)), json!({"name": {"old": "a", "new": "b"}}));
        let made = difference(&Map::new(), &after);
        assert_eq!(made["name"], json!({"old": null, "new": "b"}));
        assert!(difference(&after, &after).is_empty());
    }
}
