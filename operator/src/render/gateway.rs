//! The gateway: Envoy as a native sidecar, an init container that goes on for as long as the pod lives. It is ready before the
//! server starts and ends after it.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use sallyport_envoy::sidecar::{self, LIFECYCLE_PORT};

use super::container::{port, security};
use super::image::Image;
use super::names;

/// How long connections are told to end before listeners close, in seconds: until the cluster sends nothing more here.
const DRAIN_SECONDS: i64 = 10;
/// How long a gateway may take for its first complete policy, in seconds, until it is started anew: a control plane that is
/// away for minutes is no reason to restart pods all the time.
const START_SECONDS: i32 = 600;

const CONFIG_VOLUME: &str = "gateway-config";
const TOKEN_VOLUME: &str = "gateway-token";
const SCRATCH_VOLUME: &str = "gateway-tmp";

/// The container.
pub(super) fn container(
    server: &str,
    image: Image,
    gateway_port: i32,
    resources: core::ResourceRequirements,
    drain_key: &str,
) -> core::Container {
    let ready = |period, failures| core::Probe {
        http_get: Some(http_get("/.sallyport/ready", gateway_port)),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..core::Probe::default()
    };
    core::Container {
        name: names::GATEWAY.into(),
        image: Some(image.reference),
        image_pull_policy: Some(image.pull_policy.into()),
        restart_policy: Some("Always".into()),
        command: Some(vec!["/usr/local/bin/envoy".into()]),
        args: Some(arguments(server)),
        env: Some(vec![
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            // The template is the same on every track; the label is the Deployment's.
            field("ROLLOUT_TRACK", &format!("metadata.labels['{}']", names::TRACK)),
        ]),
        ports: Some(vec![port("gateway", gateway_port), port("lifecycle", i32::from(LIFECYCLE_PORT))]),
        startup_probe: Some(ready(1, START_SECONDS)),
        readiness_probe: Some(ready(2, 2)),
        lifecycle: Some(core::Lifecycle {
            pre_stop: Some(core::LifecycleHandler {
                http_get: Some(http_get(&sidecar::drain_path(drain_key), i32::from(LIFECYCLE_PORT))),
                ..core::LifecycleHandler::default()
            }),
            ..core::Lifecycle::default()
        }),
        resources: Some(resources),
        security_context: Some(security(Some(true))),
        volume_mounts: Some(vec![
            mount(CONFIG_VOLUME, sidecar::FOLDER, true),
            mount(TOKEN_VOLUME, sidecar::TOKEN_FOLDER, true),
            mount(SCRATCH_VOLUME, "/tmp", false),
        ]),
        ..core::Container::default()
    }
}

/// What the container mounts.
pub(super) fn volumes(server: &str) -> Vec<core::Volume> {
    let config = core::ConfigMapVolumeSource {
        name: names::gateway_config(server),
        ..core::ConfigMapVolumeSource::default()
    };
    let token = core::ServiceAccountTokenProjection {
        audience: Some(sidecar::TOKEN_AUDIENCE.into()),
        expiration_seconds: Some(sidecar::TOKEN_SECONDS),
        path: sidecar::TOKEN_NAME.into(),
    };
    let token =
        core::VolumeProjection { service_account_token: Some(token), ..core::VolumeProjection::default() };
    let token = core::ProjectedVolumeSource { sources: Some(vec![token]), default_mode: None };
    let volume = |name: &str| core::Volume { name: name.into(), ..core::Volume::default() };
    vec![
        core::Volume { config_map: Some(config), ..volume(CONFIG_VOLUME) },
        core::Volume { projected: Some(token), ..volume(TOKEN_VOLUME) },
        core::Volume { empty_dir: Some(core::EmptyDirVolumeSource::default()), ..volume(SCRATCH_VOLUME) },
    ]
}

fn arguments(server: &str) -> Vec<String> {
    let arguments = [
        ("-c", format!("{}/{}", sidecar::FOLDER, sidecar::BOOTSTRAP_KEY)),
        ("--service-node", "$(POD_NAMESPACE)/$(POD_NAME)".to_string()),
        ("--service-cluster", sidecar::service_cluster(server, "$(ROLLOUT_TRACK)")),
        ("--concurrency", sidecar::WORKERS.to_string()),
        ("--drain-time-s", DRAIN_SECONDS.to_string()),
        // Every answer tells its connection to end, from the first on.
        ("--drain-strategy", "immediate".to_string()),
    ];
    arguments.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]).collect()
}

fn http_get(path: &str, port: i32) -> core::HTTPGetAction {
    core::HTTPGetAction {
        path: Some(path.into()),
        port: IntOrString::Int(port),
        ..core::HTTPGetAction::default()
    }
}

fn field(name: &str, path: &str) -> core::EnvVar {
    let field = core::ObjectFieldSelector { api_version: None, field_path: path.into() };
    let source = core::EnvVarSource { field_ref: Some(field), ..core::EnvVarSource::default() };
    core::EnvVar { name: name.into(), value: None, value_from: Some(source) }
}

fn mount(volume: &str, path: &str, read_only: bool) -> core::VolumeMount {
    core::VolumeMount {
        name: volume.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..core::VolumeMount::default()
    }
}
