//! `sallyport audit tail`.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;

use super::sse::{Message, Reader};
use crate::client::{ApiArgs, Client};
use crate::commands::{say_error, told};

/// The API gives a sign of life several times within this.
const SILENCE: Duration = Duration::from_secs(60);
/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// Goes on with each event as it is stored, until it is stopped.
    #[arg(long, short)]
    follow: bool,
    /// How many of the events that are there already, at most 1000.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    limit: u32,
    /// `text`: an event on a line. `json`: whole envelopes, one per line.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Which events.
#[derive(Debug, clap::Args)]
struct Filters {
    /// Only `allow` or `deny`.
    #[arg(long)]
    decision: Option<String>,
    /// Only for this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only of the server of this name.
    #[arg(long)]
    server: Option<String>,
    /// Only of servers of this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Only of servers of this team.
    #[arg(long)]
    team: Option<String>,
    /// Only of this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only of this person.
    #[arg(long)]
    human: Option<String>,
    /// Only of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// Only with this session.
    #[arg(long)]
    session: Option<String>,
    /// Only of this tool.
    #[arg(long)]
    tool: Option<String>,
    /// Only of this method, as `tools/call`.
    #[arg(long)]
    method: Option<String>,
    /// Only of this trace.
    #[arg(long)]
    trace: Option<String>,
    /// Only of this source, as `payments-gateway`.
    #[arg(long)]
    source: Option<String>,
    /// Only of this type, as `mcp.request` or `audit.gap`.
    #[arg(long)]
    event_type: Option<String>,
}

impl Filters {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("decision", &self.decision),
            ("reason", &self.reason),
            ("server", &self.server),
            ("namespace", &self.namespace),
            ("team_id", &self.team),
            ("cluster", &self.cluster),
            ("human_id", &self.human),
            ("agent_id", &self.agent),
            ("session_id", &self.session),
            ("tool_name", &self.tool),
            ("rpc_method", &self.method),
            ("trace_id", &self.trace),
            ("source", &self.source),
            ("event_type", &self.event_type),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

/// Whoever reads what is printed is gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads any more")]
struct Unread;

pub(super) async fn run(args: &TailArgs) -> anyhow::Result<()> {
    match tail(args).await {
        Err(error) if error.is::<Unread>() => Ok(()),
        result => result,
    }
}

async fn tail(args: &TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.api)?;
    if !args.follow {
        for event in newest(&client, args).await? {
            put(&event, args.output)?;
        }
        return Ok(());
    }
    let mut following = Following { client: &client, args, position: None, known: BTreeSet::new() };
    // Opened before the newest are asked for, so that no event falls between the two.
    let mut stream = following.open().await?;
    for event in newest(&client, args).await? {
        put(&event, args.output)?;
        following.known.insert(event.to_string());
    }
    loop {
        let error = match following.read(&mut stream).await {
            Ok(why) => why,
            Err(error) => return Err(error),
        };
        say_error(&format!("sallyport: {error}; going on where it ended"));
        stream = following.reopen().await?;
    }
}

/// The newest events, oldest first.
async fn newest(client: &Client, args: &TailArgs) -> anyhow::Result<Vec<Value>> {
    if args.limit == 0 {
        return Ok(Vec::new());
    }
    let limit = args.limit.to_string();
    let mut query = args.filters.query();
    query.push(("limit", &limit));
    let page = client.get("events/filter", &query).await?;
    let mut events = page.get("events").and_then(Value::as_array).cloned().unwrap_or_default();
    events.reverse();
    Ok(events)
}

struct Following<'a> {
    client: &'a Client,
    args: &'a TailArgs,
    /// Where to go on.
    position: Option<String>,
    /// Printed before the stream told of them.
    known: BTreeSet<String>,
}

impl Following<'_> {
    async fn open(&self) -> anyhow::Result<reqwest::Response> {
        let query = self.args.filters.query();
        self.client.stream("events/stream", &query, self.position.as_deref()).await
    }

    async fn reopen(&self) -> anyhow::Result<reqwest::Response> {
        loop {
            tokio::time::sleep(PAUSE).await;
            match self.open().await {
                Ok(stream) => return Ok(stream),
                // The API is being started again, or has no room.
                Err(error) if crate::client::is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Prints what comes, until the stream ends; answers with why it did.
    async fn read(&mut self, stream: &mut reqwest::Response) -> anyhow::Result<String> {
        let mut reader = Reader::default();
        let mut told = None;
        loop {
            let chunk = match tokio::time::timeout(SILENCE, stream.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(told.unwrap_or_else(|| "the stream has ended".into())),
                Ok(Err(_)) => return Ok("the stream broke".into()),
                Err(_) => return Ok("the stream is silent".into()),
            };
            for Message { id, data, comment } in reader.take(&chunk) {
                if let Some(data) = data.filter(|data| !self.known.remove(data)) {
                    let event = serde_json::from_str(&data).context("an event that is no JSON")?;
                    put(&event, self.args.output)?;
                }
                self.position = id.or_else(|| self.position.take());
                told = comment.filter(|comment| comment.starts_with("cut"));
            }
        }
    }
}

fn put(event: &Value, output: Output) -> Result<(), Unread> {
    let line = match output {
        Output::Text => told(event),
        Output::Json => event.to_string(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| Unread)
}
