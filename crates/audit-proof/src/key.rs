//! Keys in PEM files, as `openssl genpkey -algorithm ed25519` makes them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// PKCS#8 of an Ed25519 key (RFC 8410), up to the seed.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// SubjectPublicKeyInfo of an Ed25519 key, up to the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No PEM of the right kind.
    #[error(
        "no PEM section `{0}` found; make a key with `sallyport audit keygen` or `openssl genpkey -algorithm ed25519`"
    )]
    Pem(&'static str),
    /// PEM of something else.
    #[error("the PEM section holds no Ed25519 key; make one with `sallyport audit keygen`")]
    NotEd25519,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Which key: the first 8 bytes of the public key's BLAKE3.
pub fn key_id(public: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    id.iter_mut().zip(blake3::hash(public).as_bytes()).for_each(|(to, from)| *to = *from);
    id
}

/// Signs checkpoints.
pub struct SecretKey(Ed25519KeyPair);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// From a PEM file's text, section `PRIVATE KEY`.
    ///
    /// # Errors
    /// It has no Ed25519 key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Pem("PRIVATE KEY"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        Ok(Self(pair.map_err(|_| KeyError::NotEd25519)?))
    }

    /// The key that checks its signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Checks signatures of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From a PEM file's text, section `PUBLIC KEY`.
    ///
    /// # Errors
    /// It has no Ed25519 key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Pem("PUBLIC KEY"))?;
        let key = der.strip_prefix(SPKI.as_slice()).filter(|key| key.len() == 32);
        key.map(|key| Self(key.to_vec())).ok_or(KeyError::NotEd25519)
    }

    /// As a PEM file's text.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[SPKI.as_slice(), &self.0].concat())
    }

    /// Its id.
    pub fn id(&self) -> [u8; 8] {
        key_id(&self.0)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

/// A new private key, as a PEM file's text.
///
/// # Errors
/// The system gives no random numbers.
pub fn generate_pem() -> Result<String, KeyError> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
    Ok(pem("PRIVATE KEY", &[PKCS8.as_slice(), &seed].concat()))
}

fn pem(kind: &str, der: &[u8]) -> String {
    // Ed25519's are shorter than two lines.
    let text = STANDARD.encode(der);
    let (first, rest) = text.split_at(text.len().min(64));
    let rest = if rest.is_empty() { String::new() } else { format!("{rest}\n") };
    format!("-----BEGIN {kind}-----\n{first}\n{rest}-----END {kind}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_and_its_public_half_checks_through_files() {
        let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
        let public = PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap();
        assert_eq!(public, key.public());
        let signature = key.sign(b"said");
        assert!(public.verifies(b"said", &signature));
        assert!(!public.verifies(b"else", &signature));
    }

    #[test]
    fn what_openssl_makes_is_taken() {
        // openssl genpkey -algorithm ed25519; openssl pkey -pubout
        let secret = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n-----END PUBLIC KEY-----\n";
        let key = SecretKey::from_pem(secret.as_bytes()).unwrap();
        assert_eq!(key.public().to_pem(), public);
    }

    #[test]
    fn something_else_is_refused_with_what_to_do() {
        let error = SecretKey::from_pem(b"nothing").unwrap_err();
        assert!(error.to_string().contains("keygen"), "{error}");
        assert!(PublicKey::from_pem(pem("PUBLIC KEY", &[0; 44]).as_bytes()).is_err());
        assert!(SecretKey::from_pem(pem("PRIVATE KEY", &[0; 48]).as_bytes()).is_err());
    }
}
