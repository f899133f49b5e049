//! The module: compiled once, run as often as wanted, each callback measured.

use std::path::Path;

use wasmtime::error::Context;
use wasmtime::{
    Config, Engine, Instance, InstancePre, Linker, Module, Result, Store, WasmParams, WasmResults,
};

use crate::abi;
use crate::profile;
use crate::proxy::Proxy;

/// Where `make wasm` puts the module.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm/sallyport_filter.wasm");
/// More than any callback uses; what is used is seen as the difference.
const FUEL: u64 = u64::MAX / 2;

/// What a callback cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Wasm instructions that were run; the same on every machine.
    pub fuel: u64,
    /// Calls on the host.
    pub host_calls: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.host_calls = self.host_calls.saturating_add(other.host_calls);
    }
}

/// What is counted while the module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Instructions of each callback.
    Callbacks,
    /// Instructions of each function as well; slow.
    Functions,
}

/// The compiled module.
pub struct Filter {
    engine: Engine,
    instance: InstancePre<Proxy>,
    count: Count,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

impl Filter {
    /// The module that `make wasm` built.
    ///
    /// # Errors
    /// It is not there, or is no module for this host.
    pub fn built(count: Count) -> Result<Self> {
        Self::load(Path::new(BUILT), count)
    }

    /// The module at `path`.
    ///
    /// # Errors
    /// It is not there, or is no module for this host.
    pub fn load(path: &Path, count: Count) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| {
            format!("the filter's module {} cannot be read; run `make wasm`", path.display())
        })?;
        let mut config = Config::new();
        config.consume_fuel(true);
        config.epoch_interruption(count == Count::Functions);
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, bytes)?;
        let mut linker = Linker::new(&engine);
        abi::link(&mut linker)?;
        Ok(Self { instance: linker.instantiate_pre(&module)?, engine, count })
    }

    /// A VM of it, begun at `now_nanos` since 1970.
    ///
    /// # Errors
    /// The module traps as it starts.
    pub fn start(&self, now_nanos: u64) -> Result<Vm> {
        let mut store = Store::new(&self.engine, Proxy::new(now_nanos));
        store.set_fuel(FUEL)?;
        if self.count == Count::Functions {
            profile::watch(&mut store);
        }
        let instance = self.instance.instantiate(&mut store)?;
        Ok(Vm { store, instance })
    }
}

/// A running module and the proxy around it.
pub struct Vm {
    store: Store<Proxy>,
    instance: Instance,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("proxy", self.store.data()).finish_non_exhaustive()
    }
}

impl Vm {
    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        self.store.data()
    }

    /// The proxy, to be changed.
    pub fn proxy_mut(&mut self) -> &mut Proxy {
        self.store.data_mut()
    }

    /// Memory of the VM, in bytes.
    pub fn memory_bytes(&mut self) -> usize {
        self.instance.get_memory(&mut self.store, "memory").map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Makes a callback about `context`, if the module has it; answers with what it gave back and what it cost.
    ///
    /// # Errors
    /// The module trapped.
    pub fn callback<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        name: &str,
        arguments: P,
    ) -> Result<(Option<R>, Cost)> {
        self.store.data_mut().effective_context = context;
        if self.instance.get_func(&mut self.store, name).is_none() {
            return Ok((None, Cost::default()));
        }
        let calls_before = self.host_calls();
        self.store.set_fuel(FUEL)?;
        let result = self.call(name, arguments)?;
        let left = self.store.get_fuel()?;
        self.store.data_mut().profile.settle(left);
        let fuel = FUEL.saturating_sub(left);
        let host_calls = self.host_calls().saturating_sub(calls_before);
        Ok((Some(result), Cost { fuel, host_calls }))
    }

    fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, arguments: P) -> Result<R> {
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, name)?;
        function.call(&mut self.store, arguments)
    }

    fn host_calls(&self) -> u64 {
        self.store.data().host_calls.values().sum()
    }
}
