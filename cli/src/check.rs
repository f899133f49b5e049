//! `sallyport policy check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use sallyport_api::manifest::{ManifestProblem, load_str};
use sallyport_operator_index::{Index, Key};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Settings, Severity};

use crate::commands::{say, say_error};

/// What a check found.
#[derive(Debug, Default)]
struct Findings {
    objects: usize,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Checks the manifests of a directory or file, each for itself and all together.
pub(crate) fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let findings = findings(path)?;
    for line in &findings.errors {
        say_error(&format!("error: {line}"));
    }
    for line in &findings.warnings {
        say_error(&format!("warning: {line}"));
    }
    say(&format!(
        "{} objects, {} errors, {} warnings",
        findings.objects,
        findings.errors.len(),
        findings.warnings.len()
    ));
    Ok(if findings.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(path: &Path) -> anyhow::Result<Findings> {
    let mut files = Vec::new();
    collect(path, &mut files).with_context(|| format!("cannot read {}", path.display()))?;
    let mut findings = Findings::default();
    let mut index = Index::new(Settings::default());
    let mut places: BTreeMap<Key, (String, usize)> = BTreeMap::new();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        let (loaded, problems) = load_str(&name, &text);
        findings.errors.extend(problems.iter().map(ToString::to_string));
        findings.objects += loaded.len();
        for loaded in loaded {
            let (namespace, id) = loaded.object.id();
            let key = (loaded.object.kind(), ObjectId::new(namespace, id));
            if let Some((first, line)) = places.get(&key) {
                let message = format!("is also in {first}:{line}, which counts; keep one");
                findings.errors.push(at(&key, &(name.clone(), loaded.line), "", &message, "Duplicate"));
                continue;
            }
            places.insert(key, (name.clone(), loaded.line));
            index.upsert(loaded.object, None);
        }
    }
    index.plan();
    for (key, problem) in
        index.problems().iter().flat_map(|(key, problems)| problems.iter().map(move |p| (key, p)))
    {
        let Some(place) = places.get(key) else { continue };
        let line = at(key, place, &problem.path, &problem.message, problem.reason);
        match problem.severity {
            Severity::Error => findings.errors.push(line),
            Severity::Warning => findings.warnings.push(line),
        }
    }
    Ok(findings)
}

fn at(key: &Key, (file, line): &(String, usize), path: &str, message: &str, reason: &'static str) -> String {
    let object = format!("{} {}", key.0.as_str(), key.1);
    let (file, path, message) = (file.clone(), path.to_string(), message.to_string());
    ManifestProblem { file, line: *line, object, path, reason, message }.to_string()
}

/// The files that the control plane would read, in its order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_manifest = matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"));
        if !is_hidden && (entry.file_type()?.is_dir() || is_manifest) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: mcpruntime.org/v1alpha1\n";

    fn grant(server: &str) -> String {
        format!(
            "{HEAD}kind: MCPAccessGrant\nmetadata: {{name: g, namespace: ns}}\nspec:\n  serverRef: {{name: {server}}}\n  subject: {{humanID: h}}\n  allowedSideEffects: [read]\n"
        )
    }

    fn check(files: &[(&str, &str)]) -> Findings {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        findings(folder.path()).unwrap()
    }

    #[test]
    fn objects_are_checked_together() {
        let server = format!(
            "{HEAD}kind: MCPServer\nmetadata: {{name: s, namespace: ns}}\nspec:\n  image: i\n  gateway: {{enabled: true}}\n"
        );
        let good = check(&[("a.yaml", &server), ("b.yaml", &grant("s"))]);
        assert_eq!((good.objects, good.errors), (2, vec![]));
        let dangling = check(&[("a.yaml", &server), ("b.yaml", &grant("t"))]);
        assert_eq!(dangling.errors.len(), 1);
        assert!(
            dangling.errors[0].contains("b.yaml:1: MCPAccessGrant ns/g spec.serverRef"),
            "{:?}",
            dangling.errors
        );
    }

    #[test]
    fn an_object_in_two_files_is_an_error_and_a_dot_file_is_none() {
        let twice = check(&[("a.yaml", &grant("s")), ("b.yaml", &grant("s")), (".c.yaml", "kind: [")]);
        assert_eq!(
            twice.errors.iter().filter(|line| line.contains("(Duplicate)")).count(),
            1,
            "{:?}",
            twice.errors
        );
        assert!(!twice.errors.iter().any(|line| line.contains(".c.yaml")));
    }
}
