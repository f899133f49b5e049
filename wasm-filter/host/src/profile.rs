//! Which functions of the module the instructions are run in.
//!
//! The host is told of every function that begins. What is run from there until the next one begins counts for the
//! function: its caller's instructions between two calls count for the first of them.

use std::collections::BTreeMap;

use wasmtime::{Result, Store, StoreContextMut, UpdateDeadline, WasmBacktrace};

use crate::proxy::Proxy;

/// Instructions by function.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    functions: BTreeMap<String, Entry>,
    /// The function that began last, and the fuel that was left then.
    last: Option<(String, u64)>,
}

/// One function's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Instructions.
    pub fuel: u64,
    /// How often the function began, and how often a loop of it did.
    pub begun: u64,
}

impl Profile {
    /// Functions with their shares, the largest first.
    pub fn functions(&self) -> Vec<(&str, Entry)> {
        let mut functions: Vec<_> =
            self.functions.iter().map(|(name, entry)| (name.as_str(), *entry)).collect();
        functions.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.fuel));
        functions
    }

    /// Forgets what was counted.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The callback that is being counted has ended with this fuel left.
    pub(crate) fn settle(&mut self, fuel: u64) {
        if let Some((name, before)) = self.last.take() {
            let entry = self.functions.entry(name).or_default();
            entry.fuel = entry.fuel.saturating_add(before.saturating_sub(fuel));
            entry.begun = entry.begun.saturating_add(1);
        }
    }
}

/// Has `store` tell its proxy's profile of every function that begins.
pub(crate) fn watch(store: &mut Store<Proxy>) {
    // A deadline that has always passed: the host is asked at every function's beginning and in every loop.
    store.set_epoch_deadline(0);
    store.epoch_deadline_callback(|mut store: StoreContextMut<'_, Proxy>| -> Result<UpdateDeadline> {
        let fuel = store.get_fuel()?;
        let backtrace = WasmBacktrace::capture(&store);
        let name = backtrace.frames().first().and_then(|frame| frame.func_name()).unwrap_or("unknown");
        let name = name.to_owned();
        let profile = &mut store.data_mut().profile;
        profile.settle(fuel);
        profile.last = Some((name, fuel));
        Ok(UpdateDeadline::Continue(0))
    });
}
