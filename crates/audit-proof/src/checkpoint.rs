//! A checkpoint and its bytes.

use prost::Message;
use sallyport_audit_proto::hex;
use sallyport_audit_proto::v1::{self, ChainEnd, SignedCheckpoint};
use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, SecretKey};
use crate::merkle;

/// What stands before everything that is hashed or signed as a checkpoint.
const DOMAIN: &[u8] = b"sallyport-checkpoint-v1\n";

const SECOND: u64 = 1_000_000_000;

/// A chain: one worker of one run of one proxy. Ordered by proxy (bytewise), worker, epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId {
    /// The proxy.
    pub proxy: String,
    /// Its worker.
    pub worker: u32,
    /// When the worker began, in nanoseconds since 1970.
    #[serde(with = "crate::report::text")]
    pub epoch: u64,
}

/// How a chain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It did not: events may still come.
    #[default]
    Open,
    /// With all of its events delivered.
    Complete,
    /// With events that were not delivered: those up to what was announced, and perhaps more.
    CutOff,
}

/// Where a chain stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedHead {
    /// The chain.
    pub chain: ChainId,
    /// Its last event's sequence.
    pub seq: u64,
    /// That event's hash.
    pub hash: [u8; 32],
    /// Events of it that arrived.
    pub count: u64,
    /// Last sequence that was removed for age or room, with all before; 0: none.
    pub floor: u64,
    /// Events that were removed so.
    pub removed: u64,
    /// Highest sequence that its proxy said it had given out; 0: it did not say.
    pub announced: u64,
    /// Whether it ended.
    pub end: End,
}

impl SealedHead {
    /// Its leaf in the tree. Text, one field a line, so that anybody can write it.
    pub(crate) fn leaf(&self) -> [u8; 32] {
        let Self { chain, seq, hash, count, floor, removed, announced, end } = self;
        let hash = hex::text(hash);
        let end = match end {
            End::Open => "open",
            End::Complete => "complete",
            End::CutOff => "cut_off",
        };
        let ChainId { proxy, worker, epoch } = chain;
        merkle::leaf(
            format!(
                "sallyport-head-v1\n{proxy}\n{worker}\n{epoch}\n{seq}\n{hash}\n{count}\n{floor}\n{removed}\n{announced}\n{end}"
            )
            .as_bytes(),
        )
    }

    fn to_proto(&self) -> v1::SealedHead {
        let end = match self.end {
            End::Open => ChainEnd::Open,
            End::Complete => ChainEnd::Complete,
            End::CutOff => ChainEnd::CutOff,
        };
        v1::SealedHead {
            proxy: self.chain.proxy.clone(),
            worker: self.chain.worker,
            epoch: self.chain.epoch,
            seq: self.seq,
            hash: self.hash.to_vec(),
            count: self.count,
            floor: self.floor,
            removed: self.removed,
            announced: self.announced,
            end: end.into(),
        }
    }

    fn from_proto(head: v1::SealedHead) -> Result<Self, Malformed> {
        let end = match ChainEnd::try_from(head.end) {
            Ok(ChainEnd::Open) => End::Open,
            Ok(ChainEnd::Complete) => End::Complete,
            Ok(ChainEnd::CutOff) => End::CutOff,
            Err(_) => return Err(Malformed::Form),
        };
        Ok(Self {
            chain: ChainId { proxy: head.proxy, worker: head.worker, epoch: head.epoch },
            seq: head.seq,
            hash: head.hash.try_into().map_err(|_| Malformed::Form)?,
            count: head.count,
            floor: head.floor,
            removed: head.removed,
            announced: head.announced,
            end,
        })
    }
}

/// Where all chains stood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// From 1, without holes.
    pub sequence: u64,
    /// When it was made, nanoseconds since 1970.
    pub nanos: u64,
    /// Hash of the one before; none: it is the first.
    pub previous: Option<[u8; 32]>,
    /// The oldest that is kept beside it.
    pub first: u64,
    /// Root over all heads.
    pub root: [u8; 32],
    /// How many heads that is.
    pub heads_total: u64,
    /// Whether `heads` are all.
    pub full: bool,
    /// All heads, or those that changed.
    pub heads: Vec<SealedHead>,
    /// Heads that are in the tree no longer.
    pub retired: Vec<SealedHead>,
    /// Events and checkpoints older than this are removed, in nanoseconds.
    pub retention: u64,
}

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not of its form.
    #[error("is not a sallyport.audit.v1.SignedCheckpoint")]
    Form,
    /// Another key's.
    #[error("is signed with a key that was not given")]
    UnknownKey,
    /// Not what was signed.
    #[error("does not bear its signature: it was altered or forged")]
    Signature,
}

impl Checkpoint {
    /// Signed bytes, and the checkpoint's hash.
    pub(crate) fn sign(&self, key: &SecretKey) -> (Vec<u8>, [u8; 32]) {
        let message = v1::Checkpoint {
            sequence: self.sequence,
            time_unix_nanos: self.nanos,
            previous: self.previous.map(|hash| hash.to_vec()).unwrap_or_default(),
            first: self.first,
            root: self.root.to_vec(),
            heads_total: self.heads_total,
            full: self.full,
            heads: self.heads.iter().map(SealedHead::to_proto).collect(),
            retired: self.retired.iter().map(SealedHead::to_proto).collect(),
            retention_seconds: self.retention / SECOND,
        };
        let checkpoint = message.encode_to_vec();
        let hash = digest(&checkpoint);
        let signature = key.sign(&[DOMAIN, &checkpoint].concat());
        let key_id = key.public().id().to_vec();
        (SignedCheckpoint { checkpoint, signature, key_id }.encode_to_vec(), hash)
    }

    /// Reads signed bytes without checking the signature; answers with the hash too.
    ///
    /// # Errors
    /// [`Malformed::Form`].
    pub fn decode(signed: &[u8]) -> Result<(Self, [u8; 32]), Malformed> {
        let signed = SignedCheckpoint::decode(signed).map_err(|_| Malformed::Form)?;
        Ok((Self::from_bytes(&signed.checkpoint)?, digest(&signed.checkpoint)))
    }

    /// Reads signed bytes, and checks the signature with one of `keys`; answers with the hash too.
    ///
    /// # Errors
    /// It is none, or not signed by one of them.
    pub fn verify(signed: &[u8], keys: &[PublicKey]) -> Result<(Self, [u8; 32]), Malformed> {
        let signed = SignedCheckpoint::decode(signed).map_err(|_| Malformed::Form)?;
        let key = keys.iter().find(|key| key.id().as_slice() == signed.key_id);
        let key = key.ok_or(Malformed::UnknownKey)?;
        if !key.verifies(&[DOMAIN, &signed.checkpoint].concat(), &signed.signature) {
            return Err(Malformed::Signature);
        }
        Ok((Self::from_bytes(&signed.checkpoint)?, digest(&signed.checkpoint)))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let message = v1::Checkpoint::decode(bytes).map_err(|_| Malformed::Form)?;
        let hash = |bytes: Vec<u8>| <[u8; 32]>::try_from(bytes).map_err(|_| Malformed::Form);
        let heads = |heads: Vec<v1::SealedHead>| {
            heads.into_iter().map(SealedHead::from_proto).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            sequence: message.sequence,
            nanos: message.time_unix_nanos,
            previous: if message.previous.is_empty() { None } else { Some(hash(message.previous)?) },
            first: message.first,
            root: hash(message.root)?,
            heads_total: message.heads_total,
            full: message.full,
            heads: heads(message.heads)?,
            retired: heads(message.retired)?,
            retention: message.retention_seconds.saturating_mul(SECOND),
        })
    }
}

/// Hash of signed bytes: what the next checkpoint names, and what to write down to know this one again.
///
/// # Errors
/// [`Malformed::Form`].
pub fn checkpoint_hash(signed: &[u8]) -> Result<[u8; 32], Malformed> {
    Ok(Checkpoint::decode(signed)?.1)
}

fn digest(checkpoint: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(DOMAIN).update(checkpoint).finalize().as_bytes()
}
