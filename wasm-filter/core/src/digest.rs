//! Keyed digests of arguments: HMAC-SHA-256 (RFC 2104), its two keyed states computed once.
//!
//! The key keeps a reader of the record from trying out guesses of short arguments.

use core::fmt;

use sha2::{Digest, Sha256};

const BLOCK: usize = 64;

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct DigestKey {
    inner: Sha256,
    outer: Sha256,
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// A key of these bytes; none: no bytes.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        let mut block = [0_u8; BLOCK];
        let hashed = Sha256::digest(key);
        let key = if key.len() > BLOCK { hashed.as_slice() } else { key };
        for (place, byte) in block.iter_mut().zip(key) {
            *place = *byte;
        }
        let keyed = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Some(Self { inner: keyed(0x36), outer: keyed(0x5c) })
    }

    /// The digest of `data`.
    pub(crate) fn digest(&self, data: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(data).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_test_cases_of_rfc_4231() {
        let hex =
            |bytes: &[u8]| bytes.iter().map(|b| alloc::format!("{b:02x}")).collect::<alloc::string::String>();
        let case_2 = DigestKey::new(b"Jefe").unwrap().digest(b"what do ya want for nothing?");
        assert_eq!(hex(&case_2), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let case_6 = DigestKey::new(&[0xaa; 131])
            .unwrap()
            .digest(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&case_6), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn no_key_means_no_digest() {
        assert!(DigestKey::new(b"").is_none());
    }
}
