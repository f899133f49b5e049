//! Checkpoints on their way to a store.

use sallyport_audit_proof::Checkpoint;
use sallyport_event_store::{ChainName, StoredCheckpoint, timestamp};

use crate::record::Record;

/// A signed checkpoint as a store takes it; none: the bytes are none. Its signature is for whoever verifies.
pub fn stored_checkpoint(signed: &[u8]) -> Option<StoredCheckpoint> {
    if signed.is_empty() {
        return None;
    }
    let (checkpoint, _) = Checkpoint::decode(signed).ok()?;
    let retired = checkpoint.retired.into_iter().map(|head| ChainName {
        proxy: head.chain.proxy,
        worker: head.chain.worker,
        epoch: head.chain.epoch,
    });
    Some(StoredCheckpoint {
        sequence: checkpoint.sequence,
        nanos: checkpoint.nanos,
        first: checkpoint.first,
        retired: retired.collect(),
        bytes: signed.to_vec(),
    })
}

/// The record of a checkpoint for the topic of checkpoints: key is its number, value the signed bytes.
pub fn encode_checkpoint(checkpoint: &StoredCheckpoint) -> Record<'static> {
    let key = checkpoint.sequence.to_string();
    let headers = vec![
        ("ce_specversion", "1.0".into()),
        ("ce_id", key.clone().into()),
        ("ce_type", "audit.checkpoint".into()),
        ("ce_source", "/sallyport/ingest".into()),
        ("ce_time", timestamp(checkpoint.nanos).into()),
        ("content-type", "application/protobuf".into()),
    ];
    Record { headers, key: key.into(), value: checkpoint.bytes.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sallyport_audit_proof::{ChainId, SealedHead, Sealer, SecretKey, generate_pem};

    use super::*;

    #[test]
    fn a_checkpoint_travels_as_it_was_signed() {
        let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
        let chain = ChainId { proxy: "edge".into(), worker: 1, epoch: 2 };
        let heads =
            BTreeMap::from([(chain.clone(), SealedHead { chain: chain.clone(), ..SealedHead::default() })]);
        let sealed = Sealer::resume(key, None, vec![], 1).unwrap().seal(7, heads, &[chain]);
        let stored = stored_checkpoint(&sealed.bytes).unwrap();
        assert_eq!((stored.sequence, stored.nanos, stored.first), (1, 7, 1));
        assert_eq!(stored.retired, [ChainName { proxy: "edge".into(), worker: 1, epoch: 2 }]);
        let record = encode_checkpoint(&stored);
        assert_eq!((record.key.as_ref(), &record.value), ("1", &sealed.bytes));
        assert_eq!(stored_checkpoint(&record.value), Some(stored));
        assert_eq!(stored_checkpoint(b""), None);
        assert_eq!(stored_checkpoint(b"something"), None);
    }
}
