//! The way to ClickHouse where it is encrypted: whom we trust there, and what a failure means.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// As the client's own connections without TLS have it: ClickHouse ends those that are idle for longer.
const IDLE: Duration = Duration::from_secs(2);
/// Likewise.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}; it must have certificates of authorities, as PEM")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no certificate in it, or one that cannot be used.
    #[error("{path} has no certificates of authorities, as PEM: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// This machine has no certificates.
    #[error(
        "this machine trusts no authority: there is nothing like /etc/ssl/certs; give a file of certificates"
    )]
    NoRoots,
    /// The TLS library refused.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// Whom we trust.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities in a PEM file, or this machine's. Read once.
    ///
    /// # Errors
    /// There is none that could be used.
    pub fn trusting(authorities: Option<&Path>) -> Result<Self, TlsError> {
        let roots = authorities.map_or_else(of_this_machine, of_file)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// A client that speaks nothing else.
    pub(super) fn client(&self) -> Client {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_keepalive(Some(KEEPALIVE));
        let config = ClientConfig::clone(&self.0);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
        Client::with_http_client(http)
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let text = std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.into(), source })?;
    let form = |reason: String| TlsError::Form { path: path.into(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| form(error.to_string()))?;
        roots.add(certificate).map_err(|error| form(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(form("it has none at all".into()));
    }
    Ok(roots)
}

fn of_this_machine() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be used is one fewer to trust.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

/// An error of the client with its causes, and where TLS is among them with what to do.
pub(crate) fn told(error: &clickhouse::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        if let Some(remedy) = tls_failure(error).and_then(remedy) {
            return format!("{text}; {remedy}");
        }
        cause = error.source();
    }
    text
}

/// What the TLS library said, which sockets' errors carry inside them.
fn tls_failure<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    tls_failure(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn remedy(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("give the file of the authority that issued ClickHouse's certificate with --clickhouse-ca")
        }
        rustls::Error::InvalidMessage(_) => Some(
            "nothing speaks TLS there; ClickHouse's HTTPS port is 8443 unless its settings say otherwise",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_that_cannot_be_used_are_told() {
        let refusal = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            Tls::trusting(Some(file.path())).unwrap_err().to_string()
        };
        assert!(refusal("").contains("has no certificates of authorities, as PEM: it has none at all"));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refusal(garbage).contains("as PEM: invalid"), "{}", refusal(garbage));
        let missing = Tls::trusting(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(missing.contains("/nowhere cannot be read"), "{missing}");
    }
}
