//! `sallyport install`: what is in `config/`, applied, and waited for.

pub(crate) mod apply;
pub(crate) mod manifests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::commands::say;
use manifests::{Overlay, compose};

/// Which cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KubeArgs {
    /// The kubeconfig; by default that of `KUBECONFIG`, or `~/.kube/config`.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Its context; by default the current one.
    #[arg(long)]
    context: Option<String>,
}

impl KubeArgs {
    /// A client of the cluster.
    pub(crate) async fn client(&self) -> anyhow::Result<kube::Client> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let text =
                    Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(text, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config =
            config.context("no cluster is known; set KUBECONFIG, or give --kubeconfig or --context")?;
        Ok(kube::Client::try_from(config)?)
    }
}

/// Flags of `sallyport install`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// What is installed.
    #[arg(long, value_enum, default_value = "default")]
    overlay: Overlay,
    /// Prints the manifests and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Image of the operator, the ingest and the control API.
    #[arg(long)]
    image: Option<String>,
    /// Image of the gateways.
    #[arg(long)]
    gateway_image: Option<String>,
    /// How long to wait until everything is ready, in seconds.
    #[arg(long, default_value_t = 180)]
    timeout: u64,
    #[command(flatten)]
    kube: KubeArgs,
}

/// Installs, or prints what would be installed.
pub(crate) async fn run(args: InstallArgs) -> anyhow::Result<ExitCode> {
    let mut objects = compose(args.overlay)?;
    for object in &mut objects {
        set_images(object, args.image.as_deref(), args.gateway_image.as_deref());
    }
    if args.dry_run {
        for object in &objects {
            say(&format!("---\n{}", serde_saphyr::to_string(object)?.trim_end()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let client = args.kube.client().await?;
    apply::all(&client, &objects).await?;
    apply::wait(&client, &objects, Duration::from_secs(args.timeout)).await?;
    Ok(ExitCode::SUCCESS)
}

/// The variable of the operator that names the image of gateways.
const GATEWAY_IMAGE: &str = "SALLYPORT_GATEWAY_IMAGE";

fn set_images(object: &mut Value, image: Option<&str>, gateway_image: Option<&str>) {
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(image) = image {
            container.insert("image".into(), image.into());
        }
        let variables = container.get_mut("env").and_then(Value::as_array_mut);
        for variable in variables.into_iter().flatten().filter_map(Value::as_object_mut) {
            if let Some(image) = gateway_image
                && variable.get("name").is_some_and(|name| name == GATEWAY_IMAGE)
            {
                variable.insert("value".into(), image.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_replaced_where_they_are_named() {
        let text = |image: Option<&str>, gateway: Option<&str>| {
            let mut objects = compose(Overlay::Default).unwrap();
            objects.iter_mut().for_each(|object| set_images(object, image, gateway));
            serde_json::to_string(&objects).unwrap()
        };
        let (was, is) = (text(None, None), text(Some("mine/sallyport:1"), Some("mine/envoy:1")));
        assert_eq!(is.matches("mine/sallyport:1").count(), 3);
        assert_eq!(is.matches("mine/envoy:1").count(), 1);
        let own = concat!("\"sallyport:", env!("CARGO_PKG_VERSION"));
        assert!(was.contains(own) && !is.contains(own));
    }
}
