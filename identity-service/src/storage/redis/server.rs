//! A server's identity and role, as it says them itself.

use bb8_redis::redis::{
    ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection, pipe,
};

use super::{keys::SERVER, protocol::Cached, state};

/// The version of what serving keys hold. A server whose values were made good by a core of another version is one
/// that is not known.
const LAYOUT: &str = "2";

/// A server that takes writes.
#[derive(Debug)]
pub struct Server {
    /// Name of this process, this line of data and the layout of our keys: the process changes with a restart, the
    /// line with a promotion. It also changes when a primary gets its first replica or has had none for an hour,
    /// which costs a purge.
    pub identity: String,
    /// The identity for which its values were made good; none where no purge has ended there, or a flush took
    /// the name. What is there and no name stands for another.
    pub named: Option<String>,
}

impl Server {
    /// Asks the server who it is. An error where it is no primary, or does not serve data (LOADING, NOAUTH).
    pub async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let mut asked = pipe();
        asked.cmd("INFO").arg("server").arg("replication").get(SERVER).ignore_errors();
        let (info, named): (RedisResult<String>, RedisResult<Value>) = asked.query_async(connection).await?;
        let info = info?;
        let named = match named.map(Cached::read) {
            Ok(Cached::Hit(name)) => Some(name),
            Ok(Cached::Miss) => None,
            Err(error) if state::is_the_servers(&error) => return Err(error),
            Ok(Cached::Busy | Cached::Junk) | Err(_) => Some(String::new()),
        };
        let line = |name: &str| {
            let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_end().to_owned());
            info.lines().find_map(value).unwrap_or_default()
        };
        if line("role") != "master" {
            return Err((ErrorKind::Server(ServerErrorKind::ReadOnly), "it is no primary").into());
        }
        Ok(Self { identity: format!("{}:{}:{LAYOUT}", line("run_id"), line("master_replid")), named })
    }

    /// Writes the server's own name into it, where a flush has taken it.
    pub fn name_again(&self) -> Pipeline {
        let mut pipe = pipe();
        pipe.cmd("SET").arg(SERVER).arg(&self.identity).arg("NX").ignore();
        pipe
    }
}
