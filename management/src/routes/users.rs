//! Users: the people who use the API.

mod view;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, QueryDsl, SelectableHelper, delete,
    dsl::{exists, select, sql},
    insert_into,
    sql_types::{Bool, Nullable, Timestamptz},
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    rows,
    schema::{orgs, users},
};
use serde_json::json;
use uuid::Uuid;

use self::view::{NewUser, PasswordInput, UserInput, UserRow, UserView};
use crate::{
    api::{
        audit::{self, Change},
        body::Body,
        caller::{Caller, require},
        error::{ApiError, Code, Result},
        fields::{self, Fields},
        page::{Page, Paged},
        permission::Role,
        query::{Id, IfMatch, Query},
        versioned::Versioned,
    },
    auth::{
        new_password::hash_of_new,
        sessions::{self, Ending},
    },
    state::Management,
};

/// Lists users, oldest first.
#[utoipa::path(get, path = "/v1/admin/users", tag = "users", params(Page),
    responses((status = 200, body = Paged<UserView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<UserView>>> {
    let mut query = users::table
        .filter(users::org_id.eq(caller.org_id))
        .order(users::id)
        .limit(page.rows())
        .select(UserRow::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(users::id.gt(after));
    }
    let mut connection = state.connection().await?;
    let found: Vec<UserRow> = query.load(&mut **connection).await?;
    let shown: Result<Vec<UserView>> = found.into_iter().map(UserRow::shown).collect();
    Ok(Json(page.of(shown?, |view| view.id.to_string())))
}

/// Makes a user. Only an owner makes an owner.
#[utoipa::path(post, path = "/v1/admin/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = UserView),
        (status = 409, description = "Some user of the organisation has that email address.")))]
pub async fn create(
    State(state): State<Management>,
    caller: Caller,
    Body(input): Body<NewUser>,
) -> Result<Versioned<UserView>> {
    let mut wrong = Fields::default();
    wrong.check(fields::is_email(&input.email), "email", "must be an email address");
    wrong.text("name", &input.name, 0, 200);
    wrong.done()?;
    require(caller.role.may_touch(input.role))?;
    let (org, id) = (caller.org_id, Uuid::now_v7());
    let about = vec![input.email.clone(), input.name.clone()];
    let password_hash = hash_of_new(&state.auth, org, about, input.password, "password").await?;
    let role = input.role.name().to_owned();
    let user = rows::User { id, org_id: org, email: input.email, name: input.name, role, password_hash };
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            insert_into(users::table).values(user).execute(connection).await?;
            let made = one(connection, org, id).await?;
            audit::record(connection, &caller, "user", &id.to_string(), None, Some(&made)).await?;
            Ok(Versioned(StatusCode::CREATED, made.version, made))
        })
        .await
}

/// Shows a user of the organisation.
#[utoipa::path(get, path = "/v1/admin/users/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, body = UserView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
) -> Result<Versioned<UserView>> {
    let mut connection = state.connection().await?;
    let user = one(&mut connection, caller.org_id, id).await?;
    Ok(Versioned(StatusCode::OK, user.version, user))
}

/// Changes a user; what is left out stays as it is. Only an owner changes an owner, or makes one of someone.
#[utoipa::path(put, path = "/v1/admin/users/{id}", tag = "users", request_body = UserInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = UserView),
        (status = 409, description = "The version is not the newest, or no owner would be left who can log in.")))]
pub async fn update_one(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    seen: IfMatch,
    Body(input): Body<UserInput>,
) -> Result<Versioned<UserView>> {
    let mut wrong = Fields::default();
    if let Some(name) = &input.name {
        wrong.text("name", name, 0, 200);
    }
    wrong.done()?;
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = locked(connection, &caller, id).await?;
            require(caller.role.may_touch(input.role))?;
            seen.check(Some(before.version))?;
            let own = users::table.filter(users::org_id.eq(org)).filter(users::id.eq(id));
            let is_disabled = input.disabled.unwrap_or(before.disabled);
            let disabled_at = sql::<Nullable<Timestamptz>>("CASE WHEN ")
                .bind::<Bool, _>(is_disabled)
                .sql(" THEN coalesce(disabled_at, now()) END");
            update(own)
                .set((
                    input.name.as_ref().map(|name| users::name.eq(name)),
                    users::role.eq(input.role.name()),
                    users::disabled_at.eq(disabled_at),
                ))
                .execute(connection)
                .await?;
            if is_disabled {
                sessions::revoke(connection, org, id, Ending::All).await?;
            }
            keep_an_owner(connection, org, &before).await?;
            let after = one(connection, org, id).await?;
            audit::record(connection, &caller, "user", &id.to_string(), Some(&before), Some(&after)).await?;
            Ok(Versioned(StatusCode::OK, after.version, after))
        })
        .await
}

/// Sets someone else's password; one's own is changed at `me/password`. All of their sessions end.
#[utoipa::path(put, path = "/v1/admin/users/{id}/password", tag = "users", request_body = PasswordInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = UserView), (status = 409, description = "The version is not the newest.")))]
pub async fn set_password(
    State(state): State<Management>,
    caller: Caller,
    Id(id): Id,
    seen: IfMatch,
    Body(input): Body<PasswordInput>,
) -> Result<Versioned<UserView>> {
    let org = caller.org_id;
    if id == caller.user_id {
        return Err(ApiError::with_message(Code::Forbidden, "Your own password is changed at me/password."));
    }
    let user = {
        let mut connection = state.connection().await?;
        one(&mut connection, org, id).await?
    };
    require(caller.role.may_touch(user.role))?;
    let hash = hash_of_new(&state.auth, org, vec![user.email, user.name], input.password, "password").await?;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = locked(connection, &caller, id).await?;
            seen.check(Some(before.version))?;
            let own = users::table.filter(users::org_id.eq(org)).filter(users::id.eq(id));
            update(own).set(users::password_hash.eq(hash)).execute(connection).await?;
            sessions::revoke(connection, org, id, Ending::All).await?;
            let text = id.to_string();
            let change = Change { action: "user.password_set", resource: "user", id: &text };
            change.note(connection, &caller, json!({})).await?;
            let after = one(connection, org, id).await?;
            Ok(Versioned(StatusCode::OK, after.version, after))
        })
        .await
}

/// Removes a user; their tokens are worth nothing from then on. Removing one who is gone is no error.
#[utoipa::path(delete, path = "/v1/admin/users/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 409, description = "No owner would be left who can log in.")))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let before = match locked(connection, &caller, id).await {
                Err(error) if error.code() == Code::NotFound => {
                    return audit::already_removed(connection, org, "user.deleted", id).await;
                }
                found => found?,
            };
            let own = users::table.filter(users::org_id.eq(org)).filter(users::id.eq(id));
            delete(own).execute(connection).await?;
            keep_an_owner(connection, org, &before).await?;
            audit::record(connection, &caller, "user", &id.to_string(), Some(&before), None).await?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Finds the user of that ID, if they are of the organisation.
async fn one(connection: &mut AsyncPgConnection, org: Uuid, id: Uuid) -> Result<UserView> {
    let own = users::table.filter(users::org_id.eq(org)).filter(users::id.eq(id));
    let found: UserRow = own.select(UserRow::as_select()).first(connection).await?;
    found.shown()
}

/// Finds the user as [`one`] does, if the caller may change them. Nobody else changes any user of the
/// organisation until the end of the transaction, so that two owners can't remove each other.
async fn locked(connection: &mut AsyncPgConnection, caller: &Caller, id: Uuid) -> Result<UserView> {
    let org = orgs::table.find(caller.org_id).select(orgs::id);
    org.for_no_key_update().first::<Uuid>(connection).await?;
    let own = users::table.filter(users::org_id.eq(caller.org_id)).filter(users::id.eq(id));
    // Before their sessions, as wherever these are changed.
    own.select(users::id).for_update().first::<Uuid>(connection).await?;
    let user = one(connection, caller.org_id, id).await?;
    require(caller.role.may_touch(user.role))?;
    Ok(user)
}

/// Refuses what was done to the user who was `before`, where they were the last owner who could log in.
async fn keep_an_owner(connection: &mut AsyncPgConnection, org: Uuid, before: &UserView) -> Result<()> {
    if before.role != Role::Owner || before.disabled {
        return Ok(());
    }
    let owners = users::table
        .filter(users::org_id.eq(org))
        .filter(users::role.eq(Role::Owner.name()))
        .filter(users::disabled_at.is_null());
    let is_left: bool = select(exists(owners)).get_result(connection).await?;
    if is_left { Ok(()) } else { Err(Code::LastOwner.into()) }
}
