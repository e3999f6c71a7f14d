//! Login with email and password: one answer, after the same work, whoever is asked for and whatever is
//! wrong.

use diesel::{
    ExpressionMethods, QueryDsl, Queryable, QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Nullable, Text, Uuid as SqlUuid},
    update,
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

/// Most characters of an organisation's ID or name.
const MAX_ORG_CHARS: usize = 200;
/// Most users of one address that are tried where nobody says which organisation is meant.
const MAX_ACCOUNTS: i64 = 4;

/// Users of an address, in one organisation where its ID or name is given.
const ACCOUNTS: &str = "SELECT u.id, u.org_id AS org, u.password_hash, u.disabled_at IS NOT NULL AS is_disabled \
    FROM users u JOIN orgs o ON o.id = u.org_id \
    WHERE lower(u.email) = lower($1) AND ($2 IS NULL OR o.id::text = lower($2) OR o.name = $2) \
    ORDER BY u.id LIMIT $3";

/// Users that the address with most of them has.
const MOST_ACCOUNTS: &str = "SELECT least(coalesce(max(users), 1), $1) AS most \
    FROM (SELECT count(*) AS users FROM users GROUP BY lower(email)) addresses";

/// Row of a user who may or may not log in.
#[derive(Debug, Clone, Queryable, QueryableByName)]
struct Account {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    org: Uuid,
    #[diesel(sql_type = Text)]
    password_hash: String,
    #[diesel(sql_type = Bool)]
    is_disabled: bool,
}

#[derive(QueryableByName)]
struct Most {
    #[diesel(sql_type = BigInt)]
    most: i64,
}

/// Account of which the password is right, and whether its hash is outdated.
type Proven = (Account, bool);

/// Gives the tokens of a new session to whoever has that address and that password, in `org` where several
/// organisations have users of that address: `ORG_NEEDED` where the password is right, and nobody says which.
pub async fn login(
    auth: &Auth,
    email: &str,
    org: Option<&str>,
    password: SecretString,
    origin: &Origin,
) -> Result<Pair> {
    let logged_in = log_in(auth, email, org, password, origin).await;
    let outcome = match logged_in.as_ref().map_err(ApiError::code) {
        Ok(_) => "ok",
        Err(Code::InvalidCredentials) => "wrong",
        Err(Code::OrgNeeded) => "org_needed",
        Err(Code::RateLimited) => "throttled",
        Err(Code::Overloaded) => "overloaded",
        Err(_) => "error",
    };
    counter!("datafly_logins_total", "outcome" => outcome).increment(1);
    logged_in
}

/// Does the work of [`login`], which counts how it ended.
async fn log_in(
    auth: &Auth,
    email: &str,
    org: Option<&str>,
    password: SecretString,
    origin: &Origin,
) -> Result<Pair> {
    let (email, org) = (email.trim(), org.map(str::trim).filter(|org| !org.is_empty()));
    let mut wrong = Fields::default();
    let length = email.chars().count();
    wrong.check(length <= fields::MAX_EMAIL_CHARS, "email", "must have at most 254 characters");
    wrong.check(!email.contains('\0'), "email", "must not have control characters");
    let is_org = |org: &str| org.chars().count() <= MAX_ORG_CHARS && !org.contains('\0');
    wrong.check(org.is_none_or(is_org), "org", "must be an organisation's ID or name");
    check_length(&mut wrong, "password", &password);
    wrong.done()?;
    let (accounts, most) = {
        let mut connection = auth.connection().await?;
        let accounts = sql_query(ACCOUNTS).bind::<Text, _>(email).bind::<Nullable<Text>, _>(org);
        let accounts: Vec<Account> = accounts.bind::<BigInt, _>(MAX_ACCOUNTS).load(&mut **connection).await?;
        let most = sql_query(MOST_ACCOUNTS).bind::<BigInt, _>(MAX_ACCOUNTS);
        let Most { most } = most.get_result(&mut **connection).await?;
        (accounts, usize::try_from(most).unwrap_or(1))
    };
    let known: Vec<(Uuid, Uuid)> = accounts.iter().map(|account| (account.org, account.id)).collect();
    // Of an unknown account the address, as it would be compared.
    let unknown = known.is_empty().then(|| email.to_lowercase().into_bytes());
    let counted = known.iter().map(|(_, id)| id.as_bytes().to_vec()).chain(unknown).collect();
    match prove(auth, accounts, most, counted, password.clone(), origin).await {
        Ok(_) if known.len() > 1 => Err(Code::OrgNeeded.into()),
        Ok(proven) => {
            let account = proven.into_iter().next().ok_or(Code::InvalidCredentials)?;
            let user = (account.0.org, account.0.id);
            let hash = up_to_date(auth, account, password).await?;
            sessions::begin(auth, user, &hash, origin).await
        }
        Err(error) => {
            if error.code() == Code::InvalidCredentials {
                for known in known {
                    note_failure(auth, known, origin);
                }
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
        let columns = (users::id, users::org_id, users::password_hash, users::disabled_at.is_not_null());
        own.select(columns).first(&mut **connection).await?
    };
    let counted = vec![caller.user_id.as_bytes().to_vec()];
    let proven = prove(auth, vec![account], 1, counted, password.clone(), &caller.origin).await?;
    let account = proven.into_iter().next().ok_or(Code::InvalidCredentials)?;
    up_to_date(auth, account, password).await
}

/// Gives those of the accounts whose password it is and who may log in, at least one. So many hashes are computed
/// whatever the accounts are: how many there are is not to be told by the time.
async fn prove(
    auth: &Auth,
    accounts: Vec<Account>,
    hashes: usize,
    counted: Vec<Vec<u8>>,
    password: SecretString,
    origin: &Origin,
) -> Result<Vec<Proven>> {
    let attempt = Attempt::begin(auth, &counted, origin.ip).await?;
    let stored: Vec<String> = accounts.iter().map(|account| account.password_hash.clone()).collect();
    let verified = auth.hashing.run(move || {
        let stored = stored.iter().map(|hash| Some(hash.as_str()));
        let all = stored.chain(std::iter::repeat(None)).take(hashes);
        all.map(|stored| password::verify(&password, stored)).collect::<Vec<_>>()
    });
    let verified = match verified.await {
        Ok(verified) => verified,
        Err(busy) => {
            attempt.did_not_count(auth).await?;
            return Err(busy);
        }
    };
    let mut proven = Vec::new();
    for (account, verification) in accounts.into_iter().zip(verified) {
        match verification {
            Verification::Right { outdated } if !account.is_disabled => proven.push((account, outdated)),
            Verification::NotComputed => {
                tracing::error!(user = %account.id, "a stored password hash is malformed, or costs more than any of ours");
            }
            _ => {}
        }
    }
    if proven.is_empty() {
        return Err(Code::InvalidCredentials.into());
    }
    // Whoever knows one account's password may not guess at another's of that address without end.
    let right: Vec<&[u8]> = proven.iter().map(|(account, _)| account.id.as_bytes().as_slice()).collect();
    attempt.succeeded(auth, &right, origin.ip).await?;
    Ok(proven)
}

/// Gives an account's hash; a new one where it was outdated, unless the password was changed meanwhile.
async fn up_to_date(auth: &Auth, (account, outdated): Proven, password: SecretString) -> Result<String> {
    if !outdated {
        return Ok(account.password_hash);
    }
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
