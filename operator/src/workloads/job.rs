//! One round over one server: decide, apply what differs, delete what is not wanted.

use std::sync::Arc;

use kube::Client;
use sallyport_api::v1alpha1::{MCPServer, RolloutStrategy};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, Severity};

use super::api;
use super::apply::{Memory, Step};
use super::metrics::{ObjectLabel, WorkloadMetrics};
use super::observed::{Children, Observed, State};
use super::secrets::{Content, Digests};
use crate::render::names::{self, Track};
use crate::render::rollout::{Decision, Revision, Wish, Write, decide};
use crate::render::{
    Child, ChildKey, ChildKind, Outcome, Prepared, Replicas, Secrets, Settings, Template, Tracks, objects,
    prepare, revision, withdrawn,
};
use crate::status::workload::Revisions;

/// What every job needs.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) client: Client,
    pub(super) digests: Digests,
    pub(super) metrics: WorkloadMetrics,
}

/// What a round is about.
pub(super) struct Task {
    pub(super) id: ObjectId,
    pub(super) server: Arc<MCPServer>,
    pub(super) settings: Arc<Settings>,
    pub(super) children: Children,
    pub(super) memory: Memory,
    /// Who has the server's place, if it is another.
    pub(super) rival: Option<ObjectId>,
}

/// What came of a round.
pub(super) struct Done {
    pub(super) id: ObjectId,
    pub(super) memory: Memory,
    /// Objects as the API server answered with them.
    pub(super) seen: Vec<(ChildKey, Observed)>,
    pub(super) deleted: Vec<ChildKey>,
    pub(super) problems: Vec<Problem>,
    pub(super) rollout: Option<Revisions>,
    /// Why the round ended early; it is tried again.
    pub(super) failure: Option<String>,
    /// It ended early because something is newer than what it knew: nobody's fault.
    pub(super) is_stale: bool,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0} `{1}`: {2}")]
    Refused(String, String, #[source] kube::Error),
    #[error("{0} `{1}` exists and is not this server's; delete it, or give the server another name")]
    Taken(String, String),
    #[error("{0} `{1}` is being deleted; it is made anew after that")]
    Going(String, String),
    #[error("the API server cannot be asked for Secrets: {0}")]
    Secrets(#[source] kube::Error),
    #[error("revision `{0}` holds no pod template; delete its ControllerRevision")]
    NoTemplate(String),
    #[error("Deployment `{0}` changed meanwhile; it is looked at again")]
    Stale(String),
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    fn refused((kind, name): &ChildKey, error: kube::Error) -> Self {
        Self::Refused(kind.resource().kind, name.clone(), error)
    }
}

/// Runs a round.
pub(super) async fn run(tools: Tools, task: Task) -> Done {
    let mut round = Round {
        name: task.server.metadata.name.clone().unwrap_or_default(),
        namespace: task.id.namespace.clone(),
        tools,
        children: task.children,
        memory: task.memory,
        seen: Vec::new(),
        deleted: Vec::new(),
        problems: Vec::new(),
        rollout: None,
    };
    let result = round.work(&task.server, &task.settings, task.rival.as_ref()).await;
    Done {
        id: task.id,
        memory: round.memory,
        seen: round.seen,
        deleted: round.deleted,
        problems: round.problems,
        rollout: round.rollout,
        is_stale: matches!(result, Err(Failure::Stale(_))),
        failure: result.err().map(|failure| failure.to_string()),
    }
}

struct Round {
    tools: Tools,
    name: String,
    namespace: String,
    children: Children,
    memory: Memory,
    seen: Vec<(ChildKey, Observed)>,
    deleted: Vec<ChildKey>,
    problems: Vec<Problem>,
    rollout: Option<Revisions>,
}

impl Round {
    async fn work(
        &mut self,
        server: &MCPServer,
        settings: &Settings,
        rival: Option<&ObjectId>,
    ) -> Result<(), Failure> {
        let secrets = self.secrets(server).await?;
        match prepare(server, settings, &secrets) {
            Outcome::Ready(prepared) => self.roll_out(server, settings, &prepared, rival).await,
            Outcome::Refused(problem) => {
                self.problems.push(problem);
                self.withdraw(server).await
            }
            // What is there stays: half of a server is worse than the one before.
            Outcome::Invalid(problems) => {
                self.problems.extend(problems);
                Ok(())
            }
        }
    }

    async fn roll_out(
        &mut self,
        server: &MCPServer,
        settings: &Settings,
        prepared: &Prepared,
        rival: Option<&ObjectId>,
    ) -> Result<(), Failure> {
        if let Some(rival) = rival {
            let message = format!("leads where MCPServer {rival} is already; choose another path or host");
            self.problems.push(problem(Severity::Error, "spec.ingressPath", "RouteCollision", message));
        }
        let decision = self.decide(server, prepared);
        self.problems.extend(decision.problems.iter().cloned());
        let stable = self.template(&decision.stable, prepared).await?;
        let canary = decision.canary.as_ref().map(|canary| (&prepared.template, canary.number));
        let (stable_replicas, canary_replicas) = Replicas::of(server, canary.is_some());
        let tracks = Tracks {
            stable: (&stable, decision.stable.number),
            canary,
            owns_stable_replicas: self.owns_replicas(Track::Stable, stable_replicas),
            owns_canary_replicas: self.owns_replicas(Track::Canary, canary_replicas),
            has_place: rival.is_none(),
        };
        let wanted = match objects(server, settings, prepared, &tracks) {
            Ok(wanted) => wanted,
            Err(problem) => {
                self.problems.push(problem);
                return Ok(());
            }
        };
        // Pods change only after it is written down what they ran before.
        self.write(server, prepared, &decision.writes).await?;
        for child in &wanted {
            match self.keep(child).await {
                Err(Failure::Refused(_, _, kube::Error::Api(status)))
                    if status.code == 403 && child.kind() == ChildKind::Secret =>
                {
                    self.miss_pull_secret();
                }
                kept => kept?,
            }
        }
        self.prune(&wanted).await?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.rollout = Some(Revisions {
            stable: Some(number(decision.stable.number)),
            canary: decision.canary.as_ref().map(|canary| number(canary.number)),
            rejected: decision.rejected.map(number),
        });
        Ok(())
    }

    /// Nobody reaches the server; its pods stay as they are.
    async fn withdraw(&mut self, server: &MCPServer) -> Result<(), Failure> {
        self.keep(&withdrawn(server)).await?;
        for kind in [ChildKind::Ingress, ChildKind::Service] {
            self.delete(&(kind, self.name.clone())).await?;
        }
        Ok(())
    }

    async fn secrets(&mut self, server: &MCPServer) -> Result<Secrets, Failure> {
        let content = self.tools.digests.of(&self.tools.client, &self.namespace, &server.spec).await;
        match content.map_err(Failure::Secrets)? {
            Content::None => Ok(Secrets::Unknown),
            Content::Digest(digest) => Ok(Secrets::Known(digest)),
            Content::Unreadable => {
                let message = format!(
                    "names Secrets that the operator may not read, so pods do not restart when their content changes; \
                     bind it the ClusterRole sallyport-secrets in namespace `{}`",
                    self.namespace
                );
                self.problems.push(problem(
                    Severity::Warning,
                    "spec.secretEnvVars",
                    "SecretsUnreadable",
                    message,
                ));
                Ok(self.last_secrets().map_or(Secrets::Unknown, Secrets::Known))
            }
        }
    }

    fn miss_pull_secret(&mut self) {
        let message = format!(
            "asks for a registry whose credentials the operator may not put into namespace `{}`; bind it the ClusterRole \
             sallyport-secrets there, or set spec.imagePullSecrets",
            self.namespace
        );
        self.problems.push(problem(
            Severity::Warning,
            "spec.useProvisionedRegistry",
            "PullSecretForbidden",
            message,
        ));
    }

    /// The digest that pods run with: a right that is withdrawn restarts nothing.
    fn last_secrets(&self) -> Option<String> {
        [Track::Canary, Track::Stable].into_iter().find_map(|track| match self.deployment(track)?.state {
            State::Deployment { ref secrets, .. } => secrets.clone(),
            State::Service(_) | State::Ingress(_) | State::Metadata => None,
        })
    }

    fn deployment(&self, track: Track) -> Option<&Observed> {
        let seen = self.children.get(&(ChildKind::Deployment, names::deployment(&self.name, track)))?;
        (seen.owner.as_deref() == Some(&self.name)).then_some(seen)
    }

    fn owns_replicas(&self, track: Track, wanted: Replicas) -> bool {
        let Some(seen) = self.deployment(track) else {
            return true;
        };
        let actual = match seen.state {
            State::Deployment { replicas, .. } => replicas,
            State::Service(_) | State::Ingress(_) | State::Metadata => None,
        };
        wanted.are_ours(seen.annotation(names::REPLICAS), actual)
    }

    fn decide(&self, server: &MCPServer, prepared: &Prepared) -> Decision {
        let of_server = |seen: &&Observed| seen.owner.as_deref() == Some(&self.name) && !seen.is_going;
        let kept = self.children.iter().filter(|((kind, _), _)| *kind == ChildKind::ControllerRevision);
        let kept: Vec<Revision> = kept
            .filter(|(_, seen)| of_server(seen) && seen.owner_uid == server.metadata.uid)
            .filter_map(|((_, name), seen)| seen.revision(name))
            .collect();
        let annotation = |name: &str| server.metadata.annotations.as_ref()?.get(name).map(String::as_str);
        let strategy = server.spec.rollout.as_ref().map(|rollout| rollout.strategy);
        let wish = Wish {
            server: &self.name,
            hash: &prepared.hash,
            wants_canary: strategy == Some(RolloutStrategy::Canary),
            promote: annotation(names::PROMOTE),
            rollback: annotation(names::ROLLBACK),
        };
        decide(&kept, wish)
    }

    /// The template of a revision: the one that the spec asks for, or a kept one.
    async fn template(&mut self, of: &Revision, prepared: &Prepared) -> Result<Arc<Template>, Failure> {
        if of.hash == prepared.hash {
            return Ok(Arc::new(prepared.template.clone()));
        }
        if let Some(template) = self.memory.templates.get(&of.name) {
            return Ok(template.clone());
        }
        let key = (ChildKind::ControllerRevision, of.name.clone());
        let found = api::revision(&self.tools.client, &self.namespace, &of.name).await;
        let found = found.map_err(|error| Failure::refused(&key, error))?;
        let template = found.data.as_ref().and_then(|data| data.0.pointer("/spec/template").cloned());
        let template = template.and_then(|template| Template::from_json(template).ok());
        let template = Arc::new(template.ok_or_else(|| Failure::NoTemplate(of.name.clone()))?);
        self.memory.templates.insert(of.name.clone(), template.clone());
        Ok(template)
    }

    async fn write(
        &mut self,
        server: &MCPServer,
        prepared: &Prepared,
        writes: &[Write],
    ) -> Result<(), Failure> {
        for write in writes {
            match write {
                Write::Create(of) => {
                    let child = Child::ControllerRevision(revision(server, of, &prepared.template)?);
                    self.apply(&child).await?;
                }
                Write::Update(of) => {
                    let key = (ChildKind::ControllerRevision, of.name.clone());
                    let seen = api::number(&self.tools.client, &self.namespace, of).await;
                    self.seen.push((key.clone(), seen.map_err(|error| Failure::refused(&key, error))?));
                }
                Write::Delete(name) => self.delete(&(ChildKind::ControllerRevision, name.clone())).await?,
            }
        }
        Ok(())
    }

    /// Sees to it that an object is as it is wanted.
    async fn keep(&mut self, child: &Child) -> Result<(), Failure> {
        let key = child.key();
        let taken = || Failure::Taken(key.0.resource().kind, key.1.clone());
        match self.memory.step(&self.name, child, self.children.get(&key))? {
            Step::Nothing => Ok(()),
            Step::Apply => self.apply(child).await,
            Step::Taken => Err(taken()),
            Step::Wait => Err(Failure::Going(key.0.resource().kind, key.1.clone())),
            Step::Look => {
                let found = api::find(&self.tools.client, &self.namespace, &key).await;
                match found.map_err(|error| Failure::refused(&key, error))? {
                    Some(found) if found.owner.as_deref() != Some(&self.name) => Err(taken()),
                    Some(found) if found.is_going => {
                        Err(Failure::Going(key.0.resource().kind, key.1.clone()))
                    }
                    Some(_) | None => self.apply(child).await,
                }
            }
        }
    }

    async fn apply(&mut self, child: &Child) -> Result<(), Failure> {
        let key = child.key();
        let guarded = self.guarded(child);
        let applied =
            api::apply(&self.tools.client, &self.namespace, guarded.as_ref().unwrap_or(child)).await;
        let applied = applied.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 409 && guarded.is_some() => {
                Failure::Stale(key.1.clone())
            }
            error => Failure::refused(&key, error),
        })?;
        let is_watched = key.0 != ChildKind::Secret;
        self.memory.remember(child, is_watched.then_some(&applied))?;
        if is_watched {
            self.seen.push((key.clone(), applied));
        }
        self.tools.metrics.applied.get_or_create(&ObjectLabel { kind: key.0.resource().kind }).inc();
        tracing::debug!(server = %self.name, namespace = self.namespace, kind = ?key.0, name = key.1, "applied");
        Ok(())
    }

    /// A Deployment whose replicas shall stay as they are is applied only as it was seen: an autoscaler may have set others since.
    fn guarded(&self, child: &Child) -> Option<Child> {
        let Child::Deployment(deployment) = child else { return None };
        let seen = self.children.get(&child.key())?;
        let wanted = deployment.metadata.annotations.as_ref()?.get(names::REPLICAS)?;
        let stays =
            seen.annotation(names::REPLICAS) == Some(wanted) && deployment.spec.as_ref()?.replicas.is_some();
        stays.then(|| {
            let mut guarded = deployment.clone();
            guarded.metadata.resource_version = Some(seen.resource_version.clone());
            Child::Deployment(guarded)
        })
    }

    /// Deletes what is the server's and not wanted any more.
    async fn prune(&mut self, wanted: &[Child]) -> Result<(), Failure> {
        let wanted: Vec<ChildKey> = wanted.iter().map(Child::key).collect();
        let is_left = |key: &&ChildKey| key.0 != ChildKind::ControllerRevision && !wanted.contains(key);
        let left: Vec<ChildKey> = self.children.keys().filter(is_left).cloned().collect();
        for key in left {
            self.delete(&key).await?;
        }
        let unseen: Vec<ChildKey> =
            self.memory.unwatched().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in unseen {
            self.delete_unseen(&key).await?;
        }
        Ok(())
    }

    /// Deletes an object that is not watched, if it is still there and the server's.
    async fn delete_unseen(&mut self, key: &ChildKey) -> Result<(), Failure> {
        match api::find(&self.tools.client, &self.namespace, key).await {
            Ok(Some(found)) if found.owner.as_deref() == Some(&self.name) && !found.is_going => {
                self.remove(key, &found.uid).await
            }
            Ok(_) => {
                self.memory.forget(key);
                Ok(())
            }
            // The namespace took the right back: it is its own to delete.
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.memory.forget(key);
                Ok(())
            }
            Err(error) => Err(Failure::refused(key, error)),
        }
    }

    /// Deletes an object, if it is there and the server's.
    async fn delete(&mut self, key: &ChildKey) -> Result<(), Failure> {
        let Some(seen) = self.children.get(key) else {
            return Ok(());
        };
        if seen.owner.as_deref() != Some(&self.name) || seen.is_going {
            return Ok(());
        }
        let uid = seen.uid.clone();
        self.remove(key, &uid).await
    }

    async fn remove(&mut self, key: &ChildKey, uid: &str) -> Result<(), Failure> {
        let deleted = api::delete(&self.tools.client, &self.namespace, key, uid).await;
        deleted.map_err(|error| Failure::refused(key, error))?;
        self.memory.forget(key);
        self.deleted.push(key.clone());
        self.tools.metrics.deleted.get_or_create(&ObjectLabel { kind: key.0.resource().kind }).inc();
        Ok(())
    }
}

fn problem(severity: Severity, path: &str, reason: &'static str, message: String) -> Problem {
    Problem { severity, path: path.into(), reason, message }
}
