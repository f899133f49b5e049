//! The control plane's certificate, where nobody provides one.

use std::path::{Path, PathBuf};

use crate::files::write_whole;

/// Name that the control plane proves.
pub const SERVER_NAME: &str = "sallyport-control-plane";

/// Files of a certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate authority.
    pub ca: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The files in `folder`.
    pub fn within(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
        }
    }

    /// The identity of a server.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn identity(&self) -> std::io::Result<tonic::transport::Identity> {
        Ok(tonic::transport::Identity::from_pem(std::fs::read(&self.certificate)?, std::fs::read(&self.key)?))
    }
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate library refused.
    #[error("certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// A file cannot be written.
    #[error("certificate cannot be written")]
    Write(#[from] std::io::Error),
}

/// Makes a certificate authority and a certificate for [`SERVER_NAME`] in `folder`, anew at each start: whoever needs
/// the authority reads it from there.
///
/// # Errors
/// It cannot be made or written.
pub fn make_self_signed(folder: &Path) -> Result<TlsFiles, TlsError> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    std::fs::create_dir_all(folder)?;
    let files = TlsFiles::within(folder);
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Sallyport standalone");
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![SERVER_NAME.to_string()])?;
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    write_whole(&files.ca, ca_certificate.pem().as_bytes(), false)?;
    write_whole(&files.certificate, certificate.pem().as_bytes(), false)?;
    write_whole(&files.key, key.serialize_pem().as_bytes(), true)?;
    Ok(files)
}
