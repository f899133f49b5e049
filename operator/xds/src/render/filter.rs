//! The filter in the chain, and its configuration resource.

use envoy_types::pb::envoy::config::core::v3::async_data_source::Specifier as AsyncSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, DataSource, ExtensionConfigSource, TypedExtensionConfig,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, ReloadConfig, VmConfig};
use envoy_types::pb::google::protobuf::{Any, BoolValue, BytesValue, Duration};
use prost::Message;
use sallyport_operator_ir::ProxyPlan;

use super::{FILTER, any};

/// The resource that Envoy asks for by name.
pub(super) fn extension(plan: &ProxyPlan) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: FILTER.into(),
        typed_config: Some(any(&wasm(&plan.module, &plan.filter_config))),
    }
}

/// How the chain asks for it. Until it is there the default applies: the same filter without any server, which denies
/// everything.
pub(super) fn source(plan: &ProxyPlan) -> ExtensionConfigSource {
    ExtensionConfigSource {
        config_source: Some(super::ads()),
        default_config: Some(any(&wasm(&plan.module, &[]))),
        // The listener opens with the true configuration, or after Envoy's initial fetch timeout with the default.
        apply_default_config_without_warming: false,
        type_urls: vec!["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm".into()],
    }
}

fn wasm(module: &str, configuration: &[u8]) -> Wasm {
    let code = DataSource { specifier: Some(Specifier::Filename(module.into())), ..Default::default() };
    let vm = VmConfig {
        // One VM per worker for all versions of the configuration: its statics hold the state.
        vm_id: FILTER.into(),
        runtime: "envoy.wasm.runtime.v8".into(),
        code: Some(AsyncDataSource { specifier: Some(AsyncSpecifier::Local(code)) }),
        ..Default::default()
    };
    let configuration = BytesValue { value: configuration.to_vec() };
    Wasm {
        config: Some(PluginConfig {
            name: FILTER.into(),
            root_id: FILTER.into(),
            configuration: Some(Any {
                type_url: "type.googleapis.com/google.protobuf.BytesValue".into(),
                value: configuration.encode_to_vec(),
            }),
            // A VM that trapped is made anew when a request comes; it is empty then, and denies until it has synced.
            failure_policy: FailurePolicy::FailReload.into(),
            reload_config: Some(reload()),
            // Without this, a filter that waits for the body hangs the request.
            allow_on_headers_stop_iteration: Some(BoolValue { value: true }),
            vm: Some(Vm::VmConfig(vm)),
            ..Default::default()
        }),
    }
}

/// How soon a VM may be made anew. Envoy's own second is a second without the worker; what traps again and again must not
/// keep the worker busy with making VMs either.
fn reload() -> ReloadConfig {
    ReloadConfig {
        backoff: Some(BackoffStrategy {
            base_interval: Some(Duration { seconds: 0, nanos: 100_000_000 }),
            max_interval: Some(Duration { seconds: 2, nanos: 0 }),
        }),
    }
}
