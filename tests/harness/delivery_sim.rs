//! Destinations over real HTTP: Amperity's realtime streams and a customer's webhook, with the bad habits that each may
//! have. HTTP/1.1 by hand, as no server library cuts a connection where one wants it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a destination does with a request.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers with a status.
    Status(u16),
    /// Answers with a status and a header.
    With(u16, &'static str, String),
    /// Answers with a status after a while.
    Slowly(Duration, u16),
    /// Takes the event, and closes the connection without an answer.
    Cut,
    /// Never answers.
    Stall,
    /// Answers 202 with so many bytes.
    Huge(usize),
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path, with its query.
    pub target: String,
    /// Method.
    pub method: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body as text.
    pub body: String,
    /// The instant at which it was there.
    pub at: Instant,
    /// What was done with it.
    pub reaction: Reaction,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// True where the event was taken, whatever the sender was told.
    pub fn was_taken(&self) -> bool {
        match self.reaction {
            Reaction::Status(status) | Reaction::With(status, ..) | Reaction::Slowly(_, status) => {
                status < 300
            }
            Reaction::Cut | Reaction::Huge(_) => true,
            Reaction::Stall => false,
        }
    }
}

type Behaviour = Arc<dyn Fn(&Received) -> Reaction + Send + Sync>;

/// A server of destinations. It ends when dropped.
#[derive(Clone)]
pub struct DeliverySim {
    /// Address that it listens at.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    _alive: Arc<watch::Sender<()>>,
}

impl std::fmt::Debug for DeliverySim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliverySim").field("addr", &self.addr).finish_non_exhaustive()
    }
}

struct Shared {
    received: Mutex<Vec<Received>>,
    behaviour: Mutex<Behaviour>,
    grown: watch::Sender<usize>,
}

impl DeliverySim {
    /// Starts one that takes everything, as Amperity does.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            behaviour: Mutex::new(Arc::new(|_| Reaction::Status(202))),
            grown: watch::Sender::new(0),
        });
        let (alive, mut ended) = watch::channel(());
        let own = shared.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = ended.changed() => return,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (own, mut ended) = (own.clone(), ended.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(stream, own) => {}
                        _ = ended.changed() => {}
                    }
                });
            }
        });
        Ok(Self { addr, shared, _alive: Arc::new(alive) })
    }

    /// Base URL of the tenant.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Has it behave so from now on.
    pub fn behave(&self, behaviour: impl Fn(&Received) -> Reaction + Send + Sync + 'static) {
        *lock(&self.shared.behaviour) = Arc::new(behaviour);
    }

    /// All requests so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// The number of requests so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// Those of the requests whose event was taken.
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(Received::was_taken).collect()
    }

    /// Message IDs of the events that were taken, in order.
    pub fn message_ids(&self) -> Vec<String> {
        let id = |received: Received| received.json()["message_id"].as_str().unwrap_or_default().to_owned();
        self.taken().into_iter().map(id).collect()
    }

    /// Forgets what was received.
    pub fn forget(&self) {
        lock(&self.shared.received).clear();
    }

    /// Waits until so many requests are there.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        crate::eventually("requests to the destination", async || {
            let received = self.received();
            if received.len() >= count { Ok(received) } else { Err(format!("{} of {count}", received.len())) }
        })
        .await
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        // As Amperity does: a body without its length is refused.
        let Some(length) = headers.get("content-length").and_then(|length| length.parse::<usize>().ok())
        else {
            stream.write_all(b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n").await?;
            return Ok(());
        };
        while buffer.len() < end + 4 + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8_lossy(&buffer[end + 4..end + 4 + length]).into_owned();
        buffer.drain(..end + 4 + length);
        let mut received = Received {
            target: target.to_owned(),
            method: method.to_owned(),
            headers,
            body,
            at: Instant::now(),
            reaction: Reaction::Status(202),
        };
        let behaviour = lock(&shared.behaviour).clone();
        received.reaction = behaviour(&received);
        let reaction = received.reaction.clone();
        let count = {
            let mut all = lock(&shared.received);
            all.push(received);
            all.len()
        };
        shared.grown.send_replace(count);
        let (status, header, size) = match reaction {
            Reaction::Status(status) => (status, String::new(), 0),
            Reaction::With(status, name, value) => (status, format!("{name}: {value}\r\n"), 0),
            Reaction::Slowly(delay, status) => {
                tokio::time::sleep(delay).await;
                (status, String::new(), 0)
            }
            Reaction::Cut => return Ok(()),
            Reaction::Stall => std::future::pending().await,
            Reaction::Huge(size) => (202, String::new(), size),
        };
        let head = format!("HTTP/1.1 {status} Status\r\n{header}Content-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let chunk = vec![b'x'; 64 * 1024];
        let mut left = size;
        while left > 0 {
            let part = left.min(chunk.len());
            stream.write_all(&chunk[..part]).await?;
            left -= part;
        }
    }
}
