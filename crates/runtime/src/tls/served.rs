//! The certificate that a server shows now.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{TlsError, TlsFiles};

/// How often files are looked at. The kubelet itself takes up to a minute.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The certificate, and those between it and its authority.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Pem {
    /// Checks that both can be used, and belong together.
    ///
    /// # Errors
    /// They cannot, or do not.
    pub fn certified(&self) -> Result<CertifiedKey, TlsError> {
        let form = |error: &dyn std::fmt::Display| TlsError::Form(error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| form(&error))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| form(&error))?;
        if chain.is_empty() {
            return Err(TlsError::Form("there is no certificate in it".into()));
        }
        Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
    }
}

/// A certificate that can be replaced while it is served. Connections that are open go on; each handshake shows the newest.
#[derive(Default)]
pub struct Served {
    current: ArcSwapOption<CertifiedKey>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

impl Served {
    /// The certificate in `files`.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub fn from_files(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let served = Self::default();
        served.replace(&files.read()?)?;
        Ok(Arc::new(served))
    }

    /// Shows `pem` from now on.
    ///
    /// # Errors
    /// It cannot be used; the one before stays.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        self.current.store(Some(Arc::new(pem.certified()?)));
        Ok(())
    }

    /// What a server that shows this certificate speaks. Without a certificate every handshake fails.
    ///
    /// # Errors
    /// The TLS library refused.
    pub fn config(self: &Arc<Self>, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Follows `files` for ever. What cannot be used is told, once, and the certificate before it stays.
    pub async fn follow_files(self: Arc<Self>, files: TlsFiles) {
        self.follow_files_every(files, LOOK).await;
    }

    pub(super) async fn follow_files_every(self: Arc<Self>, files: TlsFiles, look: Duration) {
        let mut known = files.read().ok();
        let mut told = String::new();
        loop {
            tokio::time::sleep(look).await;
            let read = files.read();
            if read.as_ref().is_ok_and(|pem| known.as_ref() == Some(pem)) {
                continue;
            }
            // Two files are two reads: a pair that does not fit may be one that is just being replaced.
            match read.and_then(|pem| self.replace(&pem).map(|()| pem)) {
                Ok(pem) => {
                    tracing::info!(file = %files.certificate.display(), "certificate reloaded");
                    (known, told) = (Some(pem), String::new());
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!(error = text, "certificate cannot be reloaded");
                        told = text;
                    }
                }
            }
        }
    }

    /// Follows what somebody else makes, until he makes no more.
    pub async fn follow(self: Arc<Self>, mut pem: watch::Receiver<Option<Pem>>) {
        loop {
            let newest = pem.borrow_and_update().clone();
            if let Some(Err(error)) = newest.map(|pem| self.replace(&pem)) {
                tracing::warn!(%error, "certificate cannot be used");
            }
            if pem.changed().await.is_err() {
                return;
            }
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}
