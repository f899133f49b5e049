use super::*;

fn grant(name: &str, more: &str) -> String {
    format!(
        "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\nmetadata: {{name: {name}, namespace: ns}}\nspec:\n  serverRef: {{name: s}}\n  subject: {{humanID: h}}\n{more}"
    )
}

struct Fixture {
    folder: tempfile::TempDir,
    directory: Directory,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path());
        Self { folder, directory }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    /// `+name` for what was added or changed, `-name` for what is gone, `!reason` for what is wrong.
    fn told(&mut self, dirty: &Dirty) -> Vec<String> {
        let update = self.directory.read(dirty).unwrap();
        let upserts = update.upserts.iter().map(|(object, _)| format!("+{}", object.id().1));
        let removals = update.removals.iter().map(|key| format!("-{}", key.1.name));
        upserts.chain(removals).chain(update.problems.iter().map(|p| format!("!{}", p.reason))).collect()
    }

    fn all(&mut self) -> Vec<String> {
        self.told(&Dirty::All)
    }

    fn only(&mut self, name: &str) -> Vec<String> {
        self.told(&Dirty::Files(BTreeSet::from([self.folder.path().join(name)])))
    }
}

#[test]
fn only_what_changed_is_told() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", &format!("{}---\n{}", grant("one", ""), grant("two", "")));
    assert_eq!(fixture.all(), ["+one", "+two"]);
    assert_eq!(fixture.all(), [""; 0]);
    fixture.write("a.yaml", &format!("{}---\n{}", grant("one", ""), grant("two", "  disabled: true\n")));
    assert_eq!(fixture.all(), ["+two"]);
    fixture.remove("a.yaml");
    assert_eq!(fixture.all(), ["-one", "-two"]);
}

#[test]
fn a_named_file_is_read_though_it_looks_the_same() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().join("a.yaml");
    fixture.write("a.yaml", &grant("one", "  maxTrust: high\n"));
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    fixture.all();
    fixture.write("a.yaml", &grant("two", "  maxTrust: high\n"));
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(fixture.only("a.yaml"), ["+two", "-one"]);
    fixture.remove("a.yaml");
    assert_eq!(fixture.only("a.yaml"), ["-two"]);
}

#[test]
fn a_bad_file_is_reported_and_its_objects_stay() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", &grant("one", ""));
    fixture.all();
    fixture.write("a.yaml", "kind: [");
    assert_eq!(fixture.all(), ["!Syntax"]);
    assert_eq!(fixture.all(), ["!Syntax"], "until it is mended");
    fixture.write("a.yaml", &grant("other", ""));
    assert_eq!(fixture.all(), ["+other", "-one"]);
}

#[test]
fn a_bad_document_costs_the_good_ones_nothing() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", &format!("{}---\n{}", grant("one", ""), grant("two", "")));
    fixture.all();
    fixture.write(
        "a.yaml",
        &format!("{}---\n{}", grant("one", "  disabled: true\n"), grant("two", "  maxTrust: immense\n")),
    );
    let told = fixture.all();
    assert_eq!((told.len(), told[0].as_str()), (2, "+one"), "{told:?}");
    let problem = &fixture.directory.read(&Dirty::All).unwrap().problems[0];
    assert_eq!((problem.file.as_str(), problem.path.as_str()), ("a.yaml", "spec.maxTrust"));
}

#[test]
fn an_object_that_moves_between_files_is_no_change() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", &grant("one", ""));
    fixture.all();
    std::fs::rename(fixture.folder.path().join("a.yaml"), fixture.folder.path().join("b.yaml")).unwrap();
    assert_eq!(fixture.all(), [""; 0]);
}

#[test]
fn of_two_files_with_one_object_the_first_by_path_counts() {
    let mut fixture = Fixture::new();
    fixture.write("b.yaml", &grant("one", ""));
    assert_eq!(fixture.all(), ["+one"]);
    fixture.write("a.yaml", &grant("one", "  disabled: true\n"));
    assert_eq!(fixture.all(), ["+one", "!Duplicate"]);
    fixture.write("b.yaml", &grant("one", "  maxTrust: high\n"));
    assert_eq!(fixture.all(), ["!Duplicate"], "the second counts for nothing");
    fixture.remove("a.yaml");
    assert_eq!(fixture.all(), ["+one"], "now it does");
}

#[test]
fn paths_are_compared_name_by_name() {
    let mut fixture = Fixture::new();
    std::fs::create_dir(fixture.folder.path().join("all")).unwrap();
    fixture.write("all.yaml", &grant("one", ""));
    fixture.write("all/one.yaml", &grant("one", "  disabled: true\n"));
    let update = fixture.directory.read(&Dirty::All).unwrap();
    let problems: Vec<&str> = update.problems.iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(problems, ["all.yaml"], "`all` is before `all.yaml`");
}

#[test]
fn dot_files_and_other_files_are_left_alone_and_folders_are_entered() {
    let mut fixture = Fixture::new();
    for folder in ["sub", ".git"] {
        std::fs::create_dir(fixture.folder.path().join(folder)).unwrap();
    }
    for name in [".a.yaml.17", ".b.yaml", ".git/c.yaml", "d.txt"] {
        fixture.write(name, "kind: [");
    }
    fixture.write("sub/e.json", "{\"kind\": 1}");
    std::os::unix::fs::symlink(fixture.folder.path(), fixture.folder.path().join("sub/up")).unwrap();
    assert_eq!(fixture.all(), ["!WrongKind"]);
    assert_eq!(fixture.only(".b.yaml"), ["!WrongKind"]);
}
