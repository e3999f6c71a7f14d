-- True where the vendor's sync is kept from browsers whose engine can't do redirects through third parties.
ALTER TABLE identity_sources ADD COLUMN supported_browsers_only boolean NOT NULL DEFAULT false;
