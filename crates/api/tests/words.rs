//! Every word of status is explained, and none that is not there.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use sallyport_api::words::{access_phase, condition, event, reason, server_phase};

/// Words in code style of the first column of the table below a heading.
fn explained(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md"));
    let text = text.expect("docs/kubernetes.md can be read");
    let section = text.split(&format!("\n### {heading}\n")).nth(1).expect("the heading is there");
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(ToString::to_string).collect::<Vec<_>>())
        .collect()
}

fn all(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn every_word_is_explained() {
    assert_eq!(explained("Phases"), all(&[&server_phase::ALL[..], &access_phase::ALL[..]].concat()));
    assert_eq!(explained("Conditions"), all(&condition::ALL));
    assert_eq!(explained("Reasons of conditions"), all(&reason::ALL));
    assert_eq!(explained("Events"), all(&event::ALL));
}
