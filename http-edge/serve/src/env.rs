//! The environment, read once. Every error is one line that names the variable and never prints its value.

use std::{collections::HashMap, ffi::OsString, fmt::Display, fs, io, str::FromStr};

use http::{Uri, uri::Scheme};
use secrecy::SecretString;

/// Prefix of the names that are ours, so that an unknown one is a mistake worth stopping for.
const OWN_PREFIX: &str = "DATAFLY_";
/// Suffix of the variable that names a file holding the secret.
const FILE_SUFFIX: &str = "_FILE";

/// Error of the environment, told in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A required variable is absent or empty.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable begins with `DATAFLY_`, but this binary reads none of that name.
    #[error("{0} is not a variable this program knows")]
    Unknown(String),
    /// The variable is set twice, as `NAME` and as `NAME_FILE`.
    #[error("{0} and {0}_FILE are both set; keep one")]
    Both(&'static str),
    /// The value of the variable can't be used.
    #[error("{name} {why}")]
    Malformed {
        /// Name of the variable.
        name: &'static str,
        /// Text that follows the name and says what is expected; never the value.
        why: String,
    },
}

impl EnvError {
    /// An error of the caller's own check. `why` follows the name (`must be 64 hex digits`) and must not
    /// contain the value.
    pub fn malformed(name: &'static str, why: impl Display) -> Self {
        Self::Malformed { name, why: why.to_string() }
    }
}

/// A snapshot of the variables one binary knows. Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Env {
    values: HashMap<String, OsString>,
}

impl Env {
    /// Reads the process environment. `known` holds base names; `NAME_FILE` is accepted for each. An
    /// unknown name that begins with `DATAFLY_` is an error.
    pub fn read(known: &'static [&'static str]) -> Result<Self, EnvError> {
        Self::from_pairs(known, std::env::vars_os())
    }

    /// Reads as [`Env::read`] does, from given pairs.
    pub fn from_pairs<K, V>(
        known: &'static [&'static str],
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, EnvError>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let mut values = HashMap::new();
        for (name, value) in pairs {
            let Ok(name) = name.into().into_string() else { continue };
            if known.contains(&name.strip_suffix(FILE_SUFFIX).unwrap_or(&name)) {
                values.insert(name, value.into());
            } else if name.starts_with(OWN_PREFIX) {
                return Err(EnvError::Unknown(name));
            }
        }
        Ok(Self { values })
    }

    /// The value of `name`; an empty one counts as absent.
    pub fn optional(&self, name: &'static str) -> Result<Option<String>, EnvError> {
        match self.values.get(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(EnvError::malformed(name, "is not UTF-8")),
            },
        }
    }

    /// The value of `name`, which must be there.
    pub fn required(&self, name: &'static str) -> Result<String, EnvError> {
        self.optional(name)?.ok_or(EnvError::Missing(name))
    }

    /// The secret `name`, or the content of the file that `NAME_FILE` names without its trailing newline.
    /// Setting both is an error, so is a file that can't be read.
    pub fn secret(&self, name: &'static str) -> Result<Option<SecretString>, EnvError> {
        let path = self.values.get(&format!("{name}{FILE_SUFFIX}")).filter(|path| !path.is_empty());
        let mut text = match (self.optional(name)?, path) {
            (Some(_), Some(_)) => return Err(EnvError::Both(name)),
            (value, None) => return Ok(value.map(SecretString::from)),
            (None, Some(path)) => fs::read_to_string(path).map_err(|error| unreadable(name, &error))?,
        };
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Ok((!text.is_empty()).then(|| SecretString::from(text)))
    }

    /// The secret `name`, which must be there.
    pub fn required_secret(&self, name: &'static str) -> Result<SecretString, EnvError> {
        self.secret(name)?.ok_or(EnvError::Missing(name))
    }

    /// The value of `name` as a `T`.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, EnvError> {
        // The parser's own error is dropped: it may quote the value.
        self.optional(name)?
            .map(|text| text.trim().parse().map_err(|_| EnvError::malformed(name, "is malformed")))
            .transpose()
    }

    /// The value of `name` as a `T`, or `default` where it is absent.
    pub fn parsed_or<T: FromStr>(&self, name: &'static str, default: T) -> Result<T, EnvError> {
        Ok(self.parsed(name)?.unwrap_or(default))
    }

    /// The addresses in `name`: one or more `http://host:port` or `https://host:port`, separated by commas.
    pub fn addresses(&self, name: &'static str) -> Result<Vec<Uri>, EnvError> {
        let addresses = self.required(name)?.split(',').map(address).collect::<Option<_>>();
        addresses.ok_or_else(|| {
            EnvError::malformed(name, "must be http://host:port or https://host:port, or several with commas")
        })
    }

    /// Refuses a variable of the contract whose function is not built yet: ignoring it silently would
    /// look as if it worked.
    pub fn unimplemented(&self, name: &'static str) -> Result<(), EnvError> {
        match self.optional(name)? {
            None => Ok(()),
            Some(_) => Err(EnvError::malformed(name, "is not supported yet; unset it")),
        }
    }
}

fn address(text: &str) -> Option<Uri> {
    let uri: Uri = text.trim().parse().ok()?;
    let is_http = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    (is_http && uri.path() == "/" && uri.query().is_none()).then_some(uri)
}

fn unreadable(name: &'static str, error: &io::Error) -> EnvError {
    EnvError::malformed(
        name,
        format_args!("can't be read from the file in {name}{FILE_SUFFIX}: {}", error.kind()),
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const KNOWN: &[&str] = &["LISTEN_ADDR", "SERVICE_TOKEN", "DATAFLY_ENCRYPTION_KEY"];

    fn env(pairs: &[(&str, &str)]) -> Result<Env, EnvError> {
        Env::from_pairs(KNOWN, pairs.iter().copied())
    }

    #[test]
    fn an_unknown_name_of_ours_stops_the_start_and_foreign_ones_do_not() {
        let error = env(&[("DATAFLY_ENCRYPTON_KEY", "x")]).err().unwrap().to_string();
        assert!(error.contains("DATAFLY_ENCRYPTON_KEY"), "{error}");
        assert!(env(&[("PATH", "/bin"), ("DATAFLY_ENCRYPTION_KEY_FILE", "/x")]).is_ok());
    }

    #[test]
    fn missing_and_empty_are_the_same() {
        let env = env(&[("SERVICE_TOKEN", "")]).unwrap();
        assert_eq!(env.required("SERVICE_TOKEN"), Err(EnvError::Missing("SERVICE_TOKEN")));
        assert!(env.secret("SERVICE_TOKEN").unwrap().is_none());
        assert_eq!(env.optional("LISTEN_ADDR"), Ok(None));
    }

    #[test]
    fn a_malformed_value_is_named_and_not_printed() {
        let env = env(&[("LISTEN_ADDR", "hunter2")]).unwrap();
        let error = env.parsed::<std::net::SocketAddr>("LISTEN_ADDR").unwrap_err().to_string();
        assert_eq!(error, "LISTEN_ADDR is malformed");
        assert_eq!(env.parsed_or("SERVICE_TOKEN", 7), Ok(7));
        assert!(env.unimplemented("LISTEN_ADDR").is_err() && env.unimplemented("SERVICE_TOKEN").is_ok());
    }

    #[test]
    fn addresses_are_http_and_have_no_path() {
        let addresses = |text: &str| env(&[("LISTEN_ADDR", text)]).unwrap().addresses("LISTEN_ADDR");
        assert_eq!(addresses("http://a:1, https://[::1]:2/").unwrap().len(), 2);
        for bad in ["a:1", "ftp://a", "http://a:1,", "http://a/x", "http://a?b"] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_but_not_from_both() {
        let path = std::env::temp_dir().join(format!("serve-env-{}", std::process::id()));
        fs::write(&path, "s3cret\n").unwrap();
        let file = path.to_str().unwrap();
        let secret = env(&[("SERVICE_TOKEN_FILE", file)]).unwrap().required_secret("SERVICE_TOKEN");
        assert_eq!(secret.unwrap().expose_secret(), "s3cret");
        let both = env(&[("SERVICE_TOKEN_FILE", file), ("SERVICE_TOKEN", "x")]).unwrap();
        assert_eq!(both.secret("SERVICE_TOKEN").unwrap_err(), EnvError::Both("SERVICE_TOKEN"));
        fs::remove_file(&path).unwrap();
        let error =
            env(&[("SERVICE_TOKEN_FILE", file)]).unwrap().secret("SERVICE_TOKEN").unwrap_err().to_string();
        assert!(error.contains("SERVICE_TOKEN_FILE") && !error.contains('\n'), "{error}");
    }
}
