//! A JSON string as the body has it, decoded only if it must be.

use alloc::string::String;

/// The decoded value of a JSON string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// It has no escapes: the bytes of the body are the value.
    Plain(&'a str),
    /// It had escapes.
    Decoded(String),
}

impl Text<'_> {
    /// The value.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Decoded(text) => text,
        }
    }
}
