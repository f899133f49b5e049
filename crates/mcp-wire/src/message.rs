//! One JSON-RPC message of MCP, read from its bytes.

use alloc::vec::Vec;

use crate::fault::{Fault, Rejection};
use crate::fold::{is_meta_lookalike, is_params_lookalike};
use crate::json::{Reader, Scratch};
use crate::method::Method;
use crate::text::Text;

/// Caps; beyond one the message is refused.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the body.
    pub max_bytes: usize,
    /// Levels of nesting; the message itself is the first.
    pub max_depth: usize,
    /// Bytes of any string, as it stands in the body.
    pub max_string: usize,
    /// Bytes of an id, as it stands in the body.
    pub max_id: usize,
    /// Bytes of a tool or prompt name.
    pub max_name: usize,
    /// Bytes of a resource URI.
    pub max_uri: usize,
    /// URIs that one request subscribes to.
    pub max_subscriptions: usize,
    /// Bytes of a method's name.
    pub max_method: usize,
    /// Keys of all objects together.
    pub max_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_depth: 64,
            max_string: 1 << 20,
            max_id: 256,
            max_name: 128,
            max_uri: 2048,
            max_subscriptions: 64,
            max_method: 64,
            max_keys: 100_000,
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It wants an answer.
    Request,
    /// It wants none.
    Notification,
    /// It answers a request of the server.
    Response,
}

/// What `completion/complete` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A prompt, by name.
    Prompt(Text<'a>),
    /// A resource, by URI or template.
    Resource(Text<'a>),
}

/// What a decision, an answer and a record need of a message. Spans are parts of the body.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Request, notification or response.
    pub kind: Kind,
    /// The method; of a response [`Method::Unknown`].
    pub method: Method,
    /// Its name as sent; empty for a response.
    pub method_name: Text<'a>,
    /// The id, as JSON text.
    pub id: Option<&'a str>,
    /// `params.name`.
    pub name: Option<Text<'a>>,
    /// `params.uri`.
    pub uri: Option<Text<'a>>,
    /// `params.taskId`.
    pub task_id: Option<Text<'a>>,
    /// `params.arguments`, as JSON text.
    pub arguments: Option<&'a str>,
    /// `params.protocolVersion`, which `initialize` proposes.
    pub proposed_version: Option<Text<'a>>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`.
    pub meta_version: Option<Text<'a>>,
    /// `params._meta["io.modelcontextprotocol/clientCapabilities"]` is an object.
    pub has_client_capabilities: bool,
    /// `params._meta.progressToken`, as JSON text.
    pub progress_token: Option<&'a str>,
    /// `params.ref`.
    pub reference: Option<Reference<'a>>,
    /// `params.notifications.resourceSubscriptions`.
    pub subscriptions: Vec<Text<'a>>,
    /// `params.requestId`, as JSON text.
    pub cancelled_id: Option<&'a str>,
    /// `params.task` is there: the call is to run as a task.
    pub as_task: bool,
    /// `params.inputResponses` or `params.requestState` is there: a retry with answers.
    pub is_retry: bool,
}

/// Reads a message from a whole body.
///
/// # Errors
/// What it asks cannot be known for sure; see [`Fault`].
pub fn read<'a>(
    body: &'a [u8],
    limits: &Limits,
    scratch: &mut Scratch,
) -> Result<Message<'a>, Rejection<'a>> {
    let refuse = |fault| Rejection { fault, id: None, at: 0 };
    if body.len() > limits.max_bytes {
        return Err(refuse(Fault::BodyTooLarge));
    }
    let text = core::str::from_utf8(body).map_err(|error| Rejection {
        fault: Fault::BodyNotUtf8,
        id: None,
        at: error.valid_up_to(),
    })?;
    if text.starts_with('\u{feff}') {
        return Err(refuse(Fault::BodyNotUtf8));
    }
    let mut reader = Reader::new(text, limits, scratch);
    let mut parts = Parts::default();
    let message = parts.read(&mut reader, limits).and_then(|()| parts.build(limits));
    message.map_err(|fault| Rejection { fault, id: parts.id, at: reader.at() })
}

/// A member whose type only its method can judge.
#[derive(Debug, Default)]
enum Member<'a> {
    #[default]
    Absent,
    Text(Text<'a>),
    Other,
}

impl<'a> Member<'a> {
    fn read(reader: &mut Reader<'a, '_>) -> Result<Self, Fault> {
        if reader.peek() == Some(b'"') {
            return reader.string().map(Self::Text);
        }
        reader.skip(PARAMS_DEPTH)?;
        Ok(Self::Other)
    }

    fn text(&mut self) -> Option<Text<'a>> {
        match core::mem::take(self) {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Other => None,
        }
    }
}

/// Nesting of a container that is a member of `params`; the message is 1, `params` 2.
const PARAMS_DEPTH: usize = 3;

/// The members as they stand, in whatever order they come.
#[derive(Debug, Default)]
struct Parts<'a> {
    jsonrpc: bool,
    id: Option<&'a str>,
    method: Option<Text<'a>>,
    has_result: bool,
    has_error: bool,
    name: Member<'a>,
    uri: Member<'a>,
    task_id: Member<'a>,
    arguments: Option<&'a str>,
    proposed_version: Member<'a>,
    meta_version: Option<Text<'a>>,
    has_client_capabilities: bool,
    progress_token: Option<&'a str>,
    reference_type: Member<'a>,
    reference_name: Member<'a>,
    reference_uri: Member<'a>,
    subscriptions: Vec<Text<'a>>,
    cancelled_id: Option<&'a str>,
    as_task: bool,
    is_retry: bool,
}

impl<'a> Parts<'a> {
    fn read(&mut self, reader: &mut Reader<'a, '_>, limits: &Limits) -> Result<(), Fault> {
        reader.skip_space();
        match reader.peek() {
            Some(b'{') => {}
            Some(b'[') => return Err(Fault::Batch),
            _ => {
                reader.skip(1)?;
                reader.end()?;
                return Err(Fault::NotAnObject);
            }
        }
        // A member that is wrong in itself is told only when the whole body was read, so that the answer can carry
        // the request's id wherever that stands.
        let mut late = None;
        reader.object(1, |reader, key| match key.as_str() {
            "jsonrpc" => {
                let version = Member::read(reader)?;
                self.jsonrpc = matches!(&version, Member::Text(text) if text.as_str() == "2.0");
                Ok(())
            }
            "id" => {
                let (id, valid) = read_id(reader, limits)?;
                self.id = Some(id).filter(|_| valid);
                late = late.or((!valid).then_some(Fault::InvalidId));
                Ok(())
            }
            "method" => {
                let method = Member::read(reader)?;
                if let Member::Text(name) = method {
                    late = late.or((name.as_str().len() > limits.max_method).then_some(Fault::InvalidShape));
                    self.method = Some(name);
                } else {
                    late = late.or(Some(Fault::InvalidShape));
                }
                Ok(())
            }
            "params" if reader.peek() == Some(b'{') => self.read_params(reader),
            "params" => {
                late = late.or(Some(Fault::InvalidParams));
                reader.skip(2)
            }
            "result" => {
                self.has_result = true;
                reader.skip(2)
            }
            "error" => {
                self.has_error = true;
                reader.skip(2)
            }
            _ => {
                late = late.or(Some(Fault::UnknownMember));
                reader.skip(2)
            }
        })?;
        reader.end()?;
        late.map_or(Ok(()), Err)
    }

    fn read_params(&mut self, reader: &mut Reader<'a, '_>) -> Result<(), Fault> {
        reader.object(2, |reader, key| {
            match key.as_str() {
                "name" => self.name = Member::read(reader)?,
                "uri" => self.uri = Member::read(reader)?,
                "taskId" => self.task_id = Member::read(reader)?,
                "protocolVersion" => self.proposed_version = Member::read(reader)?,
                "arguments" => self.arguments = Some(span(reader)?),
                "requestId" => self.cancelled_id = Some(span(reader)?),
                "task" => {
                    self.as_task = true;
                    reader.skip(PARAMS_DEPTH)?;
                }
                "inputResponses" | "requestState" => {
                    self.is_retry = true;
                    reader.skip(PARAMS_DEPTH)?;
                }
                "_meta" => self.read_meta(reader)?,
                "ref" if reader.peek() == Some(b'{') => self.read_reference(reader)?,
                "notifications" if reader.peek() == Some(b'{') => self.read_subscriptions(reader)?,
                other if is_params_lookalike(other) => return Err(Fault::LookalikeKey),
                _ => reader.skip(PARAMS_DEPTH)?,
            }
            Ok(())
        })
    }

    fn read_meta(&mut self, reader: &mut Reader<'a, '_>) -> Result<(), Fault> {
        if reader.peek() != Some(b'{') {
            return Err(Fault::InvalidParams);
        }
        reader.object(PARAMS_DEPTH, |reader, key| {
            match key.as_str() {
                "io.modelcontextprotocol/protocolVersion" => {
                    self.meta_version = match Member::read(reader)? {
                        Member::Text(version) => Some(version),
                        Member::Absent | Member::Other => return Err(Fault::MissingMeta),
                    };
                }
                "io.modelcontextprotocol/clientCapabilities" => {
                    self.has_client_capabilities = reader.peek() == Some(b'{');
                    reader.skip(PARAMS_DEPTH.saturating_add(1))?;
                }
                "progressToken" => self.progress_token = Some(span(reader)?),
                other if is_meta_lookalike(other) => return Err(Fault::LookalikeKey),
                _ => reader.skip(PARAMS_DEPTH.saturating_add(1))?,
            }
            Ok(())
        })
    }

    fn read_reference(&mut self, reader: &mut Reader<'a, '_>) -> Result<(), Fault> {
        reader.object(PARAMS_DEPTH, |reader, key| {
            match key.as_str() {
                "type" => self.reference_type = Member::read(reader)?,
                "name" => self.reference_name = Member::read(reader)?,
                "uri" => self.reference_uri = Member::read(reader)?,
                other if is_params_lookalike(other) => return Err(Fault::LookalikeKey),
                _ => reader.skip(PARAMS_DEPTH.saturating_add(1))?,
            }
            Ok(())
        })
    }

    fn read_subscriptions(&mut self, reader: &mut Reader<'a, '_>) -> Result<(), Fault> {
        let depth = PARAMS_DEPTH.saturating_add(1);
        reader.object(PARAMS_DEPTH, |reader, key| match key.as_str() {
            "resourceSubscriptions" if reader.peek() == Some(b'[') => reader.array(depth, |reader| {
                let uri = reader.string().map_err(|_| Fault::InvalidParams)?;
                self.subscriptions.push(uri);
                Ok(())
            }),
            "resourceSubscriptions" => Err(Fault::InvalidParams),
            other if is_params_lookalike(other) => Err(Fault::LookalikeKey),
            _ => reader.skip(depth),
        })
    }

    fn build(&mut self, limits: &Limits) -> Result<Message<'a>, Fault> {
        if !self.jsonrpc {
            return Err(Fault::InvalidVersionMember);
        }
        let kind = self.kind()?;
        let method_name = self.method.take().unwrap_or(Text::Plain(""));
        let method = Method::of(method_name.as_str());
        match (kind, method) {
            (Kind::Response, _) | (_, Method::Unknown) => {}
            (Kind::Notification, known) if !known.is_notification() => return Err(Fault::NotANotification),
            (Kind::Request, known) if known.is_notification() => return Err(Fault::InvalidShape),
            (Kind::Request | Kind::Notification, _) => {}
        }
        let reference = self.reference(method, limits)?;
        self.check_params(method, limits)?;
        Ok(Message {
            kind,
            method,
            method_name,
            id: self.id,
            name: self.name.text(),
            uri: self.uri.text(),
            task_id: self.task_id.text(),
            arguments: self.arguments,
            proposed_version: self.proposed_version.text(),
            meta_version: self.meta_version.take(),
            has_client_capabilities: self.has_client_capabilities,
            progress_token: self.progress_token,
            reference,
            subscriptions: core::mem::take(&mut self.subscriptions),
            cancelled_id: self.cancelled_id,
            as_task: self.as_task,
            is_retry: self.is_retry,
        })
    }

    fn kind(&self) -> Result<Kind, Fault> {
        match (self.method.is_some(), self.id.is_some(), self.has_result, self.has_error) {
            (true, true, false, false) => Ok(Kind::Request),
            (true, false, false, false) => Ok(Kind::Notification),
            (false, true, true, false) | (false, true, false, true) => Ok(Kind::Response),
            _ => Err(Fault::InvalidShape),
        }
    }

    fn reference(&mut self, method: Method, limits: &Limits) -> Result<Option<Reference<'a>>, Fault> {
        if method != Method::CompletionComplete {
            return Ok(None);
        }
        let kind = self.reference_type.text().ok_or(Fault::InvalidParams)?;
        let reference = match kind.as_str() {
            "ref/prompt" => self.reference_name.text().map(Reference::Prompt),
            "ref/resource" => self.reference_uri.text().map(Reference::Resource),
            _ => None,
        };
        let fits = |reference: &Reference<'_>| match reference {
            Reference::Prompt(name) => name.as_str().len() <= limits.max_name,
            Reference::Resource(uri) => uri.as_str().len() <= limits.max_uri,
        };
        reference.filter(fits).ok_or(Fault::InvalidParams).map(Some)
    }

    /// The method's own demands: what it acts on must be of the right type and within bounds, and be there; what
    /// only the legacy era has is demanded once the era is known.
    fn check_params(&self, method: Method, limits: &Limits) -> Result<(), Fault> {
        let fits = |member: &Member<'_>, longest: usize| match member {
            Member::Text(text) => text.as_str().len() <= longest,
            Member::Absent => !method.is_modern(),
            Member::Other => false,
        };
        let arguments = self.arguments.is_none_or(|text| text.starts_with('{'));
        let fine = match method {
            Method::ToolsCall | Method::PromptsGet => fits(&self.name, limits.max_name) && arguments,
            Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                fits(&self.uri, limits.max_uri)
            }
            Method::TasksGet | Method::TasksResult | Method::TasksCancel | Method::TasksUpdate => {
                fits(&self.task_id, limits.max_name)
            }
            Method::SubscriptionsListen => {
                self.subscriptions.len() <= limits.max_subscriptions
                    && self.subscriptions.iter().all(|uri| uri.as_str().len() <= limits.max_uri)
            }
            Method::Initialize => fits(&self.proposed_version, limits.max_name),
            Method::Ping
            | Method::Discover
            | Method::ToolsList
            | Method::PromptsList
            | Method::ResourcesList
            | Method::ResourceTemplatesList
            | Method::CompletionComplete
            | Method::LoggingSetLevel
            | Method::TasksList
            | Method::NotificationInitialized
            | Method::NotificationCancelled
            | Method::NotificationProgress
            | Method::NotificationRootsListChanged
            | Method::NotificationTasksStatus
            | Method::Unknown => true,
        };
        if fine { Ok(()) } else { Err(Fault::InvalidParams) }
    }
}

/// A value's text; the value itself is not kept.
fn span<'a>(reader: &mut Reader<'a, '_>) -> Result<&'a str, Fault> {
    let start = reader.at();
    reader.skip(PARAMS_DEPTH)?;
    Ok(reader.since(start))
}

/// An id's text, and whether it is one: a string or an integer that every reader keeps exactly.
fn read_id<'a>(reader: &mut Reader<'a, '_>, limits: &Limits) -> Result<(&'a str, bool), Fault> {
    let start = reader.at();
    let valid = match reader.peek() {
        Some(b'"') => reader.string().map(|_| true)?,
        Some(b'-' | b'0'..=b'9') => {
            let (number, integer) = reader.number()?;
            integer && number.parse::<i64>().is_ok_and(|n| n.unsigned_abs() <= 1 << 53)
        }
        _ => {
            reader.skip(2)?;
            false
        }
    };
    let id = reader.since(start);
    Ok((id, valid && id.len() <= limits.max_id))
}
