//! What the record keeps.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn default_max_argument_bytes() -> i32 {
    4096
}

/// What a proxy does when it cannot keep another event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnOverload {
    #[default]
    #[expect(missing_docs, reason = "described on the field")]
    Deny,
    #[expect(missing_docs, reason = "described on the field")]
    Drop,
}

/// What the record keeps of arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditArguments {
    #[expect(missing_docs, reason = "described on the field")]
    None,
    #[default]
    #[expect(missing_docs, reason = "described on the field")]
    Digest,
    #[expect(missing_docs, reason = "described on the field")]
    Redacted,
    #[expect(missing_docs, reason = "described on the field")]
    Full,
}

/// What the record keeps, and what happens around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.redact) && self.redact.size() > 0 || self.arguments != 'redacted'")
        .message("is missing; `arguments: redacted` needs at least one pointer, as /card/number").field_path(".redact"),
    validation = Rule::new("!has(self.redact) || self.redact.size() == 0 || self.arguments == 'redacted'")
        .message("has pointers, which only `arguments: redacted` uses; set that, or remove them").field_path(".arguments")
)]
pub struct AuditConfig {
    /// When the audit ingest is away for so long that no event can be kept: `deny` refuses calls, `drop` loses events
    /// and leaves a counted gap.
    #[serde(default)]
    pub on_overload: OnOverload,
    /// What the record keeps of a call's arguments. `none`: nothing. `digest`: a keyed digest. `redacted`: the digest, and the
    /// arguments with the values at `redact` replaced. `full`: the digest, and the arguments.
    #[serde(default)]
    pub arguments: AuditArguments,
    /// JSON pointers to values within the arguments that must not be recorded, as `/card/number`; a part `*` stands for any
    /// key or index, as in `/items/*/token`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 256), regex(pattern = r"^(/([^/~]|~0|~1)*)+$"))
    )]
    pub redact: Vec<String>,
    /// Longest arguments that are recorded, in bytes and after redaction; in place of longer ones stands their length.
    #[serde(default = "default_max_argument_bytes")]
    #[schemars(range(min = 64, max = 16384))]
    pub max_argument_bytes: i32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            on_overload: OnOverload::default(),
            arguments: AuditArguments::default(),
            redact: Vec::new(),
            max_argument_bytes: default_max_argument_bytes(),
        }
    }
}
