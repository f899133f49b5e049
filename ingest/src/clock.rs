//! Two clocks: one tells the time of what is written down, the other never jumps and tells how long a proxy is silent.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

/// Nanoseconds since 1970, as the machine's clock has it: it may be set, forwards and back.
pub(crate) fn now() -> u64 {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |duration| duration.as_nanos());
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970 as they passed since this process first asked: setting the machine's clock does not change them.
pub(crate) fn steady() -> u64 {
    static BEGAN: OnceLock<(u64, Instant)> = OnceLock::new();
    let (began, instant) = BEGAN.get_or_init(|| (now(), Instant::now()));
    began.saturating_add(u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// What the machine's clock shows now for a moment of the steady one.
pub(crate) fn shown(steady_nanos: u64) -> u64 {
    now().saturating_sub(steady().saturating_sub(steady_nanos))
}
