//! Invoices in memory: what the tools read and change. Knows nothing of MCP.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// One invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Invoice {
    /// Its id, such as `inv-1001`.
    pub id: String,
    /// Who was billed.
    pub customer: String,
    /// The amount billed, in cents of `currency`.
    #[schemars(transform = without_format)]
    pub amount_cents: u64,
    /// How much of it was paid back, in cents.
    #[schemars(transform = without_format)]
    pub refunded_cents: u64,
    /// An ISO 4217 code.
    pub currency: String,
    /// Where it stands.
    pub status: Status,
    /// Notes, oldest first.
    pub notes: Vec<Note>,
}

/// Leaves out the number format, which is Rust's own: clients' validators do not know it.
pub fn without_format(schema: &mut Schema) {
    schema.remove("format");
}

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not paid yet.
    Open,
    /// Paid, and at most a part of it paid back.
    Paid,
    /// Paid back in full.
    Refunded,
}

/// A remark on an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Note {
    /// Who wrote it, as the gateway vouches.
    pub author: String,
    /// What it says.
    pub text: String,
}

/// Why the ledger refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// There is no such invoice.
    #[error("no invoice `{0}`")]
    Unknown(String),
    /// Only what was paid can be paid back.
    #[error("invoice `{0}` is not paid, so nothing can be refunded")]
    NotPaid(String),
    /// More than is left, or nothing.
    #[error("a refund of {asked} cents is not possible: between 1 and {left} are")]
    Amount {
        /// What was asked for, in cents.
        asked: u64,
        /// What could still be paid back, in cents.
        left: u64,
    },
}

/// All invoices. Shared by every session; each call locks it for a moment.
#[derive(Debug)]
pub struct Ledger {
    invoices: Mutex<BTreeMap<String, Invoice>>,
}

impl Ledger {
    /// A ledger with three invoices: one open, two paid.
    pub fn with_samples() -> Self {
        let samples = [
            ("inv-1001", "Harbour Freight Co-op", 124_000, "EUR", Status::Paid),
            ("inv-1002", "Lindqvist & Daughters", 8_950, "SEK", Status::Open),
            ("inv-1003", "Tidewater Clinic", 56_075, "USD", Status::Paid),
        ];
        let invoices = samples.map(|(id, customer, amount_cents, currency, status)| {
            let invoice = Invoice {
                id: id.to_owned(),
                customer: customer.to_owned(),
                amount_cents,
                refunded_cents: 0,
                currency: currency.to_owned(),
                status,
                notes: Vec::new(),
            };
            (invoice.id.clone(), invoice)
        });
        Self { invoices: Mutex::new(invoices.into()) }
    }

    /// Every invoice, or those of one status, by id.
    pub fn list(&self, status: Option<Status>) -> Vec<Invoice> {
        let wanted = |invoice: &&Invoice| status.is_none_or(|status| invoice.status == status);
        self.lock().values().filter(wanted).cloned().collect()
    }

    /// One invoice.
    pub fn find(&self, id: &str) -> Result<Invoice, LedgerError> {
        self.change(id, |invoice| Ok(invoice.clone()))
    }

    /// Adds a note and gives back the invoice with it.
    pub fn add_note(&self, id: &str, note: Note) -> Result<Invoice, LedgerError> {
        self.change(id, |invoice| {
            invoice.notes.push(note);
            Ok(invoice.clone())
        })
    }

    /// Pays back `amount_cents`, or all that is left.
    pub fn refund(&self, id: &str, amount_cents: Option<u64>) -> Result<Invoice, LedgerError> {
        self.change(id, |invoice| {
            if invoice.status == Status::Open {
                return Err(LedgerError::NotPaid(invoice.id.clone()));
            }
            let left = invoice.amount_cents.saturating_sub(invoice.refunded_cents);
            let asked = amount_cents.unwrap_or(left);
            if asked == 0 || asked > left {
                return Err(LedgerError::Amount { asked, left });
            }
            invoice.refunded_cents = invoice.refunded_cents.saturating_add(asked);
            if asked == left {
                invoice.status = Status::Refunded;
            }
            Ok(invoice.clone())
        })
    }

    fn change<T>(
        &self,
        id: &str,
        f: impl FnOnce(&mut Invoice) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut invoices = self.lock();
        f(invoices.get_mut(id).ok_or_else(|| LedgerError::Unknown(id.to_owned()))?)
    }

    /// No change is left half made by a panic, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Invoice>> {
        self.invoices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refunds_never_exceed_what_was_paid() {
        let ledger = Ledger::with_samples();
        let part = ledger.refund("inv-1001", Some(24_000)).unwrap();
        assert_eq!((part.refunded_cents, part.status), (24_000, Status::Paid));
        assert_eq!(
            ledger.refund("inv-1001", Some(100_001)),
            Err(LedgerError::Amount { asked: 100_001, left: 100_000 })
        );
        let rest = ledger.refund("inv-1001", None).unwrap();
        assert_eq!((rest.refunded_cents, rest.status), (124_000, Status::Refunded));
        assert_eq!(ledger.refund("inv-1001", None), Err(LedgerError::Amount { asked: 0, left: 0 }));
    }

    #[test]
    fn what_is_open_or_unknown_is_not_refunded() {
        let ledger = Ledger::with_samples();
        assert_eq!(ledger.refund("inv-1002", None), Err(LedgerError::NotPaid("inv-1002".into())));
        assert_eq!(ledger.refund("inv-9", None), Err(LedgerError::Unknown("inv-9".into())));
        assert_eq!(ledger.list(None).iter().map(|i| i.refunded_cents).sum::<u64>(), 0);
    }

    #[test]
    fn listing_keeps_to_the_status_asked_for() {
        let open = Ledger::with_samples().list(Some(Status::Open));
        assert_eq!(open.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["inv-1002"]);
    }
}
