//! The callbacks that Envoy makes, handed on to the worker's state.

use std::cell::RefCell;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use sallyport_filter_core::{Flow, Worker};

use crate::host::EnvoyHost;
use crate::imports;

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new(imports::now_nanos()));
}

/// Runs `event` on the worker's state. While another event of this worker is being handled nothing runs: the host
/// does not nest events, and where a future one would, a request is refused rather than let through.
fn with_worker<T>(event: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    WORKER.with(|worker| worker.try_borrow_mut().ok().map(|mut worker| event(&mut worker)))
}

/// One configuration of the plugin on this worker.
#[derive(Debug)]
pub(crate) struct Root {
    id: u32,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self { id }
    }
}

impl Context for Root {
    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        let Ok(message) = imports::grpc_message(size) else {
            return;
        };
        with_worker(|worker| worker.on_stream_message(token, &message, &EnvoyHost { context: self.id }));
    }

    fn on_grpc_stream_close(&mut self, token: u32, _status: u32) {
        with_worker(|worker| worker.on_stream_closed(token, &EnvoyHost { context: self.id }));
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, _size: usize) {
        with_worker(|worker| worker.on_call_ended(token, status == 0, &EnvoyHost { context: self.id }));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let Ok(bytes) = imports::plugin_configuration(size) else {
            return false;
        };
        let configured =
            with_worker(|worker| worker.configure(self.id, &bytes, &EnvoyHost { context: self.id }));
        matches!(configured, Some(Ok(tick_millis)) if imports::set_tick(tick_millis).is_ok())
    }

    fn on_tick(&mut self) {
        with_worker(|worker| worker.on_tick(self.id, &EnvoyHost { context: self.id }));
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { id }))
    }
}

/// One HTTP exchange; what is known of it lives in the worker's state.
#[derive(Debug)]
struct Exchange {
    id: u32,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        if end_of_stream { self.judge(0) } else { Action::Pause }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if end_of_stream { self.judge(size) } else { Action::Pause }
    }

    fn on_log(&mut self) {
        with_worker(|worker| worker.on_log(self.id, &EnvoyHost { context: self.id }));
    }
}

impl Exchange {
    fn judge(&self, body_size: usize) -> Action {
        match with_worker(|worker| worker.on_request(self.id, body_size, &EnvoyHost { context: self.id })) {
            Some(Flow::Forward) => Action::Continue,
            // Answered, or undecidable: nothing goes on to the upstream.
            Some(Flow::Stop) | None => Action::Pause,
        }
    }
}
