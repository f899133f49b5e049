//! What Parquet's reader does with a damaged file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Reads from a file: the reader panics at some damages, which is an error here like any other, told once. What panicked must not
/// be used again.
pub(in crate::audit) fn guarded<T>(read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                before(panic);
            }
        }));
    });
    IS_GUARDED.set(true);
    let answer = catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(false);
    answer.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(anyhow::anyhow!("is damaged: {}", words.unwrap_or("it cannot be read")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_panics_tells_of_damage() {
        let damaged = guarded::<()>(|| panic!("length {}", -1)).unwrap_err();
        assert_eq!(damaged.to_string(), "is damaged: length -1");
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
    }
}
