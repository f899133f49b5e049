//! Which source feeds the control plane.

use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::{kubernetes, standalone};

/// Runs the control plane until `shutdown`.
///
/// # Errors
/// The source, a credential or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    if args.kubernetes {
        kubernetes::run(args, shutdown).await
    } else {
        standalone::run(args, shutdown).await
    }
}
