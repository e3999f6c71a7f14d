//! The first owner of an organisation: nobody can log in before it exists, so it is made from the shell.

use std::io::{self, IsTerminal};

use diesel::insert_into;
use diesel_async::{AsyncConnection, RunQueryDsl};
use migrations::{
    database::Database,
    rows::{Org, User},
    schema::{orgs, users},
};
use secrecy::SecretString;
use serve::{Env, EnvError};
use uuid::Uuid;

use crate::{api::fields, auth::password};

/// Longest name of an organisation or a person, in characters (`orgs.name`).
const MAX_NAME_CHARS: usize = 200;

/// An organisation and its owner.
#[derive(Debug, clap::Args)]
pub struct NewOwner {
    /// The owner's email address. Where users of other organisations have it, a login names the organisation.
    #[arg(long)]
    pub email: String,
    /// The organisation's name.
    #[arg(long)]
    pub org: String,
    /// The owner's name, for display.
    #[arg(long, default_value = "")]
    pub name: String,
}

/// Reasons why no owner was created. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The email address does not have the form of one.
    #[error("--email is not an email address")]
    Email,
    /// The name is empty, too long, or has control characters.
    #[error("--org must have 1 to 200 characters, --name at most 200; neither control characters")]
    Name,
    /// The password may not be one.
    #[error("the password {0}")]
    Password(#[from] password::Refused),
    /// The database can not be reached.
    #[error("DATABASE_URL: can't connect: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The database refused a statement.
    #[error("the database refused: {0}")]
    Query(#[from] diesel::result::Error),
}

/// Reads the password from `OWNER_PASSWORD` (or its file), else the first line of standard input.
pub fn read_password(env: &Env) -> Result<SecretString, EnvError> {
    const NAME: &str = "OWNER_PASSWORD";
    if let Some(password) = env.secret(NAME)? {
        return Ok(password);
    }
    if io::stdin().is_terminal() {
        eprintln!("Password (shown as you type):");
    }
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .map_err(|error| EnvError::malformed(NAME, format_args!("can't be read: {}", error.kind())))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line.into())
}

/// Creates the organisation, its sibling for the data of test keys, and the owner, all or nothing. Returns
/// the organisation's ID.
pub async fn create(database: &Database, new: &NewOwner, password: SecretString) -> Result<Uuid, OwnerError> {
    let new = checked(new)?;
    // Nothing else runs in this process.
    let password_hash = password::set(&password, &[new.email.clone(), new.name.clone(), new.org.clone()])?;
    let org = Org { id: Uuid::now_v7(), name: new.org, test_of: None };
    let sibling = Org { id: Uuid::now_v7(), name: org.name.clone(), test_of: Some(org.id) };
    let (id, role) = (org.id, "owner".to_owned());
    let user = User { id: Uuid::now_v7(), org_id: id, email: new.email, name: new.name, role, password_hash };

    let mut connection = database.connect().await?;
    connection
        .transaction(async |connection| {
            insert_into(orgs::table).values(org).execute(connection).await?;
            insert_into(orgs::table).values(sibling).execute(connection).await?;
            insert_into(users::table).values(user).execute(connection).await?;
            Ok(id)
        })
        .await
}

fn checked(new: &NewOwner) -> Result<NewOwner, OwnerError> {
    let trim = |text: &str| text.trim().to_owned();
    let new = NewOwner { email: trim(&new.email), org: trim(&new.org), name: trim(&new.name) };
    if !fields::is_email(&new.email) {
        return Err(OwnerError::Email);
    }
    let bad = |text: &str| text.chars().count() > MAX_NAME_CHARS || text.contains(char::is_control);
    if new.org.is_empty() || bad(&new.org) || bad(&new.name) {
        return Err(OwnerError::Name);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(email: &str, org: &str) -> Result<NewOwner, OwnerError> {
        checked(&NewOwner { email: email.into(), org: org.into(), name: " Ada ".into() })
    }

    #[test]
    fn what_is_typed_is_trimmed_and_checked() {
        let new = check(" ada@shop.example ", " Shop ").unwrap();
        assert_eq!(
            (new.email.as_str(), new.org.as_str(), new.name.as_str()),
            ("ada@shop.example", "Shop", "Ada")
        );
        assert!(matches!(check("ada", "Shop"), Err(OwnerError::Email)));
        for org in ["", "  ", "a\nb", &"a".repeat(201)] {
            assert!(matches!(check("a@b", org), Err(OwnerError::Name)), "{org}");
        }
    }
}
