use super::*;

/// A server's life: every step is decided on what the steps before left.
#[derive(Default)]
struct Life {
    kept: Vec<Revision>,
    promote: Option<String>,
    rollback: Option<String>,
    canary: bool,
}

impl Life {
    /// Asks for a template and tells `stable/canary`, by number, and what is wrong.
    fn step(&mut self, hash: &str) -> String {
        let wish = Wish {
            server: "a",
            hash,
            wants_canary: self.canary,
            promote: self.promote.as_deref(),
            rollback: self.rollback.as_deref(),
        };
        let decision = decide(&self.kept, wish);
        for write in decision.writes {
            match write {
                Write::Create(revision) => self.kept.push(revision),
                Write::Update(revision) => {
                    let kept = self.kept.iter_mut().find(|kept| kept.name == revision.name);
                    *kept.expect("only what is kept is updated") = revision;
                }
                Write::Delete(name) => self.kept.retain(|kept| kept.name != name),
            }
        }
        let again = decide(&self.kept, wish);
        assert_eq!(
            (&again.stable, &again.canary, &again.writes),
            (&decision.stable, &decision.canary, &vec![]),
            "settled"
        );
        let problems: Vec<_> =
            decision.problems.iter().map(|problem| format!(" {}", problem.reason)).collect();
        let canary = decision.canary.map_or("-".into(), |canary| canary.number.to_string());
        format!("{}/{canary}{}", decision.stable.number, problems.concat())
    }

    fn template_of(&self, number: u64) -> &str {
        &self.kept.iter().find(|revision| revision.number == number).expect("kept").hash
    }
}

fn canary() -> Life {
    Life { canary: true, ..Life::default() }
}

#[test]
fn without_a_canary_the_newest_template_is_stable() {
    let mut life = Life::default();
    assert_eq!(life.step("x"), "1/-");
    assert_eq!(life.step("y"), "2/-");
    assert_eq!(life.step("x"), "3/-");
    assert_eq!(life.template_of(3), "x");
    assert_eq!(life.kept.len(), 2, "a template is kept once");
}

#[test]
fn the_first_template_needs_no_canary() {
    assert_eq!(canary().step("x"), "1/-");
}

#[test]
fn a_canary_runs_until_it_is_promoted() {
    let mut life = canary();
    life.step("x");
    assert_eq!(life.step("y"), "1/2");
    life.promote = Some("2".into());
    assert_eq!(life.step("y"), "2/-");
    assert_eq!(life.step("z"), "2/3");
}

#[test]
fn a_promotion_that_names_another_revision_promotes_nothing() {
    let mut life = canary();
    life.step("x");
    life.step("y");
    life.promote = Some("2".into());
    assert_eq!(life.step("z"), "1/3");
    life.promote = Some("newest".into());
    assert_eq!(life.step("z"), "1/3 InvalidRevision");
}

#[test]
fn a_template_that_returns_must_be_promoted_anew() {
    let mut life = canary();
    life.step("x");
    life.step("y");
    life.promote = Some("2".into());
    life.step("y");
    assert_eq!(life.step("x"), "2/3");
    assert_eq!(life.step("y"), "2/-");
    assert_eq!(life.step("x"), "2/3");
    life.promote = Some("3".into());
    assert_eq!(life.step("x"), "3/-");
    life.promote = Some("2".into());
    assert_eq!(life.step("y"), "3/4", "2 was promoted once and is no answer to a new wish");
}

#[test]
fn a_canary_that_is_rolled_back_is_gone_until_the_spec_changes() {
    let mut life = canary();
    life.step("x");
    life.step("y");
    life.rollback = Some("2".into());
    assert_eq!(life.step("y"), "1/-");
    assert_eq!(life.step("z"), "1/3");
    assert_eq!(life.step("x"), "1/-");
}

#[test]
fn what_was_promoted_is_rolled_back_to_what_was_before() {
    for mut life in [canary(), Life::default()] {
        life.step("x");
        life.step("y");
        life.promote = Some("2".into());
        life.step("y");
        life.rollback = Some("2".into());
        assert_eq!(life.step("y"), "1/-");
    }
}

#[test]
fn a_rollback_that_is_withdrawn_makes_a_candidate_again() {
    let mut life = canary();
    life.step("x");
    life.step("y");
    life.rollback = Some("2".into());
    life.step("y");
    life.rollback = None;
    assert_eq!(life.step("y"), "1/2");
    life.canary = false;
    assert_eq!(life.step("y"), "2/-");
}

#[test]
fn a_rolled_back_revision_keeps_its_number_though_newer_ones_are_kept() {
    let mut life = canary();
    life.step("x");
    life.step("y");
    life.promote = Some("2".into());
    life.step("y");
    life.step("z");
    assert_eq!(life.step("y"), "2/-");
    life.rollback = Some("2".into());
    assert_eq!(life.step("y"), "1/-");
}

#[test]
fn there_is_nothing_before_the_first() {
    let mut life = Life { rollback: Some("1".into()), ..Life::default() };
    assert_eq!(life.step("x"), "1/- NothingToRollBackTo");
}

#[test]
fn a_strategy_that_is_changed_away_promotes_the_canary() {
    let mut life = canary();
    life.step("x");
    assert_eq!(life.step("y"), "1/2");
    life.canary = false;
    assert_eq!(life.step("y"), "2/-");
}

#[test]
fn ten_are_kept_and_what_runs_or_may_run_again_is_among_them() {
    let mut life = canary();
    life.step("first");
    for number in 2..30_u64 {
        assert_eq!(life.step(&format!("t{number}")), format!("1/{number}"));
        assert!(life.kept.len() <= HISTORY);
    }
    assert_eq!(life.template_of(1), "first");
    life.promote = Some("29".into());
    life.step("t29");
    for number in 30..60_u64 {
        assert_eq!(life.step(&format!("t{number}")), format!("29/{number}"));
    }
    assert_eq!(life.template_of(1), "first", "the way back stays open");
}
