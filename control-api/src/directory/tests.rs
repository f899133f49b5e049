use sallyport_api::Object;

use super::*;

const FILE: &str = "# Header of the file.
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: payments, namespace: ns}   # kept
spec: {image: x, gateway: {enabled: true}}
---
# About one.
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata:
  name: one
  namespace: ns
spec:
  serverRef: {name: payments}
  subject: {humanID: \"007\"}
  expiresAt: \"2099-12-31T23:59:00Z\"
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: two, namespace: ns}
spec: {serverRef: {name: payments},   subject: {humanID: \"yes\"}} # odd  spacing
";

fn session(name: &str) -> Key {
    (Kind::Session, ObjectId::new("ns", name))
}

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn now() -> Timestamp {
    "2030-01-02T03:04:05.678Z".parse().unwrap()
}

fn revoked(view: &View, name: &str) -> bool {
    match &view.get(Kind::Session, &ObjectId::new("ns", name)).unwrap().object {
        Object::Session(session) => session.spec.revoked,
        other => panic!("{other:?}"),
    }
}

fn mk_directory(text: &str) -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    let directory = Directory::new(folder.path());
    (folder, directory)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_edit_leaves_every_other_byte_as_it_was() {
    let (folder, directory) = mk_directory(FILE);
    let written = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap();
    assert_eq!(written.change, Change::Updated);
    assert!(revoked(&written.view, "one") && !revoked(&written.view, "two"));
    let text = std::fs::read_to_string(folder.path().join("all.yaml")).unwrap();
    let (before, after): (Vec<&str>, Vec<&str>) =
        (FILE.split("---\n").collect(), text.split("---\n").collect());
    assert_eq!((after.len(), after[0], after[2]), (3, before[0], before[2]));
    assert!(after[1].starts_with("# About one.\n"), "{}", after[1]);
    assert!(after[1].contains("revoked: true"));
    assert_eq!(files(folder.path()), ["all.yaml"], "no draft is left");
}

#[tokio::test]
async fn a_touched_object_keeps_its_age() {
    let (folder, directory) = mk_directory(FILE);
    let modified = std::fs::metadata(folder.path().join("all.yaml")).unwrap().modified().unwrap();
    let modified = Timestamp::try_from(modified).unwrap().as_second();
    let written = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap();
    let stored = written.view.get(Kind::Session, &ObjectId::new("ns", "one")).unwrap();
    let created = stored.object.metadata().creation_timestamp.as_ref().map(|time| time.0.as_second());
    assert_eq!(created, Some(modified));
}

#[tokio::test]
async fn what_is_as_wanted_is_not_written() {
    let (folder, directory) = mk_directory(FILE);
    directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("all.yaml")).unwrap();
    let again = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap();
    assert_eq!(again.change, Change::None);
    assert_eq!(std::fs::read_to_string(folder.path().join("all.yaml")).unwrap(), text);
}

#[tokio::test]
async fn a_new_object_gets_a_file_of_its_own() {
    let (folder, directory) = mk_directory(FILE);
    let spec = fields(json!({"serverRef": {"name": "payments"}, "subject": {"humanID": "h"}}));
    let written = directory.put(session("sess.new"), spec, now()).await.unwrap();
    assert_eq!(written.change, Change::Created);
    let text = std::fs::read_to_string(folder.path().join("sessions/ns.sess.new.yaml")).unwrap();
    assert!(text.contains("2030-01-02T03:04:05Z"), "{text}");
    assert_eq!(std::fs::read_to_string(folder.path().join("all.yaml")).unwrap(), FILE);
}

#[tokio::test]
async fn a_bad_object_writes_nothing() {
    let (folder, directory) = mk_directory(FILE);
    let spec = fields(json!({"serverRef": {"name": "payments"}, "subject": {"humanId": "h"}}));
    for name in ["new", "one"] {
        let error = directory.put(session(name), spec.clone(), now()).await.unwrap_err();
        let ResourceError::Invalid(problems) = error else { panic!("{error:?}") };
        assert!(
            problems.iter().any(|p| p.path == "spec.subject.humanId" && p.message.contains("humanID")),
            "{problems:?}"
        );
    }
    assert_eq!(files(folder.path()), ["all.yaml"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("all.yaml")).unwrap(), FILE);
}

#[tokio::test]
async fn a_put_that_does_not_name_the_kill_switch_leaves_it() {
    let (_folder, directory) = mk_directory(FILE);
    directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap();
    let spec =
        json!({"serverRef": {"name": "payments"}, "subject": {"humanID": "h"}, "consentedTrust": "high"});
    let written = directory.put(session("one"), fields(spec.clone()), now()).await.unwrap();
    assert!(revoked(&written.view, "one"), "a revocation is not undone by the way");
    let mut spec = fields(spec);
    spec.insert("revoked".into(), false.into());
    let written = directory.put(session("one"), spec, now()).await.unwrap();
    assert!(!revoked(&written.view, "one"));
}

#[tokio::test]
async fn json_files_stay_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.json");
    let object = json!({
        "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession", "metadata": {"name": "one", "namespace": "ns"},
        "spec": {"serverRef": {"name": "payments"}, "subject": {"humanID": "h"}},
    });
    std::fs::write(&path, object.to_string()).unwrap();
    Directory::new(folder.path())
        .patch(session("one"), fields(json!({"revoked": true})), now())
        .await
        .unwrap();
    let value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(value.pointer("/spec/revoked"), Some(&Value::Bool(true)));
}

#[tokio::test]
async fn concurrent_writes_are_all_kept() {
    let (_folder, directory) = mk_directory(FILE);
    let spec = fields(json!({"serverRef": {"name": "payments"}, "subject": {"humanID": "h"}}));
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (putting, patching, spec) = (directory.clone(), directory.clone(), spec.clone());
        writes.spawn(async move { putting.put(session(&format!("s{number}")), spec, now()).await.unwrap() });
        let name = if number % 2 == 0 { "one" } else { "two" };
        let change = fields(json!({"policyVersion": format!("v{number}"), "revoked": true}));
        writes.spawn(async move { patching.patch(session(name), change, now()).await.unwrap() });
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap();
    }
    let view = directory.view().await.unwrap();
    assert_eq!(view.list(Kind::Session).count(), 26);
    assert!(revoked(&view, "one") && revoked(&view, "two"));
    assert_eq!(view.problems, []);
}

#[tokio::test]
async fn an_object_in_two_files_is_not_changed() {
    let (folder, directory) = mk_directory(FILE);
    std::fs::write(folder.path().join("copy.yaml"), FILE).unwrap();
    let error = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap_err();
    assert!(matches!(&error, ResourceError::Conflict(message) if message.contains("copy.yaml")), "{error:?}");
}

/// As the control plane's own reader has it: what is told here is what proxies are told.
#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_path_counts() {
    let (folder, directory) = mk_directory(FILE);
    let text = FILE.replace("{humanID: \"yes\"}}", "{humanID: \"yes\"}, revoked: true}");
    // Paths are compared name by name: `all` is before `all.yaml`.
    std::fs::create_dir(folder.path().join("all")).unwrap();
    std::fs::write(folder.path().join("all/two.yaml"), &text).unwrap();
    std::fs::write(folder.path().join("b.yaml"), &text).unwrap();
    let view = directory.view().await.unwrap();
    assert!(revoked(&view, "two"), "all/two.yaml is before all.yaml");
    let told: Vec<(&str, &str)> = view.problems.iter().map(|p| (p.file.as_str(), p.reason)).collect();
    let twice = |file| [(file, "Duplicate"); 3];
    assert_eq!(told, [twice("all.yaml"), twice("b.yaml")].concat());
    std::fs::remove_dir_all(folder.path().join("all")).unwrap();
    assert!(!revoked(&directory.view().await.unwrap(), "two"), "now the other counts");
}

#[tokio::test]
async fn an_object_that_moves_between_files_keeps_its_age() {
    let (folder, directory) = mk_directory(FILE);
    let known = directory.view().await.unwrap();
    let moved = folder.path().join("moved.yaml");
    std::fs::write(&moved, FILE).unwrap();
    std::fs::File::options().write(true).open(&moved).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::remove_file(folder.path().join("all.yaml")).unwrap();
    let view = directory.view().await.unwrap();
    let age = |view: &View| view.get(Kind::Session, &session("two").1).unwrap().issued_at;
    assert_eq!(age(&view), age(&known));
    assert!(view.get(Kind::Session, &session("two").1).unwrap().origin.starts_with("moved.yaml:"));
}

#[tokio::test]
async fn an_object_whose_document_became_bad_is_not_changed() {
    let (folder, directory) = mk_directory(FILE);
    directory.view().await.unwrap();
    let bad = FILE.replace("subject: {humanID: \"007\"}", "subject: 7");
    std::fs::write(folder.path().join("all.yaml"), &bad).unwrap();
    let error = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap_err();
    assert!(
        matches!(&error, ResourceError::Conflict(message) if message.contains("mend the file")),
        "{error:?}"
    );
    let view = directory.patch(session("two"), fields(json!({"revoked": true})), now()).await.unwrap().view;
    assert!(revoked(&view, "two"), "a bad neighbour is no hindrance");
    assert!(view.get(Kind::Session, &ObjectId::new("ns", "one")).is_ok(), "the last good state stays");
}

#[tokio::test]
async fn links_out_of_the_directory_are_not_followed() {
    let (folder, directory) = mk_directory("");
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("real.yaml");
    std::fs::write(&target, FILE).unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join("link.yaml")).unwrap();
    let error = directory.patch(session("one"), fields(json!({"revoked": true})), now()).await.unwrap_err();
    assert!(matches!(error, ResourceError::Conflict(_)), "{error:?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), FILE);
}

#[tokio::test]
async fn names_that_cannot_be_files_are_refused() {
    let (folder, directory) = mk_directory("");
    let spec = fields(json!({"serverRef": {"name": "payments"}, "subject": {"humanID": "h"}}));
    let long = "x".repeat(250);
    for key in
        [(Kind::Session, ObjectId::new("a.b", "c")), session("../../etc/x"), session(&long), session("UP")]
    {
        let error = directory.put(key.clone(), spec.clone(), now()).await.unwrap_err();
        assert!(matches!(error, ResourceError::Invalid(_)), "{key:?} {error:?}");
    }
    assert_eq!(files(folder.path()), ["all.yaml"]);
}

#[tokio::test]
async fn an_edit_by_hand_is_seen_at_the_next_reading() {
    let (folder, directory) = mk_directory(FILE);
    assert!(!revoked(&directory.view().await.unwrap(), "two"));
    let text = FILE.replace("{humanID: \"yes\"}}", "{humanID: \"yes\"}, revoked: true}");
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    assert!(revoked(&directory.view().await.unwrap(), "two"));
    std::fs::remove_file(folder.path().join("all.yaml")).unwrap();
    assert_eq!(directory.view().await.unwrap().objects.size(), 0);
}
