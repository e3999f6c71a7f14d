//! Threads and connections of a floor.

use std::{net, thread};

use anyhow::{Context, Result};
use tokio::{net::TcpStream, runtime::Builder, sync::mpsc};

use super::Shape;

/// Server that answers on the connections of one runtime.
pub trait Server: Clone + Send + 'static {
    /// Serves one connection to its end.
    fn serve(self, stream: TcpStream) -> impl Future<Output = ()> + Send;
}

/// Listens, says where on standard output, and serves until the process is killed. `make` is called once in each
/// runtime.
pub fn run<S, F>(shape: Shape, make: impl Fn() -> F + Clone + Send + 'static) -> Result<()>
where
    S: Server,
    F: Future<Output = Result<S>>,
{
    let (threads, builder): (_, fn() -> Builder) = match shape {
        Shape::PerCore => (thread::available_parallelism()?.get(), Builder::new_current_thread),
        Shape::WorkStealing => (1, Builder::new_multi_thread),
    };
    let mut runtimes = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (sender, mut streams) = mpsc::unbounded_channel::<net::TcpStream>();
        let (runtime, make) = (builder().enable_all().build()?, make.clone());
        thread::spawn(move || {
            runtime.block_on(async {
                let server = make().await?;
                while let Some(stream) = streams.recv().await {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    tokio::spawn(server.clone().serve(TcpStream::from_std(stream)?));
                }
                anyhow::Ok(())
            })
        });
        runtimes.push(sender);
    }
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for (number, stream) in listener.incoming().enumerate() {
        runtimes[number % runtimes.len()].send(stream?).context("a thread of the floor has ended")?;
    }
    Ok(())
}
