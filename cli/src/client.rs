//! The control API, as a client.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

const CONNECT: Duration = Duration::from_secs(3);
/// A revocation waits for every filter's acknowledgement.
const ANSWER: Duration = Duration::from_secs(90);

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

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.http.post(self.url(path));
        self.send(if let Some(body) = body { request.json(body) } else { request }).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let unreachable =
            || format!("control API at {} cannot be reached; is `sallyport up` running?", self.base);
        let answer = request.header("x-api-key", &self.key).send().await.with_context(unreachable)?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        let message = body.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        anyhow::bail!("{message} ({status})")
    }
}
