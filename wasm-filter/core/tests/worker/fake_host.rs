//! A host that does as it is told and writes down what it was asked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sallyport_filter_core::host::{Answer, Host, HostFault, Level, Method, Node};

/// A host call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostCall {
    RequestHeaders,
    RequestBody,
    RemoveHeader,
    Answer,
    OpenStream,
    Send,
    Call,
    Count,
}

/// What all workers of a process share: value and token by key.
pub(crate) type Shared = Rc<RefCell<BTreeMap<String, (Vec<u8>, u32)>>>;

#[derive(Debug, Default)]
pub(crate) struct FakeHost {
    pub(crate) nanos: Cell<u64>,
    pub(crate) node: RefCell<Node>,
    pub(crate) failing: RefCell<BTreeSet<HostCall>>,
    pub(crate) headers: RefCell<Vec<u8>>,
    pub(crate) body: RefCell<Vec<u8>>,
    pub(crate) route: RefCell<String>,
    pub(crate) response_code: Cell<u32>,
    pub(crate) removed: RefCell<Vec<String>>,
    pub(crate) answers: RefCell<Vec<Answer>>,
    pub(crate) shared: Shared,
    pub(crate) streams: RefCell<Vec<u32>>,
    pub(crate) sent: RefCell<Vec<(u32, Vec<u8>)>>,
    pub(crate) closed: RefCell<Vec<u32>>,
    /// Unary calls, by token.
    pub(crate) calls: RefCell<Vec<(u32, Vec<u8>)>>,
    pub(crate) resets: RefCell<Vec<u32>>,
    pub(crate) counters: RefCell<BTreeMap<String, u64>>,
    pub(crate) gauges: RefCell<BTreeMap<String, u64>>,
    next_token: Cell<u32>,
}

impl FakeHost {
    pub(crate) fn fail(&self, call: HostCall) {
        self.failing.borrow_mut().insert(call);
    }

    pub(crate) fn mend(&self) {
        self.failing.borrow_mut().clear();
    }

    fn attempt(&self, call: HostCall) -> Result<(), HostFault> {
        if self.failing.borrow().contains(&call) { Err(HostFault(10)) } else { Ok(()) }
    }

    fn token(&self) -> u32 {
        self.next_token.set(self.next_token.get() + 1);
        self.next_token.get()
    }
}

impl Host for FakeHost {
    fn now_nanos(&self) -> u64 {
        self.nanos.get()
    }

    fn node(&self) -> Node {
        self.node.borrow().clone()
    }

    fn request_headers(&self) -> Result<Vec<u8>, HostFault> {
        self.attempt(HostCall::RequestHeaders)?;
        Ok(self.headers.borrow().clone())
    }

    fn request_body(&self, size: usize) -> Result<Vec<u8>, HostFault> {
        self.attempt(HostCall::RequestBody)?;
        assert_eq!(size, self.body.borrow().len());
        Ok(self.body.borrow().clone())
    }

    fn route(&self) -> String {
        self.route.borrow().clone()
    }

    fn remove_request_header(&self, name: &str) -> Result<(), HostFault> {
        self.attempt(HostCall::RemoveHeader)?;
        self.removed.borrow_mut().push(name.into());
        Ok(())
    }

    fn answer(&self, answer: &Answer) -> Result<(), HostFault> {
        self.attempt(HostCall::Answer)?;
        self.response_code.set(answer.status.into());
        self.answers.borrow_mut().push(answer.clone());
        Ok(())
    }

    fn response_code(&self) -> u32 {
        self.response_code.get()
    }

    fn response_bytes(&self) -> u64 {
        0
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        self.shared.borrow().get(key).cloned()
    }

    fn share(&self, key: &str, value: &[u8], token: u32) -> bool {
        let mut shared = self.shared.borrow_mut();
        let current = shared.get(key).map_or(0, |(_, token)| *token);
        let fits = token == 0 || token == current;
        if fits {
            shared.insert(key.into(), (value.to_vec(), current + 1));
        }
        fits
    }

    fn open_stream(&self, _: Method<'_>) -> Result<u32, HostFault> {
        self.attempt(HostCall::OpenStream)?;
        let token = self.token();
        self.streams.borrow_mut().push(token);
        Ok(token)
    }

    fn send(&self, stream: u32, message: &[u8]) -> Result<(), HostFault> {
        self.attempt(HostCall::Send)?;
        self.sent.borrow_mut().push((stream, message.to_vec()));
        Ok(())
    }

    fn close_stream(&self, _: u32, stream: u32) {
        self.closed.borrow_mut().push(stream);
    }

    fn call(&self, _: Method<'_>, message: &[u8]) -> Result<u32, HostFault> {
        self.attempt(HostCall::Call)?;
        let token = self.token();
        self.calls.borrow_mut().push((token, message.to_vec()));
        Ok(token)
    }

    fn reset_exchange(&self, exchange: u32) -> Result<(), HostFault> {
        self.resets.borrow_mut().push(exchange);
        Ok(())
    }

    fn count(&self, name: &str, add: u64) -> Result<(), HostFault> {
        self.attempt(HostCall::Count)?;
        *self.counters.borrow_mut().entry(name.into()).or_default() += add;
        Ok(())
    }

    fn gauge(&self, name: &str, value: u64) -> Result<(), HostFault> {
        self.gauges.borrow_mut().insert(name.into(), value);
        Ok(())
    }

    fn log(&self, _: Level, _: &str) {}
}
