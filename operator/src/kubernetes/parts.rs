//! What runs beside the source, each until the process ends; one that ends with an error ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prometheus_client::registry::Registry;
use sallyport_api::Kind;
use sallyport_policy::ObjectId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Hub;
use crate::admission::{self, AdmissionMetrics};
use crate::certificates::Certificates;
use crate::render::{Settings, gateway_files};
use crate::status::{self, Made, StatusMetrics, Workshop};
use crate::workloads::{self, Reports, Shop, WorkloadMetrics};

/// Starts them all.
pub(super) fn start(
    hub: &Hub,
    namespace: &str,
    certificates: Certificates,
    registry: &mut Registry,
) -> JoinSet<anyhow::Result<()>> {
    let mut parts = JoinSet::new();
    let leader = hub.leader.clone();
    parts.spawn(async move {
        certificates.run(leader).await;
        Ok(())
    });
    parts.spawn(admission::run(hub.clone(), AdmissionMetrics::register(registry)));
    let objects = hub.objects.clone();
    let reports = Reports::new(move |server| objects.publish(&[(Kind::Server, server.clone())]));
    parts.spawn(status::run(hub.clone(), workshop(reports.clone()), StatusMetrics::register(registry)));
    parts.spawn(workloads(hub.clone(), namespace.into(), reports, WorkloadMetrics::register(registry)));
    parts
}

/// What is known of a server's objects, as its status tells it.
fn workshop(reports: Reports) -> Workshop {
    Arc::new(move |server| {
        let report = reports.of(server)?;
        Some(Made {
            workload: report.workload.clone(),
            rollout: report.rollout.unwrap_or_default(),
            problems: report.problems.clone(),
        })
    })
}

/// Keeps what is rendered, once all servers and the authorities that gateways trust are known.
async fn workloads(
    hub: Hub,
    namespace: String,
    reports: Reports,
    metrics: WorkloadMetrics,
) -> anyhow::Result<()> {
    let mut authorities = hub.authorities.clone();
    hub.complete.clone().wait_for(|complete| *complete).await?;
    let known = authorities.wait_for(|authorities| !authorities.is_empty()).await?.clone();
    let render = hub.args.render.clone();
    let settings = move |authorities: &str| -> Arc<Settings> {
        Arc::new(render.settings(gateway_files(&namespace, authorities)))
    };
    let (renew, current) = watch::channel(settings(&known));
    let following = async {
        while authorities.changed().await.is_ok() {
            let known = authorities.borrow_and_update().clone();
            renew.send_replace(settings(&known));
        }
    };
    let shop = Shop {
        client: hub.client.clone(),
        index: hub.index.clone(),
        news: news(&hub),
        leads: hub.leader.clone(),
        settings: current,
        reports,
        metrics,
    };
    tokio::select! {
        () = workloads::run(shop, hub.shutdown.clone()) => {}
        () = async { following.await; std::future::pending().await } => {}
    }
    Ok(())
}

/// Servers that came, changed or went.
fn news(hub: &Hub) -> BoxStream<'static, BTreeSet<ObjectId>> {
    let heard = stream::unfold(hub.objects.subscribe(), async |mut objects| {
        let keys = objects.next().await;
        let servers = keys.into_iter().filter(|(kind, _)| *kind == Kind::Server).map(|(_, id)| id);
        Some((servers.collect::<BTreeSet<_>>(), objects))
    });
    heard.filter(|servers| std::future::ready(!servers.is_empty())).boxed()
}
