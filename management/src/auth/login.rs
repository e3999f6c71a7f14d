//! Login with email and password: one answer, after the same work, whoever is asked for and whatever is
//! wrong.

use std::sync::Arc;

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, define_sql_function, sql_types::Text, update,
};
use diesel_async::RunQueryDsl;
use metrics::counter;
use migrations::schema::users;
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{
    Auth,
    password::{self, Verification},
    sessions::{self, Pair},
    throttle::Attempt,
};
use crate::api::{
    audit::Change,
    caller::{Caller, Origin},
    error::{ApiError, Code, Result},
    fields::{self, Fields},
};

define_sql_function! { fn lower(text: Text) -> Text; }

/// Row of a user who may or may not log in.
#[derive(Debug, Clone, Queryable)]
struct Account {
    id: Uuid,
    org: Uuid,
    password_hash: String,
    is_disabled: bool,
}

/// Gives the tokens of a new session to whoever has that address and that password.
pub async fn login(auth: &Auth, email: &str, password: SecretString, origin: &Origin) -> Result<Pair> {
    let logged_in = log_in(auth, email, password, origin).await;
    let outcome = match logged_in.as_ref().map_err(ApiError::code) {
        Ok(_) => "ok",
        Err(Code::InvalidCredentials) => "wrong",
        Err(Code::RateLimited) => "throttled",
        Err(Code::Overloaded) => "overloaded",
        Err(_) => "error",
    };
    counter!("datafly_logins_total", "outcome" => outcome).increment(1);
    logged_in
}

/// Does the work of [`login`], which counts how it ended.
async fn log_in(auth: &Auth, email: &str, password: SecretString, origin: &Origin) -> Result<Pair> {
    let email = email.trim();
    let mut wrong = Fields::default();
    let length = email.chars().count();
    wrong.check(length <= fields::MAX_EMAIL_CHARS, "email", "must have at most 254 characters");
    wrong.check(!email.contains('\0'), "email", "must not have control characters");
    check_length(&mut wrong, "password", &password);
    wrong.done()?;
    let account = {
        let mut connection = auth.connection().await?;
        let named = users::table.filter(lower(users::email).eq(lower(email)));
        named.select(account()).first::<Account>(&mut **connection).await.optional()?
    };
    let known = account.as_ref().map(|account| (account.org, account.id));
    // Of an unknown account the address, as it would be compared.
    let counted = known.map_or_else(|| email.to_lowercase().into_bytes(), |(_, id)| id.as_bytes().to_vec());
    let proven = prove(auth, account, &counted, password, origin).await;
    match (proven, known) {
        (Ok(hash), Some(known)) => sessions::begin(auth, known, &hash, origin).await,
        (Ok(_), None) => Err(Code::InvalidCredentials.into()),
        (Err(error), known) => {
            if let Some(known) = known.filter(|_| error.code() == Code::InvalidCredentials) {
                note_failure(auth, known, origin);
            }
            Err(error)
        }
    }
}

/// Refuses what is longer than any password: it is not worth a hash.
fn check_length(wrong: &mut Fields, field: &str, password: &SecretString) {
    wrong.check(!password::is_too_long(password), field, "must have at most 128 characters");
}

/// Gives the stored hash of the caller's password, if `password` is it. Throttled as a login is. A text that
/// is too long for a password is told of `field`.
pub async fn confirm(auth: &Auth, caller: &Caller, password: SecretString, field: &str) -> Result<String> {
    let mut wrong = Fields::default();
    check_length(&mut wrong, field, &password);
    wrong.done()?;
    let account: Account = {
        let mut connection = auth.connection().await?;
        let own = users::table.filter(users::id.eq(caller.user_id)).filter(users::org_id.eq(caller.org_id));
        own.select(account()).first(&mut **connection).await?
    };
    prove(auth, Some(account), caller.user_id.as_bytes(), password, &caller.origin).await
}

type Columns = (users::id, users::org_id, users::password_hash, diesel::dsl::IsNotNull<users::disabled_at>);

fn account() -> Columns {
    (users::id, users::org_id, users::password_hash, users::disabled_at.is_not_null())
}

/// Gives the stored hash that `password` matches; a new one where it was outdated.
async fn prove(
    auth: &Auth,
    account: Option<Account>,
    counted: &[u8],
    password: SecretString,
    origin: &Origin,
) -> Result<String> {
    let attempt = Attempt::begin(auth, counted, origin.ip).await?;
    let password = Arc::new(password);
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let verified = {
        let password = Arc::clone(&password);
        auth.hashing.run(move || password::verify(&password, stored.as_deref())).await
    };
    let verification = match verified {
        Ok(verification) => verification,
        Err(busy) => {
            attempt.did_not_count(auth).await?;
            return Err(busy);
        }
    };
    match (verification, account) {
        (Verification::Right { outdated }, Some(account)) if !account.is_disabled => {
            attempt.succeeded(auth).await?;
            if outdated { renew(auth, account, password).await } else { Ok(account.password_hash) }
        }
        (Verification::NotComputed, Some(account)) => {
            tracing::error!(user = %account.id, "a stored password hash is malformed, or costs more than any of ours");
            Err(Code::InvalidCredentials.into())
        }
        _ => Err(Code::InvalidCredentials.into()),
    }
}

/// Replaces an outdated hash by one of today's cost, unless the password was changed meanwhile.
async fn renew(auth: &Auth, account: Account, password: Arc<SecretString>) -> Result<String> {
    let hash = auth.hashing.run(move || password::hash(&password)).await?.map_err(|_| Code::Internal)?;
    let mut connection = auth.connection().await?;
    let unchanged = users::table
        .filter(users::id.eq(account.id))
        .filter(users::org_id.eq(account.org))
        .filter(users::password_hash.eq(&account.password_hash));
    let renewed = update(unchanged).set(users::password_hash.eq(&hash));
    renewed.execute(&mut **connection).await?;
    Ok(hash)
}

/// Puts a failed login on record, beside the answer, which would tell by its time that there is such a user.
fn note_failure(auth: &Auth, (org, user): (Uuid, Uuid), origin: &Origin) {
    let (auth, origin) = (auth.clone(), origin.clone());
    tokio::spawn(async move {
        let id = user.to_string();
        let change = Change { action: "auth.login_failed", resource: "user", id: &id };
        let noted = async {
            let mut connection = auth.connection().await?;
            change.insert(&mut connection, org, None, &origin, json!({})).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(code = ?error.code(), "a failed login is not on record");
        }
    });
}
