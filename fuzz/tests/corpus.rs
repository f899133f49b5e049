//! The committed corpus through the laws, so that what a fuzzer once found stays found.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;

use sallyport_fuzz::{message, request, verdict};
use sallyport_mcp_wire::Fault;
use sallyport_policy::Reason;

/// Contents of a corpus, by file name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("readable"))
    });
    files.collect()
}

/// Checks that each file whose name begins with a fault's is refused for it, and each `good` one accepted.
fn faults_by_name(corpus: Vec<(String, Vec<u8>)>, judge: impl Fn(&[u8]) -> Option<Fault>) -> BTreeSet<Fault> {
    let mut seen = BTreeSet::new();
    for (name, bytes) in corpus {
        let fault = judge(&bytes);
        let told = fault.map_or_else(|| "good".to_string(), |fault| fault.as_str().replace('_', "-"));
        let is_seed = name.starts_with("good")
            || Fault::ALL.iter().any(|f| name.starts_with(&f.as_str().replace('_', "-")));
        assert!(!is_seed || name.starts_with(&told), "{name}: {told}");
        seen.extend(fault);
    }
    seen
}

#[test]
fn bodies_are_read_as_an_independent_reader_reads_them() {
    let seen = faults_by_name(corpus("message"), message);
    // Sizes beyond the caps make no seeds.
    assert!(seen.len() >= 15, "{seen:?}");
}

#[test]
fn requests_are_refused_for_what_their_file_is_named_after() {
    let seen = faults_by_name(corpus("request"), request);
    assert!(seen.len() >= 12, "{seen:?}");
}

#[test]
fn verdicts_of_the_corpus_meet_most_reasons() {
    let met: BTreeSet<Reason> = corpus("verdict").iter().filter_map(|(_, bytes)| verdict(bytes)).collect();
    assert!(met.len() >= 18, "{met:?}");
}
