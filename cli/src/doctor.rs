//! `sallyport doctor`: what is wrong with an installation, and what to do about it.
//!
//! Each check reads the cluster and decides by a pure function; none changes anything. What cannot be read for want of a
//! permission is a warning, not a finding of health.

mod cluster;
mod control_plane;
mod gateways;
mod permissions;

use std::process::ExitCode;

use serde::Serialize;

use crate::commands::say;
use crate::install::KubeArgs;

/// The namespace that everything is installed in.
const NAMESPACE: &str = "sallyport-system";
/// Clocks that differ by more than this are told, in seconds.
const SKEW: i64 = 5;

/// Flags of `sallyport doctor`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kube: KubeArgs,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// All is well.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It does not work.
    Failure,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// A stable word for what was looked at.
    check: &'static str,
    severity: Severity,
    message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, message: message.into(), remedy: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn failure(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Failure, message: message.into(), remedy: Some(remedy.into()) }
    }

    /// A check that could not look.
    fn blind(check: &'static str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => Self::warning(
                check,
                format!("cannot be looked at: {}", status.message),
                "run this with the rights of an administrator of the cluster",
            ),
            error => Self::failure(
                check,
                format!("cannot be looked at: {error}"),
                "see that the API server answers, and try again",
            ),
        }
    }
}

/// Looks at everything; ends with failure if anything does not work.
pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let client = args.kube.client().await?;
    let findings = examine(&client).await;
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    if args.json {
        let report = serde_json::json!({ "ok": worst != Severity::Failure, "findings": findings });
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        findings.iter().flat_map(lines).for_each(|line| say(&line));
    }
    Ok(if worst == Severity::Failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(client: &kube::Client) -> Vec<Finding> {
    let version = cluster::api_server(client).await;
    if version.severity == Severity::Failure {
        // Nothing else can be looked at.
        return vec![version];
    }
    let mut findings = vec![version];
    findings.extend(cluster::check(client).await);
    findings.extend(permissions::check(client).await);
    findings.extend(control_plane::check(client).await);
    findings.extend(gateways::check(client).await);
    findings
}

fn lines(finding: &Finding) -> Vec<String> {
    let word = match finding.severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Failure => "FAILURE",
    };
    let mut lines = vec![format!("{word:<8} {:<14} {}", finding.check, finding.message)];
    lines.extend(finding.remedy.as_ref().map(|remedy| format!("{:<24}-> {remedy}", "")));
    lines
}

/// A list of names that stays readable.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests;
