//! The command `sallyport`.

mod args;
mod audit;
mod check;
mod client;
mod commands;
mod doctor;
mod install;
mod rollout;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// It gives memory back, and keeps an account by caller for who asks for profiles.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Work in the background may take so long to come to its end.
const LEAVE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let command = args::Cli::parse().command;
    let result = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(commands::run(command));
        runtime.shutdown_timeout(LEAVE);
        result
    });
    result.unwrap_or_else(|error| {
        commands::say_error(&format!("sallyport: {error:#}"));
        ExitCode::FAILURE
    })
}
