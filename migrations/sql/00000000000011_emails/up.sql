-- An email is unique in its organisation, and may be that of users in several: who logs in says in which.
DROP INDEX users_by_email;
CREATE UNIQUE INDEX users_by_email ON users (lower(email), org_id);
