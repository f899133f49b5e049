//! Certificates of our servers: made, followed while they change, and spoken with.
//!
//! ```text
//!   files ──poll──▶ Served ◀──watch── whoever makes them at run time
//!                     │ resolves each handshake
//!   TCP ─▶ TlsListener ─▶ gRPC (a stream of connections), HTTPS (`axum::serve`)
//! ```

mod authority;
mod listener;
mod served;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use authority::{Authority, Facts, facts};
pub use listener::TlsListener;
pub use served::{Pem, Served};

use crate::files::write_whole;

/// Name that the control plane proves, standalone.
pub const SERVER_NAME: &str = "sallyport-control-plane";
/// Application protocols of a gRPC server.
pub const GRPC: &[&str] = &["h2"];
/// Application protocols of an HTTPS server.
pub const HTTPS: &[&str] = &["http/1.1"];

/// Life of the standalone certificates, which are made anew at each start.
const STANDALONE: Duration = Duration::from_secs(3650 * 86_400);

/// Files of a certificate, named as in a Secret of Kubernetes.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate authority.
    pub ca: PathBuf,
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files in `folder`.
    pub fn within(folder: &Path) -> Self {
        Self { ca: folder.join("ca.crt"), certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    /// Certificate and key as they are now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(&self) -> Result<Pem, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| TlsError::Read { path: path.clone(), source })
        };
        Ok(Pem { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate library refused.
    #[error("certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("certificate cannot be written")]
    Write(#[from] std::io::Error),
    /// It is no certificate, or no key.
    #[error("not a certificate with its key, as PEM: {0}")]
    Form(String),
    /// Certificate and key do not belong together, or the key is of a sort that is not supported.
    #[error("certificate and key cannot be used")]
    Pair(#[from] tokio_rustls::rustls::Error),
}

/// Makes a certificate authority and a certificate for [`SERVER_NAME`] in `folder`, anew at each start: whoever needs
/// the authority reads it from there.
///
/// # Errors
/// It cannot be made or written.
pub fn make_self_signed(folder: &Path) -> Result<TlsFiles, TlsError> {
    std::fs::create_dir_all(folder)?;
    let files = TlsFiles::within(folder);
    let now = SystemTime::now();
    let authority = Authority::make("Sallyport standalone", now, STANDALONE)?;
    let leaf = authority.issue(&[SERVER_NAME.to_string()], now, STANDALONE)?;
    write_whole(&files.ca, authority.certificate.as_bytes(), false)?;
    write_whole(&files.certificate, leaf.certificate.as_bytes(), false)?;
    write_whole(&files.key, leaf.key.as_bytes(), true)?;
    Ok(files)
}
