//! Looks after what the replica that leads writes, and every one reads.

use std::error::Error;
use std::time::Duration;

use tokio::sync::watch;

/// Pause between two looks, and as long as something is missing.
pub(crate) const LOOK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Calls `look` for ever, also at once when this replica begins or ceases to lead, which `look` is told. `fault` says what is
/// wrong where it fails.
pub(crate) async fn look_after<E: Error + 'static, F: Future<Output = Result<(), E>>>(
    fault: &'static str,
    mut leader: watch::Receiver<bool>,
    look: impl Fn(bool) -> F,
) {
    let mut told = String::new();
    loop {
        let leads = *leader.borrow_and_update();
        let pause = match look(leads).await {
            Ok(()) => {
                told.clear();
                LOOK
            }
            Err(error) => {
                let text = error_text(&error);
                if text != told {
                    tracing::warn!(error = text, "{fault}");
                    told = text;
                }
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = leader.changed() => if changed.is_err() {
                // Nobody tells any more who leads.
                tokio::time::sleep(pause).await;
            },
        }
    }
}

/// An error with its causes.
fn error_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
