//! One server's policy with its inventories indexed.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};

use super::ServerKey;
use crate::{ServerPolicy, Tool};

/// A server and its indexed inventories.
#[derive(Debug)]
pub struct Server {
    policy: ServerPolicy,
    key: ServerKey,
    tools: HashMap<String, usize>,
    prompts: HashSet<String>,
    resources: HashSet<String>,
    resource_patterns: Vec<String>,
    tasks: HashSet<String>,
}

impl Server {
    pub(super) fn new(policy: ServerPolicy, key: ServerKey) -> Self {
        let (resource_patterns, resources): (Vec<String>, Vec<String>) =
            policy.resources.iter().cloned().partition(|uri| uri.contains(['{', '*']));
        Self {
            key,
            tools: policy.tools.iter().enumerate().map(|(index, tool)| (tool.name.clone(), index)).collect(),
            prompts: policy.prompts.iter().cloned().collect(),
            resources: resources.into_iter().collect(),
            resource_patterns,
            tasks: policy.tasks.iter().cloned().collect(),
            policy,
        }
    }

    /// The policy as the control plane told it.
    pub fn policy(&self) -> &ServerPolicy {
        &self.policy
    }

    pub(crate) fn key(&self) -> ServerKey {
        self.key
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name).and_then(|index| self.policy.tools.get(*index))
    }

    pub(crate) fn has_prompt(&self, name: &str) -> bool {
        self.prompts.contains(name)
    }

    pub(crate) fn has_resource(&self, uri: &str) -> bool {
        self.resources.contains(uri) || self.resource_patterns.iter().any(|pattern| uri_matches(pattern, uri))
    }

    pub(crate) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(crate) fn has_task(&self, tool: &str) -> bool {
        self.tasks.contains(tool)
    }
}

/// Whether `uri` fits `pattern`: `{x}` stands for one or more characters other than `/`, a trailing `*` for any rest.
fn uri_matches(pattern: &str, uri: &str) -> bool {
    let Some((literal, rest)) = pattern.split_once('{') else {
        return match pattern.strip_suffix('*') {
            Some(prefix) => uri.starts_with(prefix),
            None => uri == pattern,
        };
    };
    let (Some(tail), Some((_, after))) = (uri.strip_prefix(literal), rest.split_once('}')) else {
        return false;
    };
    let segment = tail.find('/').unwrap_or(tail.len());
    // Each end of the variable within the segment is tried; segments are short and bounded by the URI cap.
    tail.char_indices()
        .map(|(at, c)| at.saturating_add(c.len_utf8()))
        .take_while(|end| *end <= segment)
        .any(|end| tail.get(end..).is_some_and(|left| uri_matches(after, left)))
}

#[cfg(test)]
mod tests {
    use super::uri_matches;

    #[test]
    fn a_variable_stands_for_one_segment() {
        assert!(uri_matches("invoice://{id}", "invoice://7"));
        assert!(uri_matches("t://template/{id}/data", "t://template/42/data"));
        assert!(!uri_matches("t://template/{id}/data", "t://template/4/2/data"));
        assert!(!uri_matches("invoice://{id}", "invoice://"));
        assert!(!uri_matches("invoice://{id}", "invoice://7/lines"));
    }

    #[test]
    fn a_trailing_star_stands_for_any_rest() {
        assert!(uri_matches("file:///docs/*", "file:///docs/a/b"));
        assert!(!uri_matches("file:///docs/*", "file:///other"));
    }

    #[test]
    fn an_unclosed_brace_matches_nothing() {
        assert!(!uri_matches("a{b", "axx"));
    }
}
