//! Connections, no more than a number of them at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use futures::{Stream, StreamExt};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// A connection that counts for as long as it is open.
#[derive(Debug)]
pub(crate) struct Counted<IO> {
    io: IO,
    _place: OwnedSemaphorePermit,
}

/// Closes connections beyond the first `most` that are open, and counts them.
pub(crate) fn limit<IO: Send>(
    connections: impl Stream<Item = std::io::Result<IO>> + Send,
    most: usize,
    refused: Counter,
) -> impl Stream<Item = std::io::Result<Counted<IO>>> + Send {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    connections.filter_map(move |connection| {
        let place = Arc::clone(&places).try_acquire_owned();
        let counted = match (connection, place) {
            (Ok(io), Ok(place)) => Some(Ok(Counted { io, _place: place })),
            (Ok(_), Err(_)) => {
                refused.inc();
                None
            }
            (Err(error), _) => Some(Err(error)),
        };
        std::future::ready(counted)
    })
}

/// Takes connections while fewer than a number of them are open; the others wait to be taken.
#[derive(Debug)]
pub(crate) struct Limited<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Limited<L> {
    pub(crate) fn new(listener: L, most: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))) }
    }
}

impl<L: Listener> Listener for Limited<L> {
    type Io = Counted<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => place,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        };
        let (io, address) = self.listener.accept().await;
        (Counted { io, _place: place }, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<IO: Connected> Connected for Counted<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_closed_and_a_closed_one_makes_room() {
        let refused = Counter::default();
        let (sender, connections) = tokio::sync::mpsc::unbounded_channel();
        let connections = tokio_stream::wrappers::UnboundedReceiverStream::new(connections);
        let mut limited = Box::pin(limit(connections, 1, refused.clone()));
        let (first, _first) = tokio::io::duplex(1);
        let (second, mut second_end) = tokio::io::duplex(1);
        sender.send(Ok(first)).unwrap();
        sender.send(Ok(second)).unwrap();
        let open = limited.next().await.unwrap().unwrap();
        assert!(futures::poll!(limited.next()).is_pending());
        assert_eq!(refused.get(), 1);
        assert_eq!(tokio::io::AsyncReadExt::read(&mut second_end, &mut [0]).await.unwrap(), 0, "closed");
        drop(open);
        let (third, _third) = tokio::io::duplex(1);
        sender.send(Ok(third)).unwrap();
        assert!(limited.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_until_another_is_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut limited = Limited::new(listener, 1);
        let _clients = [
            tokio::net::TcpStream::connect(address).await.unwrap(),
            tokio::net::TcpStream::connect(address).await.unwrap(),
        ];
        let (first, _) = limited.accept().await;
        let wait = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, limited.accept()).await.is_err());
        drop(first);
        tokio::time::timeout(wait * 100, limited.accept()).await.unwrap();
    }
}
