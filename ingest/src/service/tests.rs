use prost::Message;
use sallyport_audit_proto::chain;
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_ingest_spool::{Health, Options, Spool};
use tonic::Code;

use super::*;
use crate::ledger::Ledger;

/// Knows the token `payments` of a pod, and is away for the token `later`.
#[derive(Debug)]
struct Cluster;

#[tonic::async_trait]
impl Authenticate for Cluster {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        match token {
            "payments" => Ok(Identity { proxy: "a/pod".into(), server: Some("a/payments".into()) }),
            "later" => Err(AuthError::Unavailable("no answer".into())),
            _ => Err(AuthError::Unknown),
        }
    }
}

fn batch(token: &str, proxy: &str, server: &str) -> Request<EmitRequest> {
    let event = AuditEvent {
        seq: 1,
        prev_hash: chain::genesis(proxy, 1, 2).to_vec(),
        namespace: "a".into(),
        server: server.into(),
        ..AuditEvent::default()
    };
    let events = vec![event.encode_to_vec()];
    let mut request = Request::new(EmitRequest {
        proxy: proxy.into(),
        worker: 1,
        epoch: 2,
        events,
        dropped_total: 0,
        last_seq: 0,
    });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn a_pods_token_brings_that_pods_events_of_its_server_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { folder: folder.path().join("spool"), max_bytes: 1 << 20 };
    let (spool, _reader) = Spool::open(&options).unwrap();
    let mut health = spool.health();
    health.wait_for(|health| *health == Health::Writable).await.unwrap();
    let metrics = Metrics::default();
    let acceptor = Acceptor::new(spool, Ledger::default(), metrics.clone());
    let ingest = Ingest { acceptor, proxies: Arc::new(Cluster), metrics };
    let refused = [
        (batch("payments", "a/other-pod", "payments"), Code::PermissionDenied),
        (batch("payments", "a/pod", "ledger"), Code::PermissionDenied),
        (batch("stolen", "a/pod", "payments"), Code::Unauthenticated),
        (batch("later", "a/pod", "payments"), Code::Unavailable),
    ];
    for (request, code) in refused {
        assert_eq!(ingest.emit(request).await.unwrap_err().code(), code);
    }
    assert_eq!(ingest.metrics.refused.get(), 4, "each is counted");
    assert_eq!(ingest.metrics.stored.get(), 0);
    let stored = ingest.emit(batch("payments", "a/pod", "payments")).await.unwrap();
    assert_eq!(stored.into_inner().durable_seq, 1);
}
