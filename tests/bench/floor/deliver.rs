//! The processor's floor: a bare client that posts the same bytes over as many connections, and does nothing beside.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::system::tied;
use http_body_util::BodyExt;
use hyper::Request;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    runtime::Builder,
    task::JoinSet,
};

use crate::http::Client;

/// Connections, as many as the processor has requests under way.
const CONNECTIONS: u64 = 64;

/// Command line of the processor's floor.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Address that it posts to.
    #[arg(long)]
    to: SocketAddr,
    /// Path that it posts to.
    #[arg(long)]
    path: String,
    /// Body of each request.
    #[arg(long)]
    body: String,
}

/// Posts as often as each line of standard input says, and then says so.
pub fn run(arguments: &Arguments) -> Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(arguments.to).await?);
        }
        // Nothing is under way while it waits for a line.
        for line in std::io::stdin().lines() {
            let count: u64 = line?.trim().parse()?;
            let mut posting = JoinSet::new();
            for (lane, client) in (0..).zip(clients.drain(..)) {
                let own = count / CONNECTIONS + u64::from(lane < count % CONNECTIONS);
                posting.spawn(post(client, arguments.clone(), own));
            }
            while let Some(client) = posting.join_next().await {
                clients.push(client??);
            }
            println!("done");
        }
        Ok(())
    })
}

async fn post(mut client: Client, arguments: Arguments, count: u64) -> Result<Client> {
    for _ in 0..count {
        let request = Request::post(&arguments.path)
            .header("host", arguments.to.to_string())
            .header("content-type", "application/json")
            .body(arguments.body.clone())?;
        let answer = client.send(request).await?;
        ensure!(answer.status().is_success(), "answered {}", answer.status());
        answer.into_body().collect().await?;
    }
    Ok(client)
}

/// The running floor. Killed when dropped.
pub struct Poster {
    _child: Child,
    /// ID of its process.
    pub pid: u32,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Poster {
    /// Starts one that posts this body there.
    pub fn start(to: SocketAddr, path: &str, body: &str) -> Result<Self> {
        let mut command = tied(&std::env::current_exe()?, "KILL", []);
        command.args(["floor-deliver", "--to", &to.to_string(), "--path", path, "--body", body]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let pid = child.id().context("the floor has ended")?;
        let orders = child.stdin.take().context("no standard input")?;
        let words = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        Ok(Self { _child: child, pid, orders, words })
    }

    /// Has it post that often.
    pub async fn post(&mut self, count: u64) -> Result<()> {
        self.orders.write_all(format!("{count}\n").as_bytes()).await?;
        let word = self.words.next_line().await?;
        ensure!(word.as_deref() == Some("done"), "the floor said {word:?}");
        Ok(())
    }
}
