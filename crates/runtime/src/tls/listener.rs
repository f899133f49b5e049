//! TLS connections, accepted concurrently.
//!
//! Guarantees: a client that is slow to shake hands, or never does, holds up nobody else and is gone after a deadline;
//! small messages leave at once (`TCP_NODELAY`); the peer's address stays known.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt};

/// A handshake that takes longer fails.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once; further connections wait in the system's queue.
const UNDERWAY: usize = 1024;
/// Connections that may wait to be served.
const QUEUE: usize = 64;
/// Pause after the system gave no connection (no more files, mostly).
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections in the background, until it is dropped.
#[derive(Debug)]
pub struct TlsListener {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Accepts on `listener`.
    ///
    /// # Errors
    /// Its address cannot be told.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> std::io::Result<Self> {
        Self::with_deadline(listener, config, HANDSHAKE)
    }

    fn with_deadline(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        handshake: Duration,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (queue, accepted) = mpsc::channel(QUEUE);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), handshake, queue));
        Ok(Self { accepted, address })
    }

    /// The connections, as a gRPC server takes them.
    pub fn into_stream(self) -> impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> + Send {
        tokio_stream::wrappers::ReceiverStream::new(self.accepted).map(|(stream, _)| Ok(stream))
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(connection) => connection,
            // The task in the background ends only after this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    deadline: Duration,
    queue: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(UNDERWAY));
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, connection) = tokio::select! {
            () = queue.closed() => return,
            next = next => next,
        };
        let (stream, peer) = match connection {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, queue) = (acceptor.clone(), queue.clone());
        tokio::spawn(async move {
            let _permit = permit;
            // A connection that cannot be set is served all the same.
            let _ = stream.set_nodelay(true);
            match timeout(deadline, acceptor.accept(stream)).await {
                // Nobody left to serve it.
                Ok(Ok(stream)) => drop(queue.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake took too long"),
            }
        });
    }
}

#[cfg(test)]
mod tests;
