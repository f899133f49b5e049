//! The command `sallyport`.

mod args;
mod check;
mod client;
mod commands;
mod up;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match commands::run(args::Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            commands::say_error(&format!("sallyport: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
