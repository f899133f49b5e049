//! Checkpoints, ended chains and reconnecting proxies.

use std::time::{Duration, Instant};

use sallyport_audit_proof::{
    ChainId, Checkpoint, Covers, End, Event, PublicKey, Report, SecretKey, Verifier, generate_pem,
};
use sallyport_audit_proto::v1::EmitRequest;
use sallyport_event_store::{Depth, EventStore, Filter};
use serde_json::json;

use crate::support::{Server, TOKEN, batch_of, with_token};

/// Flags of checkpoints every second, with a key that is made where there is none.
fn sealing(folder: &std::path::Path) -> [String; 2] {
    let key = folder.join("key.pem");
    if !key.exists() {
        std::fs::write(&key, generate_pem().unwrap()).unwrap();
    }
    [format!("--checkpoint-key={}", key.display()), "--checkpoint-interval=1".into()]
}

fn public_key(server: &Server) -> PublicKey {
    let pem = std::fs::read(server.folder.path().join("key.pem")).unwrap();
    SecretKey::from_pem(&pem).unwrap().public()
}

async fn checkpoints(server: &Server) -> Vec<Checkpoint> {
    let all = server.reader().checkpoints(0, 1000).await.unwrap_or_default();
    all.iter().map(|stored| Checkpoint::decode(&stored.bytes).unwrap().0).collect()
}

async fn verify(server: &Server) -> Report {
    let mut verifier = Verifier::new(vec![public_key(server)], Covers::default());
    let checkpoints = server.reader().checkpoints(0, 1000).await.unwrap();
    checkpoints.iter().for_each(|stored| verifier.checkpoint(&stored.bytes));
    for event in server.reader().scan(None, 100_000, Depth::Columns).await.unwrap() {
        let chain =
            ChainId { proxy: event.chain.proxy, worker: event.chain.worker, epoch: event.chain.epoch };
        let (seq, differs) = (event.seq, event.differs);
        verifier.event(Event { chain: &chain, seq, hash: &event.hash, bytes: &event.bytes, differs });
    }
    verifier.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_are_sealed_and_the_record_proves_also_over_restarts() {
    let server = Server::start_with(sealing).await;
    let send = async |server: &Server, from, to, epoch| {
        let request = with_token(batch_of("edge", 1, epoch, from, to), TOKEN);
        server.client().await.emit(request).await.unwrap();
    };
    send(&server, 1, 20, 5).await;
    server.until(async || !checkpoints(&server).await.is_empty()).await;
    send(&server, 21, 30, 5).await;
    // Sealed at the end, though a second is not over.
    let server = server.restart_with(sealing).await;
    let report = verify(&server).await;
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.not_sealed), (30, 0));
    send(&server, 11, 40, 5).await;
    let server = server.restart_with(sealing).await;
    let report = verify(&server).await;
    assert!(report.is_intact() && report.events == 40 && report.checkpoints >= 3, "{report:#?}");
    let before = report.checkpoints;
    server.until(async || checkpoints(&server).await.len() as u64 > before).await;
    server.alter("DELETE FROM events WHERE seq > 35");
    let report = verify(&server).await;
    assert_eq!(report.truncations.listed[0].missing, 5, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_proxy_had_given_out_is_counted_within_ten_seconds_of_its_return() {
    let server = Server::start_with(sealing).await;
    let mut client = server.client().await;
    let told = EmitRequest { last_seq: 25, ..batch_of("edge", 1, 5, 1, 20) };
    client.emit(with_token(told, TOKEN)).await.unwrap();
    // The next run of the same proxy begins, and has nothing to tell yet.
    let began = Instant::now();
    let word = EmitRequest { events: vec![], ..batch_of("edge", 1, 9, 1, 1) };
    client.emit(with_token(word, TOKEN)).await.unwrap();
    let lost = Filter { event_type: Some("audit.lost".into()), ..Filter::default() };
    server.until(async || server.stored(lost.clone()).await.len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let payload = &server.stored(lost).await[0]["payload"];
    assert_eq!((&payload["missing"], &payload["reason"]), (&json!(5), &json!("proxy_ended")));
    assert_eq!((&payload["chain"]["from"], &payload["chain"]["to"]), (&json!(21), &json!(25)));
    server
        .until(async || {
            checkpoints(&server)
                .await
                .iter()
                .any(|made| made.heads.iter().any(|head| head.end == End::CutOff))
        })
        .await;
    let report = verify(&server).await;
    assert!(report.is_intact(), "it is explained: {report:#?}");
    assert_eq!((report.gaps.listed[0].reason, report.missing), ("proxy_ended", 5));
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("sallyport_ingest_chains_cut_off_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_that_does_not_return_still_owes_is_told_within_ten_seconds_and_taken_back_when_it_comes()
 {
    let server = Server::start_with(sealing).await;
    let mut client = server.client().await;
    let told = EmitRequest { last_seq: 25, ..batch_of("edge", 1, 5, 1, 20) };
    client.emit(with_token(told, TOKEN)).await.unwrap();
    let began = Instant::now();
    let silent = Filter { event_type: Some("audit.silent".into()), ..Filter::default() };
    server.until(async || server.stored(silent.clone()).await.len() == 1).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let payload = &server.stored(silent.clone()).await[0]["payload"];
    assert_eq!((&payload["missing"], &payload["reason"]), (&json!(5), &json!("proxy_silent")));
    assert_eq!((&payload["chain"]["from"], &payload["chain"]["to"]), (&json!(21), &json!(25)));
    // Also the proof counts them, and a start after it does not tell it again.
    let server = server.restart_with(sealing).await;
    let report = verify(&server).await;
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.missing), (20, 5));
    // It was the network.
    let late = batch_of("edge", 1, 5, 18, 25);
    let answer = server.client().await.emit(with_token(late, TOKEN)).await.unwrap().into_inner();
    assert_eq!((answer.durable_seq, answer.duplicates), (25, 3));
    let server = server.restart_with(sealing).await;
    let report = verify(&server).await;
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.missing), (25, 0));
    assert_eq!(server.stored(silent).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_tells_two_stories_is_recorded() {
    let server = Server::start_with(sealing).await;
    let mut client = server.client().await;
    client.emit(with_token(batch_of("edge", 1, 5, 1, 3), TOKEN)).await.unwrap();
    let mut other = batch_of("edge", 1, 5, 3, 3);
    other.events[0].extend([0x90, 0x03, 1]); // `allowed`, told otherwise
    for _ in 0..2 {
        let answer = client.emit(with_token(other.clone(), TOKEN)).await.unwrap().into_inner();
        assert_eq!((answer.durable_seq, answer.duplicates), (3, 1));
    }
    let forks = Filter { event_type: Some("audit.fork".into()), ..Filter::default() };
    server.until(async || server.stored(forks.clone()).await.len() == 1).await;
    server
        .until(async || {
            server.get("/metrics").await.unwrap().1.contains("sallyport_ingest_chains_forked_total 2")
        })
        .await;
    assert_eq!(server.stored(forks).await[0]["payload"]["chain"]["from"], 3);
    assert_eq!(server.stored(Filter::default()).await.len(), 4, "three events, and that there was another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_proxies_that_come_back_at_once_after_a_restart_lose_and_double_nothing() {
    const PROXIES: usize = 1000;
    // Both ends of each connection are in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )
    .unwrap();
    let names: Vec<String> = (0..PROXIES).map(|number| format!("proxy-{number}")).collect();
    let server = Server::start_with_proxies(&names, sealing).await;
    let all = async |server: &Server, from: u64, to: u64| {
        let sends = names.iter().zip(0..).map(|(name, number)| {
            let request = batch_of(name, 1, 5, from, to);
            async move {
                // A connection of its own, as a proxy has. What is not taken now is sent again, later each time and not by
                // all in the same instant.
                let deadline = Instant::now() + Duration::from_secs(120);
                let mut pause = Duration::from_millis(100 + number);
                loop {
                    if let Some(mut client) = server.try_client().await
                        && let Ok(answer) = client.emit(with_token(request.clone(), name)).await
                    {
                        break answer.into_inner();
                    }
                    assert!(Instant::now() < deadline, "{name} is not taken");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(4) + Duration::from_millis(number));
                }
            }
        });
        futures::future::join_all(sends).await
    };
    assert!(all(&server, 1, 3).await.iter().all(|answer| (answer.durable_seq, answer.duplicates) == (3, 0)));
    let server = server.restart_with(sealing).await;
    // Each sends its last batch again: the answer to it was lost.
    assert!(all(&server, 2, 6).await.iter().all(|answer| (answer.durable_seq, answer.duplicates) == (6, 2)));
    let server = server.restart_with(sealing).await;
    let report = verify(&server).await;
    assert!(report.is_intact(), "{report:#?}");
    assert_eq!((report.events, report.chains, report.not_sealed), (6 * PROXIES as u64, PROXIES as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_there_is_an_error_unless_it_is_optional() {
    let server = Server::start_with(|folder| {
        [
            format!("--checkpoint-key={}", folder.join("none.pem").display()),
            "--checkpoint-key-optional".into(),
        ]
    })
    .await;
    server.client().await.emit(with_token(batch_of("edge", 1, 5, 1, 1), TOKEN)).await.unwrap();
    server.stop.cancel();
    server.task.await.unwrap().unwrap();
    let folder = server.folder;
    let key = format!("--checkpoint-key={}", folder.path().join("none.pem").display());
    let error = Server::fails(&folder, &[&key]).await;
    assert!(error.contains("none.pem"), "{error}");
}
