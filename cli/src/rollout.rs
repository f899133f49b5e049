//! `sallyport server promote` and `rollback`: annotations of the MCPServer, written with the user's own rights, and what the
//! operator makes of them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Api;
use kube::api::{Patch, PatchParams};
use sallyport_api::v1alpha1::{MCPServer, MCPServerStatus};
use serde_json::{Value, json};

use crate::commands::{object, say};
use crate::install::KubeArgs;

/// Annotations that the operator acts on.
const PROMOTE: &str = "mcpruntime.org/promote";
const ROLLBACK: &str = "mcpruntime.org/rollback";
/// Pause between looks at the status.
const PAUSE: Duration = Duration::from_millis(200);

/// Which server, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    /// `namespace/name`.
    object: String,
    /// How long to wait until the operator has done it, in seconds.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    kube: KubeArgs,
}

/// What shall become of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The canary's becomes the stable one.
    Promote,
    /// It shall not run.
    RollBack,
}

impl Wish {
    /// The revision that is meant.
    fn revision(self, status: &MCPServerStatus) -> anyhow::Result<i64> {
        match (self, status.canary_revision, status.stable_revision, status.rejected_revision) {
            (Self::Promote | Self::RollBack, Some(canary), ..) => Ok(canary),
            (Self::Promote, None, _, Some(rejected)) => Ok(rejected),
            (Self::RollBack, None, _, Some(rejected)) => bail!("revision {rejected} is rolled back already"),
            (Self::Promote, None, Some(stable), None) => {
                bail!("there is no canary to promote; revision {stable} runs everywhere")
            }
            (Self::RollBack, None, Some(stable), None) => Ok(stable),
            (_, None, None, None) => bail!("the operator has not said yet which revisions run; is it there?"),
        }
    }

    /// Whoever says one thing takes back the other.
    fn annotations(self, revision: i64) -> Value {
        let revision = revision.to_string();
        match self {
            Self::Promote => json!({ PROMOTE: revision, ROLLBACK: null }),
            Self::RollBack => json!({ ROLLBACK: revision, PROMOTE: null }),
        }
    }

    /// Whether the operator has done it.
    fn is_done(self, revision: i64, status: &MCPServerStatus) -> bool {
        match self {
            Self::Promote => status.stable_revision == Some(revision),
            Self::RollBack => status.rejected_revision == Some(revision),
        }
    }

    fn told(self, revision: i64, status: &MCPServerStatus) -> String {
        match (self, status.stable_revision) {
            (Self::Promote, _) => format!("revision {revision} runs on the stable track"),
            (Self::RollBack, Some(stable)) => format!("revision {revision} gave way to revision {stable}"),
            (Self::RollBack, None) => format!("revision {revision} runs no more"),
        }
    }
}

/// Says what is wished, and waits until it is done.
pub(crate) async fn run(wish: Wish, args: &RolloutArgs) -> anyhow::Result<ExitCode> {
    let (namespace, name) = object(&args.object)?;
    let api: Api<MCPServer> = Api::namespaced(args.kube.client().await?, namespace);
    let found = api.get(name).await.with_context(|| format!("cannot read MCPServer {namespace}/{name}"))?;
    let revision = wish.revision(&found.status.unwrap_or_default())?;
    let patch = json!({ "metadata": { "annotations": wish.annotations(revision) } });
    let parameters = PatchParams { field_manager: Some("sallyport".into()), ..PatchParams::default() };
    api.patch(name, &parameters, &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot annotate MCPServer {namespace}/{name}"))?;
    let done = async {
        loop {
            let status = api.get(name).await?.status.unwrap_or_default();
            if wish.is_done(revision, &status) {
                return Ok::<_, kube::Error>(status);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let Ok(status) = tokio::time::timeout(Duration::from_secs(args.timeout), done).await else {
        bail!(
            "revision {revision} of {namespace}/{name} is annotated, and the operator has not acted on it within {} s; its \
             conditions say more: kubectl -n {namespace} describe mcpserver {name}",
            args.timeout
        );
    };
    say(&format!("{namespace}/{name}: {}", wish.told(revision, &status?)));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(stable: Option<i64>, canary: Option<i64>, rejected: Option<i64>) -> MCPServerStatus {
        MCPServerStatus {
            stable_revision: stable,
            canary_revision: canary,
            rejected_revision: rejected,
            ..MCPServerStatus::default()
        }
    }

    #[test]
    fn the_canary_is_meant_where_there_is_one() {
        let with_canary = status(Some(3), Some(4), None);
        for wish in [Wish::Promote, Wish::RollBack] {
            assert_eq!(wish.revision(&with_canary).unwrap(), 4);
        }
    }

    #[test]
    fn without_a_canary_the_stable_revision_is_rolled_back_and_nothing_promoted() {
        let settled = status(Some(3), None, None);
        assert_eq!(Wish::RollBack.revision(&settled).unwrap(), 3);
        assert!(Wish::Promote.revision(&settled).unwrap_err().to_string().contains("no canary"));
    }

    #[test]
    fn what_was_rolled_back_can_be_promoted_and_not_rolled_back_again() {
        let rejected = status(Some(3), None, Some(4));
        assert_eq!(Wish::Promote.revision(&rejected).unwrap(), 4);
        assert!(Wish::RollBack.revision(&rejected).unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn a_server_that_no_operator_looked_at_has_no_revision() {
        for wish in [Wish::Promote, Wish::RollBack] {
            assert!(wish.revision(&status(None, None, None)).is_err());
        }
    }

    #[test]
    fn one_annotation_takes_the_place_of_the_other() {
        assert_eq!(Wish::Promote.annotations(4), json!({ PROMOTE: "4", ROLLBACK: null }));
        assert_eq!(Wish::RollBack.annotations(4), json!({ ROLLBACK: "4", PROMOTE: null }));
    }

    #[test]
    fn it_is_done_when_the_status_says_so() {
        assert!(!Wish::Promote.is_done(4, &status(Some(3), Some(4), None)));
        assert!(Wish::Promote.is_done(4, &status(Some(4), None, None)));
        assert!(!Wish::RollBack.is_done(4, &status(Some(4), None, None)));
        assert!(Wish::RollBack.is_done(4, &status(Some(3), None, Some(4))));
    }
}
