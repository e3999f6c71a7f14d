//! A TCP proxy between a service and a store: it counts round trips on the wire, and breaks the connection.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    runtime::{Builder, Runtime},
    sync::watch,
    task::AbortHandle,
    time::sleep,
};

use crate::{
    system::hold,
    wire::{Decoder, Protocol},
};

/// The runtime of all proxies, so that connections close also while a test's own runtime is blocked or
/// ending: PostgreSQL drops no database while any session hangs half-way through its login.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Ways in which a proxy treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Connections are refused, as when no process listens.
    Refuse,
    /// Connections stand and nothing passes, as when packets are dropped.
    Blackhole,
    /// Connections stand, and bytes pass in one direction: requests of clients arrive, and no answer does.
    Mute,
}

/// The part that is held of the flight at which a proxy freezes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The flight: the server never sees it.
    Flight,
    /// The answer: the server has done what it was asked, and the client doesn't know.
    Answer,
}

/// A round trip: all that the client sent after the server's last bytes, until the server spoke again.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Number of the connection.
    pub connection: usize,
    /// The commands or statements in it, as text.
    pub commands: Vec<String>,
}

/// A proxy in front of one server. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Address to which clients connect.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    protocol: Protocol,
    mode: watch::Sender<Mode>,
    /// The mode that new connections meet; follows `mode`.
    applied: watch::Sender<Mode>,
    /// Grows with each cut; connections older than it end.
    cuts: watch::Sender<usize>,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    connections: usize,
    exchanges: Vec<Exchange>,
    bytes: usize,
    /// Number of flights that pass before a freeze, where one is set.
    freeze: Option<(usize, Hold)>,
}

impl Proxy {
    /// Starts a proxy that passes everything on.
    pub async fn start(upstream: SocketAddr, protocol: Protocol) -> Result<Self> {
        RUNTIME.spawn(Self::start_here(upstream, protocol)).await?
    }

    async fn start_here(upstream: SocketAddr, protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            protocol,
            mode: watch::Sender::new(Mode::Pass),
            applied: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
            record: Mutex::default(),
        });
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { addr, shared, acceptor })
    }

    /// Leads new connections to another server; those that stand stay, as when a name's address changes.
    pub fn repoint(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Closes every connection; new ones pass.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes every connection and refuses new ones.
    pub async fn refuse(&self) {
        self.set(Mode::Refuse).await;
        self.cut();
    }

    /// Lets nothing through any more, but closes nothing.
    pub async fn blackhole(&self) {
        self.set(Mode::Blackhole).await;
    }

    /// Lets no answer through any more, while what clients send arrives; closes nothing.
    pub async fn mute(&self) {
        self.set(Mode::Mute).await;
    }

    /// Lets `flights` more of the clients' flights through (each all that one sends before an answer). Of the
    /// next one it holds the flight itself or only the answer, and from then on lets nothing through.
    pub fn freeze_after(&self, flights: usize, hold: Hold) {
        self.shared.record().freeze = Some((flights, hold));
    }

    /// Waits until a freeze has begun.
    pub async fn frozen(&self) {
        let _ = self.shared.mode.subscribe().wait_for(|mode| *mode == Mode::Blackhole).await;
    }

    /// Passes everything on again, also what was held back.
    pub async fn heal(&self) {
        self.shared.record().freeze = None;
        self.set(Mode::Pass).await;
    }

    /// The round trips since the last call, and the bytes in both directions.
    pub fn take(&self) -> (Vec<Exchange>, usize) {
        let mut record = self.shared.record();
        (std::mem::take(&mut record.exchanges), std::mem::take(&mut record.bytes))
    }

    async fn set(&self, mode: Mode) {
        let mut applied = self.shared.applied.subscribe();
        self.shared.mode.send_replace(mode);
        let _ = applied.wait_for(|applied| *applied == mode).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(mut listener: TcpListener, shared: Arc<Shared>) -> Result<()> {
    let addr = listener.local_addr()?;
    let mut mode = shared.mode.subscribe();
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Refuse {
            drop(listener);
            let held = loop {
                match hold(addr) {
                    Ok(held) => break held,
                    // A child that is about to start its program has the listener as well, for a moment.
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            };
            shared.applied.send_replace(now);
            mode.wait_for(|mode| *mode != Mode::Refuse).await?;
            listener = held.listen(1024)?;
            continue;
        }
        shared.applied.send_replace(now);
        tokio::select! {
            changed = mode.changed() => changed?,
            client = listener.accept() => match client {
                Ok((client, _)) => drop(tokio::spawn(serve(client, Arc::clone(&shared)))),
                // It is gone already, or this process has no descriptor left just now.
                Err(_) => sleep(Duration::from_millis(1)).await,
            },
        }
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let connection = {
        let mut record = shared.record();
        record.connections += 1;
        record.connections
    };
    let passes = async {
        pass(&shared).await;
        let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let line = Line { shared: &shared, connection, turn: Mutex::new(Turn::Server) };
        let decoder = Decoder::new(shared.protocol);
        // Either side's end is the end of both, as with a process that dies.
        tokio::select! {
            end = line.pump(from_client, to_server, Some(decoder)) => end,
            end = line.pump(from_server, to_client, None) => end,
        }
    };
    tokio::select! {
        end = passes => end,
        _ = cuts.changed() => Ok(()),
    }
}

/// Waits while the proxy is a black hole.
async fn pass(shared: &Shared) {
    let _ = shared.mode.subscribe().wait_for(|mode| *mode != Mode::Blackhole).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Client,
    Server,
}

struct Line<'a> {
    shared: &'a Shared,
    connection: usize,
    turn: Mutex<Turn>,
}

impl Line<'_> {
    /// Copies one direction; a decoder is given for what the client sends.
    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut decoder: Option<Decoder>,
    ) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            if !self.note(&buffer[..count], decoder.as_mut()) {
                pass(self.shared).await;
                if decoder.is_none() {
                    let _ = self.shared.mode.subscribe().wait_for(|mode| *mode != Mode::Mute).await;
                }
            }
            to.write_all(&buffer[..count]).await?;
        }
    }

    /// Records bytes; answers whether they pass even though a freeze begins with them.
    fn note(&self, bytes: &[u8], decoder: Option<&mut Decoder>) -> bool {
        let mut record = self.shared.record();
        record.bytes += bytes.len();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(decoder) = decoder else {
            *turn = Turn::Server;
            return false;
        };
        let commands = decoder.feed(bytes);
        let ours = record.exchanges.iter().rposition(|exchange| exchange.connection == self.connection);
        if let Some(at) = ours.filter(|_| *turn == Turn::Client) {
            record.exchanges[at].commands.extend(commands);
            return false;
        }
        *turn = Turn::Client;
        record.exchanges.push(Exchange { connection: self.connection, commands });
        match &mut record.freeze {
            Some((0, hold)) => {
                let passes = *hold == Hold::Answer && *self.shared.mode.borrow() == Mode::Pass;
                self.shared.mode.send_replace(Mode::Blackhole);
                passes
            }
            Some((left, _)) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}
