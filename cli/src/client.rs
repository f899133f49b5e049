//! The control API, as a client.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

const CONNECT: Duration = Duration::from_secs(3);
/// A revocation waits for every filter's acknowledgement.
const ANSWER: Duration = Duration::from_secs(90);

/// What follows events goes on for as long as it likes.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Where the control API is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// Folder of a running `sallyport up`, which knows address and key.
    #[arg(long, env = "SALLYPORT_DATA", default_value = ".sallyport")]
    data: PathBuf,
    /// Address of the control API; by default what the data folder says.
    #[arg(long, env = "SALLYPORT_API")]
    api: Option<String>,
    /// File with the API key; by default what the data folder says.
    #[arg(long, env = "SALLYPORT_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
}

/// A client of the control API.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    key: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let run = args.data.join("run.json");
        let base = match &args.api {
            Some(api) => api.trim_end_matches('/').to_string(),
            None => {
                let text = std::fs::read_to_string(&run).with_context(|| {
                    format!(
                        "nothing runs from {}: start `sallyport up`, or give --data or --api",
                        args.data.display()
                    )
                })?;
                let run: Value =
                    serde_json::from_str(&text).with_context(|| format!("{} is damaged", run.display()))?;
                format!("http://{}", run.get("api").and_then(Value::as_str).unwrap_or_default())
            }
        };
        let key_file = args.api_key_file.clone().unwrap_or_else(|| args.data.join("api-key"));
        let key = std::fs::read_to_string(&key_file)
            .with_context(|| format!("cannot read the API key in {}", key_file.display()))?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT).timeout(ANSWER).build()?;
        Ok(Self { base, key: key.trim().to_string(), http })
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let url =
            reqwest::Url::parse_with_params(&self.url(path), query).context("address of the control API")?;
        self.send(self.http.get(url)).await
    }

    /// A stream of server-sent events, from where a client was.
    pub(crate) async fn stream(
        &self,
        path: &str,
        query: &[(&str, &str)],
        last: Option<&str>,
    ) -> anyhow::Result<reqwest::Response> {
        let url =
            reqwest::Url::parse_with_params(&self.url(path), query).context("address of the control API")?;
        let mut request = self.http.get(url).timeout(FOREVER);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = self.ask(request).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.http.post(self.url(path));
        self.send(if let Some(body) = body { request.json(body) } else { request }).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let answer = self.ask(request).await?;
        if answer.status().is_success() {
            return Ok(answer.json().await.unwrap_or(Value::Null));
        }
        Err(refusal(answer).await)
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let unreachable =
            || format!("control API at {} cannot be reached; is `sallyport up` running?", self.base);
        request.header("x-api-key", &self.key).send().await.with_context(unreachable)
    }
}

/// What the API answered in place of what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({status})")]
struct Refusal {
    message: String,
    status: reqwest::StatusCode,
}

async fn refusal(answer: reqwest::Response) -> anyhow::Error {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or(Value::Null);
    let message = body.get("message").and_then(Value::as_str).unwrap_or("no reason given").to_string();
    Refusal { message, status }.into()
}

/// Whether the same may succeed later: the API cannot be reached, or is unavailable.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_none_or(|refusal| refusal.status.is_server_error())
}
