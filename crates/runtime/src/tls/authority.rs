//! A certificate authority of our own, and what a certificate says. Pure: time is a parameter.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::{Pem, TlsError};

/// How long before it is made a certificate counts already: a reader's clock may go slow.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// A certificate authority: its certificate and key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one, which counts for `life` from `now` on. Leaves are known by its name, so each needs its own.
    ///
    /// # Errors
    /// The certificate library refused.
    pub fn make(name: &str, now: SystemTime, life: Duration) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = lasting(CertificateParams::new(Vec::new())?, now, life);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A certificate of a server with these DNS names, which counts for `life` from `now` on.
    ///
    /// # Errors
    /// A name is none, or the authority's own certificate or key cannot be used.
    pub fn issue(&self, names: &[String], now: SystemTime, life: Duration) -> Result<Pem, TlsError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = lasting(CertificateParams::new(names.to_vec())?, now, life);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn lasting(mut params: CertificateParams, now: SystemTime, life: Duration) -> CertificateParams {
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    params
}

/// What the first certificate of a PEM file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// When it ends, in seconds since 1970.
    pub ends: i64,
    /// Whose it is, encoded.
    pub subject: Vec<u8>,
    /// Who vouches for it, encoded.
    pub issuer: Vec<u8>,
    /// Its DNS names.
    pub names: BTreeSet<String>,
}

impl Facts {
    /// Whether two thirds of its life are over at `now`, in seconds since 1970.
    pub fn is_due(&self, now: i64) -> bool {
        let life = self.ends.saturating_sub(self.made);
        now >= self.made.saturating_add(life / 3 * 2)
    }
}

/// Reads the first certificate of `pem`.
///
/// # Errors
/// It is none.
pub fn facts(pem: &str) -> Result<Facts, TlsError> {
    let form = |error: &dyn std::fmt::Display| TlsError::Form(error.to_string());
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| form(&error))?;
    let certificate = block.parse_x509().map_err(|error| form(&error))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let backdated = i64::try_from(BACKDATED.as_secs()).unwrap_or(0);
    Ok(Facts {
        made: certificate.validity().not_before.timestamp().saturating_add(backdated),
        ends: certificate.validity().not_after.timestamp(),
        subject: certificate.subject().as_raw().to_vec(),
        issuer: certificate.issuer().as_raw().to_vec(),
        names: names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_string()),
                _ => None,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_says_what_was_asked_for_and_is_due_at_two_thirds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::make("one", now, DAY * 3650).unwrap();
        let leaf = authority.issue(&["a.test".into(), "b.test".into()], now, DAY * 30).unwrap();
        let (parent, child) = (facts(&authority.certificate).unwrap(), facts(&leaf.certificate).unwrap());
        assert_eq!(child.issuer, parent.subject);
        assert_eq!((child.made, child.ends), (1_800_000_000, 1_800_000_000 + 30 * 86_400));
        assert_eq!(child.names, ["a.test", "b.test"].map(String::from).into());
        assert!(!child.is_due(1_800_000_000 + 20 * 86_400 - 1));
        assert!(child.is_due(1_800_000_000 + 20 * 86_400));
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        assert!(matches!(facts("text"), Err(TlsError::Form(_))));
        let now = SystemTime::now();
        let mut authority = Authority::make("one", now, DAY).unwrap();
        authority.key = "text".into();
        assert!(authority.issue(&["a.test".into()], now, DAY).is_err());
        assert!(!format!("{authority:?}").contains("text"), "no key is shown");
    }
}
