//! The parts of the operator that tell, and that clean up, plugged into the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use sallyport_api::{Kind, duration};
use sallyport_policy::ObjectId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::desk::ApiServer;
use super::metrics::StatusMetrics;
use super::view::{Cluster, Workshop};
use super::workload::IngressReadiness;
use super::writer::{Notice, Settings, Writer};
use crate::collect;
use crate::kubernetes::Hub;
use crate::lock::lock;

/// Whoever begins to lead waits no longer for what became of each server's objects.
const OVERVIEW: Duration = Duration::from_secs(10);
/// How often it looks whether that is known.
const GLANCE: Duration = Duration::from_millis(100);

/// What is told, and how long what ended is kept.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Statuses of grants and sessions written in a second at most. Servers, and what somebody revoked or switched off, are
    /// written at once all the same.
    #[arg(long, env = "SALLYPORT_STATUS_WRITES_PER_SECOND", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub status_writes_per_second: u32,
    /// What counts as a ready Ingress: `strict`, one with an address; `permissive`, one with its rules.
    #[arg(long, env = "MCP_INGRESS_READINESS_MODE", default_value = "strict")]
    pub ingress_readiness: IngressReadiness,
    /// How long a session is kept past its end before it is deleted.
    #[arg(long, env = "SALLYPORT_SESSION_RETENTION", default_value = "7d", value_parser = span)]
    pub session_retention: Duration,
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; must be like 7d, 12h or 90m");
    duration::seconds(text).map(Duration::from_secs).ok_or_else(wrong)
}

/// Writes statuses, tells events and deletes what ended long ago, until the process ends.
pub(crate) async fn run(hub: Hub, workshop: Workshop, metrics: StatusMetrics) -> anyhow::Result<()> {
    let args = hub.args.status.clone();
    let cluster = Cluster { hub: hub.clone(), workshop };
    let desk = ApiServer { client: hub.client.clone(), instance: hub.args.pod_name.clone() };
    let settings = Settings {
        writes_per_second: args.status_writes_per_second,
        ingress_readiness: args.ingress_readiness,
    };
    let (notices, queue) = mpsc::unbounded_channel();
    let (leads, leading) = watch::channel(false);
    let writer = Writer::new(Arc::new(cluster.clone()), Arc::new(desk), settings, metrics.clone());
    let shutdown = hub.shutdown.clone();
    let collecting = collect::run(
        cluster.clone(),
        args.session_retention,
        Timestamp::now,
        metrics,
        hub.leader.clone(),
        shutdown.clone(),
    );
    tokio::join!(
        writer.run(queue, leading, shutdown.clone()),
        collecting,
        until(&shutdown, listen(&hub, notices)),
        until(&shutdown, lead(&cluster, leads)),
    );
    Ok(())
}

async fn until(shutdown: &CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

/// Passes on what happens.
async fn listen(hub: &Hub, notices: mpsc::UnboundedSender<Notice>) {
    let (mut objects, mut proxies) = (hub.objects.subscribe(), hub.proxies.subscribe());
    // A status is no reason to look at what names the server.
    let mut generations: BTreeMap<ObjectId, (Option<String>, Option<i64>)> = BTreeMap::new();
    loop {
        let mut news = Vec::new();
        tokio::select! {
            keys = objects.next() => for key in keys {
                if key.0 == Kind::Server && is_other(hub, &key.1, &mut generations) {
                    news.push(Notice::Dependents(key.1.clone()));
                }
                news.push(Notice::Object(key));
            },
            servers = proxies.next() => news.extend(servers.into_iter().map(Notice::Proxies)),
        }
        if news.into_iter().any(|notice| notices.send(notice).is_err()) {
            return;
        }
    }
}

/// Whether a server is another one than when it was last looked at.
fn is_other(
    hub: &Hub,
    id: &ObjectId,
    generations: &mut BTreeMap<ObjectId, (Option<String>, Option<i64>)>,
) -> bool {
    let server = lock(&hub.index).server(id).cloned();
    match server {
        Some(server) => {
            let now = (server.metadata.uid.clone(), server.metadata.generation);
            generations.insert(id.clone(), now.clone()) != Some(now)
        }
        None => {
            generations.remove(id);
            true
        }
    }
}

/// Says that this replica leads once it knows enough to write the truth: every object, and what became of servers' objects.
async fn lead(cluster: &Cluster, leads: watch::Sender<bool>) {
    let (mut leader, mut complete) = (cluster.hub.leader.clone(), cluster.hub.complete.clone());
    if complete.wait_for(|complete| *complete).await.is_err() {
        return;
    }
    loop {
        if leader.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        let overview = async {
            while !knows_all(cluster) {
                tokio::time::sleep(GLANCE).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(OVERVIEW, overview) => {}
            lost = leader.wait_for(|leads| !*leads) => if lost.is_err() { return } else { continue },
        }
        leads.send_replace(true);
        if leader.wait_for(|leads| !*leads).await.is_err() {
            return;
        }
        leads.send_replace(false);
    }
}

fn knows_all(cluster: &Cluster) -> bool {
    let servers: Vec<ObjectId> = lock(&cluster.hub.index).servers().map(|(id, _)| id.clone()).collect();
    servers.iter().all(|id| (cluster.workshop)(id).is_some())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: StatusArgs,
    }

    fn parse(flags: &[&str]) -> Result<StatusArgs, clap::Error> {
        Cli::try_parse_from([&["x"], flags].concat()).map(|cli| cli.args)
    }

    #[test]
    fn values_are_read_and_wrong_ones_refused() {
        let retention = |text| parse(&["--session-retention", text]).map(|args| args.session_retention);
        assert_eq!(parse(&[]).unwrap().session_retention, Duration::from_secs(7 * 86_400));
        assert_eq!(retention("36h").unwrap(), Duration::from_secs(36 * 3600));
        assert!(retention("soon").unwrap_err().to_string().contains("must be like 7d"));
        assert!(parse(&["--status-writes-per-second", "0"]).is_err());
        assert!(parse(&["--ingress-readiness", "lax"]).is_err());
    }
}
