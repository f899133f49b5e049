//! The processor alone, for benchmarks.
use clap::Parser;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: sallyport_processor::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    sallyport_processor::run(Command::parse().args, CancellationToken::new()).await
}
