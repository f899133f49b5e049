//! A stream of batches. What waits in it is taken together, so that one fsync is for all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use sallyport_audit_proto::v1::{EmitRequest, EmitStreamResponse};
use sallyport_event_store::ChainName;
use sallyport_runtime::identity::Identity;
use tokio::sync::mpsc::Sender;
use tonic::{Code, Status};

use crate::accept::{Batch, Events};
use crate::check::Word;
use crate::service::{Ingest, try_again};

/// Most bytes of events that are taken together; a record of the spool has room for them and one request more.
const GROUP_BYTES: usize = 4 << 20;
/// How long a stream lives; a caller whose token is withdrawn is heard no longer.
const LIFE: Duration = Duration::from_secs(3600);

type Answer = Result<EmitStreamResponse, Status>;

/// One stream of one caller.
pub(crate) struct Session {
    ingest: Ingest,
    caller: Identity,
    answers: Sender<Answer>,
    /// Requests that were answered, by chain.
    answered: BTreeMap<ChainName, u64>,
}

/// Requests of one chain that are taken together.
struct Group {
    events: Vec<Vec<u8>>,
    requests: u64,
    word: Word,
}

impl Session {
    pub(crate) fn new(ingest: Ingest, caller: Identity, answers: Sender<Answer>) -> Self {
        Self { ingest, caller, answers, answered: BTreeMap::new() }
    }

    /// Takes batches until the stream ends, on either side.
    pub(crate) async fn run(mut self, requests: impl Stream<Item = Result<EmitRequest, Status>> + Unpin) {
        if let Err(status) = self.take_all(requests).await {
            // A client that is gone needs no reason.
            let _ = self.answers.send(Err(status)).await;
        }
    }

    async fn take_all(
        &mut self,
        mut requests: impl Stream<Item = Result<EmitRequest, Status>> + Unpin,
    ) -> Result<(), Status> {
        let end = tokio::time::sleep(LIFE);
        tokio::pin!(end);
        loop {
            let mut next = tokio::select! {
                () = &mut end => {
                    let message = "the stream is an hour old; open it again";
                    return Err(try_again(Code::Unavailable, message, Duration::ZERO));
                }
                next = requests.next() => next,
                () = self.answers.closed() => return Ok(()),
            };
            let mut groups = BTreeMap::new();
            let mut bytes = 0;
            let mut ending = None;
            loop {
                match next {
                    Some(Ok(request)) => match self.ingest.batch(&self.caller, request) {
                        Ok(batch) => bytes += add(&mut groups, batch),
                        Err(status) => ending = Some(Err(status)),
                    },
                    Some(Err(status)) => ending = Some(Err(status)),
                    None => ending = Some(Ok(())),
                }
                if ending.is_some() || bytes >= GROUP_BYTES {
                    break;
                }
                let Some(waiting) = requests.next().now_or_never() else { break };
                next = waiting;
            }
            self.take(groups).await?;
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    /// Takes each chain's batches as one, and answers.
    async fn take(&mut self, groups: BTreeMap<ChainName, Group>) -> Result<(), Status> {
        let accepts = groups.into_iter().map(|(chain, group)| {
            let (events, acceptor) = (Events::Chained(group.events), &self.ingest.acceptor);
            let (caller, word) = (self.caller.clone(), group.word);
            let batch = Batch { caller, chain: chain.clone(), events, word };
            async move { (chain, group.requests, acceptor.accept(batch).await) }
        });
        for (chain, requests, accepted) in futures::future::join_all(accepts).await {
            let accepted = accepted.map_err(|refusal| self.ingest.status(&self.caller, &refusal))?;
            let answered = self.answered.entry(chain.clone()).or_default();
            *answered += requests;
            let answer = EmitStreamResponse {
                worker: chain.worker,
                epoch: chain.epoch,
                durable_seq: accepted.durable_seq,
                duplicates: accepted.duplicates,
                requests: *answered,
            };
            if self.answers.send(Ok(answer)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Adds a batch to its chain's group, and tells its bytes.
fn add(groups: &mut BTreeMap<ChainName, Group>, batch: Batch) -> usize {
    let Events::Chained(events) = batch.events else {
        return 0;
    };
    let bytes = events.iter().map(Vec::len).sum();
    let group =
        groups.entry(batch.chain).or_insert(Group { events: Vec::new(), requests: 0, word: Word::default() });
    group.events.extend(events);
    group.requests += 1;
    group.word = group.word.max(batch.word);
    bytes
}
