use std::time::{Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::tls::{Authority, GRPC, Pem, Served};

const DAY: Duration = Duration::from_secs(86_400);

fn certificate(name: &str) -> (Authority, Pem) {
    let now = SystemTime::now();
    let authority = Authority::make(name, now, DAY).unwrap();
    let leaf = authority.issue(&["a.test".into()], now, DAY).unwrap();
    (authority, leaf)
}

async fn listen(served: &Arc<Served>, deadline: Duration) -> (TlsListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (TlsListener::with_deadline(listener, served.config(GRPC).unwrap(), deadline).unwrap(), address)
}

async fn connect(
    to: SocketAddr,
    trusted: &Authority,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("a.test").unwrap(), stream).await
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(10), "did not come true");
        tokio::task::yield_now().await;
    }
}

async fn echo(mut listener: TlsListener) {
    loop {
        let (stream, _) = listener.accept().await;
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_the_next_and_does_not_disturb_the_open() {
    let ((old, old_leaf), (new, new_leaf)) = (certificate("old"), certificate("new"));
    let served = Arc::new(Served::default());
    let (changes, receiver) = watch::channel(None);
    tokio::spawn(Arc::clone(&served).follow(receiver));
    let (listener, address) = listen(&served, HANDSHAKE).await;
    tokio::spawn(echo(listener));
    assert!(connect(address, &old).await.is_err(), "there is no certificate yet");
    changes.send_replace(Some(old_leaf.clone()));
    until(async || connect(address, &old).await.is_ok()).await;
    let mut client = connect(address, &old).await.unwrap();
    changes.send_replace(Some(new_leaf));
    until(async || connect(address, &new).await.is_ok()).await;
    assert!(connect(address, &old).await.is_err());
    client.write_all(b"still here").await.unwrap();
    let mut text = [0; 10];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still here");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_the_certificate_before_it_stays() {
    let ((authority, leaf), (_, other)) = (certificate("one"), certificate("two"));
    let served = Arc::new(Served::default());
    served.replace(&leaf).unwrap();
    let (_listener, address) = listen(&served, HANDSHAKE).await;
    let pem = |certificate: &str, key: &str| Pem { certificate: certificate.into(), key: key.into() };
    for bad in [pem("text", &leaf.key), pem(&leaf.certificate, "text"), pem(&leaf.certificate, &other.key)] {
        assert!(served.replace(&bad).is_err());
    }
    connect(address, &authority).await.unwrap();
}

#[tokio::test]
async fn files_that_change_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let files = crate::tls::TlsFiles::within(folder.path());
    let ((old, old_leaf), (new, new_leaf)) = (certificate("old"), certificate("new"));
    let write =
        |path: &std::path::Path, text: &str| crate::files::write_whole(path, text.as_bytes(), true).unwrap();
    write(&files.certificate, &old_leaf.certificate);
    write(&files.key, &old_leaf.key);
    let served = Served::from_files(&files).unwrap();
    let look = Duration::from_millis(5);
    tokio::spawn(Arc::clone(&served).follow_files_every(files.clone(), look));
    let (_listener, address) = listen(&served, HANDSHAKE).await;
    connect(address, &old).await.unwrap();
    write(&files.certificate, &new_leaf.certificate);
    write(&files.key, &new_leaf.key);
    until(async || connect(address, &new).await.is_ok()).await;
}

#[tokio::test]
async fn clients_that_never_shake_hands_hold_up_nobody_and_are_let_go() {
    let (authority, leaf) = certificate("one");
    let served = Arc::new(Served::default());
    served.replace(&leaf).unwrap();
    let (mut listener, address) = listen(&served, Duration::from_millis(200)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = connect(address, &authority).await.unwrap();
    let (stream, peer) = listener.accept().await;
    assert_eq!(peer, client.get_ref().0.local_addr().unwrap());
    assert!(stream.get_ref().0.nodelay().unwrap());
    for mut stream in silent {
        let mut byte = [0];
        let closed = timeout(Duration::from_secs(10), stream.read(&mut byte)).await.expect("let go");
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_listener_that_is_dropped_accepts_no_more() {
    let (_, leaf) = certificate("one");
    let served = Arc::new(Served::default());
    served.replace(&leaf).unwrap();
    let (listener, address) = listen(&served, HANDSHAKE).await;
    drop(listener);
    until(async || TcpStream::connect(address).await.is_err()).await;
}
