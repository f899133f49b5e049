//! A network before the API server that can be cut: connections stay open, and nothing passes.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::Cluster;

pub struct Cut {
    folder: tempfile::TempDir,
    port: u16,
    passes: watch::Sender<bool>,
}

impl Cut {
    pub async fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passes, open) = watch::channel(true);
        let upstream = cluster.server.url().trim_start_matches("https://").to_string();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (upstream, open) = (upstream.clone(), open.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(upstream).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pass(near_in, far_out, open.clone()), pass(far_in, near_out, open));
                });
            }
        });
        Self { folder: tempfile::tempdir().unwrap(), port, passes }
    }

    /// A kubeconfig that leads through here.
    pub fn kubeconfig(&self, cluster: &Cluster) -> PathBuf {
        let here = format!("https://127.0.0.1:{}", self.port);
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, cluster.kubeconfig().replace(cluster.server.url(), &here)).unwrap();
        path
    }

    pub fn cut(&self) {
        self.passes.send_replace(false);
    }

    pub fn heal(&self) {
        self.passes.send_replace(true);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
