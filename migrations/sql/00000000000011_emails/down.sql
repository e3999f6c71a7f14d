-- Fails while an email is that of users in several organisations.
DROP INDEX users_by_email;
CREATE UNIQUE INDEX users_by_email ON users (lower(email));
