//! Reads what a client sends to Redis or PostgreSQL, as far as counting needs it.

use std::collections::HashMap;

/// Protocols that a proxy can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RESP, the protocol of Redis.
    Redis,
    /// PostgreSQL's frontend protocol, version 3.
    Postgres,
    /// Bytes of any other protocol, out of which nothing is read.
    Opaque,
}

/// Turns a client's bytes into commands.
#[derive(Debug)]
pub struct Decoder {
    protocol: Protocol,
    buffer: Vec<u8>,
    /// PostgreSQL: the first message has no type byte.
    started: bool,
    /// PostgreSQL: texts of prepared statements by name.
    statements: HashMap<Vec<u8>, String>,
}

impl Decoder {
    /// Makes a decoder for one connection.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, buffer: Vec::new(), started: false, statements: HashMap::new() }
    }

    /// The commands (Redis) or executed statements (PostgreSQL) that are complete with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.buffer.extend_from_slice(bytes);
        let mut commands = Vec::new();
        loop {
            let read = match self.protocol {
                Protocol::Redis => redis_command(&self.buffer),
                Protocol::Postgres => self.postgres_message(),
                Protocol::Opaque => (!self.buffer.is_empty()).then_some((self.buffer.len(), None)),
            };
            let Some((length, command)) = read else { return commands };
            self.buffer.drain(..length);
            commands.extend(command);
        }
    }

    fn postgres_message(&mut self) -> Option<(usize, Option<String>)> {
        let kind = if self.started { *self.buffer.first()? } else { 0 };
        let offset = usize::from(self.started);
        let length =
            u32::from_be_bytes(self.buffer.get(offset..offset + 4)?.try_into().ok()?) as usize + offset;
        let body = self.buffer.get(offset + 4..length)?;
        self.started = true;
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default().to_vec();
        let executed = match kind {
            b'Q' => Some(String::from_utf8_lossy(&text()).into_owned()),
            // Parse: name, statement.
            b'P' => {
                let name = text();
                self.statements.insert(name, String::from_utf8_lossy(&text()).into_owned());
                None
            }
            // Bind: portal, name.
            b'B' => {
                text();
                self.statements.get(&text()).cloned()
            }
            _ => None,
        };
        Some((length, executed))
    }
}

/// An array of bulk strings; the only form that clients send.
fn redis_command(buffer: &[u8]) -> Option<(usize, Option<String>)> {
    let (mut at, count) = number(buffer, 0, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (start, length) = number(buffer, at, b'$')?;
        words.push(String::from_utf8_lossy(buffer.get(start..start + length)?));
        at = start + length + 2;
        buffer.get(at - 1)?;
    }
    Some((at, Some(words.join(" "))))
}

/// Reads `{mark}{number}\r\n` and answers with where the rest begins, and the number.
fn number(buffer: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let rest = buffer.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(rest[0], mark, "not RESP: {}", String::from_utf8_lossy(rest));
    let value = std::str::from_utf8(&rest[1..end]).ok()?.parse().ok()?;
    Some((at + end + 2, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_however_they_are_cut() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\n*1\r\n$4\r\nROLE\r\n";
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::new(Protocol::Redis);
            let mut read = decoder.feed(&bytes[..cut]);
            read.extend(decoder.feed(&bytes[cut..]));
            assert_eq!(read, ["GET a\r\nbc", "ROLE"], "cut at {cut}");
        }
    }

    #[test]
    fn a_prepared_statement_counts_when_it_is_executed() {
        let message = |kind: &[u8], body: &[u8]| {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [kind, &length, body].concat()
        };
        let mut decoder = Decoder::new(Protocol::Postgres);
        assert!(decoder.feed(&message(b"", b"\0\x03\0\0user\0x\0\0")).is_empty());
        assert!(decoder.feed(&message(b"P", b"s1\0SELECT 1\0\0\0")).is_empty());
        let twice = message(b"B", b"\0s1\0\0\0\0\0\0\0").repeat(2);
        assert_eq!(decoder.feed(&twice), ["SELECT 1", "SELECT 1"]);
        assert_eq!(decoder.feed(&message(b"Q", b"BEGIN\0")), ["BEGIN"]);
    }
}
