//! Keyed digests of arguments: BLAKE3 in its keyed mode.
//!
//! The key keeps a reader of the record from trying out guesses of short arguments.

use core::fmt;

/// What the key is derived for, so that the same secret used elsewhere gives other digests.
const PURPOSE: &str = "sallyport 2026-11-21 digest of arguments";

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct DigestKey([u8; 32]);

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// A key of these bytes; none: no bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        (!key.is_empty()).then(|| Self(blake3::derive_key(PURPOSE, key)))
    }

    /// The digest of `data`.
    pub(crate) fn digest(&self, data: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, data).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arguments_have_equal_digests_under_one_key_only() {
        let (key, other) = (DigestKey::new(b"one").unwrap(), DigestKey::new(b"two").unwrap());
        assert_eq!(key.digest(b"{}"), key.digest(b"{}"));
        assert_ne!(key.digest(b"{}"), key.digest(b"{ }"));
        assert_ne!(key.digest(b"{}"), other.digest(b"{}"));
        assert_ne!(key.digest(b"{}"), *blake3::hash(b"{}").as_bytes());
    }

    #[test]
    fn no_key_means_no_digest() {
        assert!(DigestKey::new(b"").is_none());
    }
}
