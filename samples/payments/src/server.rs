//! The MCP face of the ledger: three tools of rising consequence, a prompt, and invoices as resources.

use std::sync::Arc;

use axum::http::request::Parts;
use rmcp::handler::server::common::Extension;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{
    Implementation, ListResourceTemplatesResult, ListResourcesResult, PaginatedRequestParams,
    ProgressNotificationParam, PromptMessage, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, RequestMetaObject, Resource, ResourceContents, ResourceTemplate, Role,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, prompt, prompt_handler, prompt_router, tool, tool_handler,
    tool_router,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::{Invoice, Ledger, LedgerError, Note, Status, without_format};

const JSON: &str = "application/json";

/// Answers the requests of one MCP session (or, in the modern era, one request) from the shared ledger.
#[derive(Debug, Clone)]
pub struct Payments {
    ledger: Arc<Ledger>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListInvoices {
    /// Only invoices of this status.
    status: Option<Status>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct InvoiceList {
    invoices: Vec<Invoice>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AddNote {
    /// The invoice, such as `inv-1001`.
    invoice_id: String,
    /// What to remember about it.
    note: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RefundInvoice {
    /// The invoice, such as `inv-1001`.
    invoice_id: String,
    /// How much to pay back, in cents; all that is left if absent.
    #[schemars(transform = without_format)]
    amount_cents: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SummariseInvoice {
    /// The invoice, such as `inv-1001`.
    invoice_id: String,
}

#[tool_router]
impl Payments {
    /// A server of `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// Lists invoices with their amounts, states and notes.
    #[tool(annotations(title = "List invoices", read_only_hint = true, open_world_hint = false))]
    async fn list_invoices(&self, Parameters(asked): Parameters<ListInvoices>) -> Json<InvoiceList> {
        Json(InvoiceList { invoices: self.ledger.list(asked.status) })
    }

    /// Adds a note to an invoice. Notes stay.
    #[tool(annotations(
        title = "Add a note",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = false
    ))]
    async fn add_note(
        &self,
        Parameters(asked): Parameters<AddNote>,
        Extension(request): Extension<Parts>,
    ) -> Result<Json<Invoice>, String> {
        let note = Note { author: author(&request), text: asked.note };
        told(self.ledger.add_note(&asked.invoice_id, note))
    }

    /// Pays money back to the customer. Cannot be undone. Reports progress to callers who ask for it.
    #[tool(annotations(
        title = "Refund an invoice",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn refund_invoice(
        &self,
        Parameters(asked): Parameters<RefundInvoice>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<Json<Invoice>, String> {
        report(&client, &meta, 1.0, "refund requested").await;
        let refunded = self.ledger.refund(&asked.invoice_id, asked.amount_cents);
        report(&client, &meta, 2.0, "refund decided").await;
        told(refunded)
    }
}

#[prompt_router]
impl Payments {
    /// Asks for a short summary of one invoice, with the invoice attached.
    #[prompt(name = "summarise_invoice")]
    async fn summarise_invoice(
        &self,
        Parameters(asked): Parameters<SummariseInvoice>,
    ) -> Result<Vec<PromptMessage>, ErrorData> {
        let invoice = self.ledger.find(&asked.invoice_id).map_err(invalid)?;
        let ask = format!("Summarise invoice {} for {} in two sentences.", invoice.id, invoice.customer);
        let attached = PromptMessage::new_resource(
            Role::User,
            uri(&invoice.id),
            Some(JSON.to_owned()),
            Some(json(&invoice)?),
            None,
            None,
            None,
        );
        Ok(vec![PromptMessage::new_text(Role::User, ask), attached])
    }
}

#[tool_handler]
#[prompt_handler]
impl ServerHandler for Payments {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_prompts().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("payments", env!("CARGO_PKG_VERSION")).with_title("Payments"),
            )
            .with_instructions(
                "Invoices to list, annotate and refund. Refunds move money and cannot be undone.",
            )
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let invoices = self.ledger.list(None).into_iter();
        let resources = invoices.map(|invoice| {
            Resource::new(uri(&invoice.id), invoice.id).with_title(invoice.customer).with_mime_type(JSON)
        });
        Ok(ListResourcesResult::with_all_items(resources.collect()))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template =
            ResourceTemplate::new("invoice://{id}", "invoice").with_title("An invoice").with_mime_type(JSON);
        Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
    }

    async fn read_resource(
        &self,
        asked: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let id = asked.uri.strip_prefix("invoice://").unwrap_or(&asked.uri);
        let invoice =
            self.ledger.find(id).map_err(|error| ErrorData::resource_not_found(error.to_string(), None))?;
        let contents = ResourceContents::text(json(&invoice)?, uri(id)).with_mime_type(JSON);
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}

fn uri(id: &str) -> String {
    format!("invoice://{id}")
}

/// Refusals are results with `isError`, so that the model can read them and try something else.
fn told(outcome: Result<Invoice, LedgerError>) -> Result<Json<Invoice>, String> {
    outcome.map(Json).map_err(|error| error.to_string())
}

fn invalid(error: LedgerError) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), None)
}

fn json(invoice: &Invoice) -> Result<String, ErrorData> {
    serde_json::to_string(invoice).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The agent and the human behind a call. The gateway removes such headers of the caller's and sets its own, judged ones.
fn author(request: &Parts) -> String {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    format!("{} for {}", header("x-mcp-agent-id"), header("x-mcp-human-id"))
}

async fn report(client: &Peer<RoleServer>, meta: &RequestMetaObject, progress: f64, message: &str) {
    let Some(token) = meta.get_progress_token() else { return };
    let progress = ProgressNotificationParam::new(token, progress).with_total(2.0).with_message(message);
    // Progress is a courtesy: a caller who has gone does not stop a refund.
    let _ = client.notify_progress(progress).await;
}
