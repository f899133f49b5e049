use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use sallyport_api::v1alpha1::{AccessStatus, MCPServer, MCPServerStatus};
use sallyport_api::words::{access_phase, condition, event, reason};
use sallyport_resolve::{Problem, Severity};
use sallyport_test_support::assert_golden;
use serde_json::{Value, json};

use super::access::{AccessFacts, Standing, access_status};
use super::draft::Verity;
use super::reach::{Laggard, Reach};
use super::remembered::Remembered;
use super::server::{ServerFacts, server_status};
use super::transition::{self, Transition};
use super::workload::{DeploymentState, IngressReadiness, IngressState, Revisions, Workload, has_address};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn problem(severity: Severity, reason: &'static str) -> Problem {
    Problem { severity, path: "spec.x".into(), reason, message: format!("is wrong ({reason})") }
}

fn reach(enforced: usize, silent: &[&str], refused: &[&str]) -> Reach {
    let laggard = |refused: Option<&str>| {
        let refused = refused.map(ToString::to_string);
        move |proxy: &&str| Laggard { proxy: format!("ns/{proxy}"), refused: refused.clone() }
    };
    let silent: Vec<Laggard> = silent.iter().map(laggard(None)).collect();
    let refused: Vec<Laggard> = refused.iter().map(laggard(Some("does not decode"))).collect();
    let pending = [silent, refused].concat();
    Reach { enforced, of: enforced + pending.len(), pending, unconnected: 0 }
}

fn told(conditions: &[Condition]) -> String {
    let line = |c: &Condition| format!("  {:16} {:8} {:24} {}\n", c.type_, c.status, c.reason, c.message);
    conditions.iter().map(line).collect()
}

// === grants and sessions ===

fn facts(standing: Standing, reach: Reach, problems: &[Problem]) -> AccessFacts<'_> {
    AccessFacts { generation: Some(2), standing, problems, is_governed: true, reach }
}

fn next(facts: &AccessFacts<'_>) -> AccessStatus {
    access_status(facts, None, at(100)).0
}

#[test]
fn what_becomes_of_a_grant_or_session_is_told_as_in_the_golden_file() {
    use Standing::{Disabled, Expired, Live, Revoked};
    let error = |reason| vec![problem(Severity::Error, reason)];
    let warning = |reason| vec![problem(Severity::Warning, reason)];
    let cases = [
        ("enforced everywhere", Live, reach(6, &[], &[]), vec![]),
        ("on its way", Live, reach(1, &["e", "d", "c", "b", "a"], &[]), vec![]),
        ("refused by a proxy", Live, reach(4, &["a"], &["b"]), vec![]),
        ("not connected to all", Live, reach(4, &[], &[]).among(6), vec![]),
        ("no proxy is there", Live, reach(0, &[], &[]), vec![]),
        ("with a warning", Live, reach(6, &[], &[]), warning("SubjectEmpty")),
        ("for another policy version", Live, reach(6, &[], &[]), warning(reason::POLICY_VERSION_MISMATCH)),
        ("withdrawn and enforced", Revoked, reach(6, &[], &[]), vec![]),
        ("withdrawn and on its way", Revoked, reach(5, &["a"], &[]), vec![]),
        ("switched off", Disabled, reach(6, &[], &[]), vec![]),
        ("past its end", Expired, reach(6, &[], &[]), vec![]),
        ("not accepted", Live, reach(6, &[], &[]), error(reason::NOT_ACCEPTED)),
        ("not accepted, and still held", Live, reach(5, &["a"], &[]), error(reason::NOT_ACCEPTED)),
        ("without its server", Live, reach(0, &[], &[]), error(reason::SERVER_NOT_FOUND)),
    ];
    let mut text = String::new();
    let mut tell = |name: &str, facts: &AccessFacts<'_>| {
        let (status, is_settled) = access_status(facts, None, at(100));
        let AccessStatus { phase, message, enforced, reason, conditions } = status;
        text.push_str(&format!(
            "# {name}\nphase `{phase}` reason `{reason}` enforced `{enforced}` settled {is_settled}\n{message}\n{}\n",
            told(&conditions)
        ));
    };
    for (name, standing, reach, problems) in cases {
        tell(name, &facts(standing, reach, &problems));
    }
    let direct = AccessFacts { is_governed: false, ..facts(Live, reach(0, &[], &[]), &[]) };
    tell("of a server without gateway", &direct);
    assert_golden(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/status/access.txt"), &text);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_is_the_same() {
    let first = next(&facts(Standing::Live, reach(5, &["a"], &[]), &[]));
    let before = Remembered::of_access(&first);
    let (second, _) =
        access_status(&facts(Standing::Live, reach(6, &[], &[]), &[]), before.as_ref(), at(200));
    let times = |status: &AccessStatus| -> Vec<i64> {
        status.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect()
    };
    assert_eq!(times(&first), [100, 100, 100]);
    assert_eq!(times(&second), [100, 100, 200]);
}

#[test]
fn the_same_facts_later_tell_the_same() {
    let facts = facts(Standing::Live, reach(6, &[], &[]), &[]);
    let first = Remembered::of_access(&next(&facts)).unwrap();
    let (again, _) = access_status(&facts, None, at(999));
    assert!(first.tells_the_same_as(&Remembered::of_access(&again).unwrap()));
    let other = AccessFacts { generation: Some(3), ..facts };
    assert!(!first.tells_the_same_as(&Remembered::of_access(&next(&other)).unwrap()));
}

#[test]
fn what_was_enforced_is_known_from_the_status_itself() {
    let remembered = |reach| Remembered::of_access(&next(&facts(Standing::Live, reach, &[]))).unwrap();
    let done = remembered(reach(6, &[], &[]));
    assert!(done.was_enforced(Some(2)) && !done.was_enforced(Some(3)));
    assert_eq!(done.enforced, Some((6, 6)));
    assert!(!remembered(reach(5, &["a"], &[])).was_enforced(Some(2)));
}

#[test]
fn an_expired_session_that_was_revoked_stays_revoked() {
    let session = |revoked: bool| {
        serde_json::from_value(json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession", "metadata": {"name": "s"},
            "spec": {"serverRef": {"name": "x"}, "subject": {"humanID": "h"}, "revoked": revoked,
                     "expiresAt": "1970-01-01T00:01:40Z"},
        }))
        .unwrap()
    };
    assert_eq!(Standing::of_session(&session(false), at(99)), Standing::Live);
    assert_eq!(Standing::of_session(&session(false), at(100)), Standing::Expired);
    assert_eq!(Standing::of_session(&session(true), at(100)), Standing::Revoked);
}

fn events(told: &[Transition]) -> Vec<&'static str> {
    told.iter().map(|transition| transition.reason).collect()
}

#[test]
fn a_transition_is_told_once() {
    use Standing::{Disabled, Live, Revoked};
    let done = || reach(6, &[], &[]);
    let part = || reach(5, &["a"], &[]);
    let cases = [
        ("a session that is new", None, (Live, done()), vec![]),
        (
            "withdrawn in one step",
            Some((Live, done())),
            (Revoked, done()),
            vec![event::REVOKED, event::ENFORCED_EVERYWHERE],
        ),
        ("withdrawn", Some((Live, done())), (Revoked, part()), vec![event::REVOKED]),
        ("withdrawal enforced", Some((Revoked, part())), (Revoked, done()), vec![event::ENFORCED_EVERYWHERE]),
        ("after a restart", Some((Revoked, done())), (Revoked, done()), vec![]),
        ("lifted", Some((Revoked, done())), (Live, part()), vec![event::UNREVOKED]),
        ("lifted and enforced", Some((Live, part())), (Live, done()), vec![]),
        (
            "switched off",
            Some((Live, done())),
            (Disabled, done()),
            vec![event::DISABLED, event::ENFORCED_EVERYWHERE],
        ),
        ("switched on", Some((Disabled, done())), (Live, done()), vec![event::ENABLED]),
        ("refused", Some((Live, part())), (Live, reach(5, &[], &["a"])), vec![event::PROXY_REJECTED]),
        ("refused still", Some((Live, reach(4, &["b"], &["a"]))), (Live, reach(5, &[], &["a"])), vec![]),
    ];
    for (name, before, now, expected) in cases {
        let status = |(standing, reach): (Standing, Reach)| next(&facts(standing, reach, &[]));
        let before = before.and_then(|before| Remembered::of_access(&status(before)));
        assert_eq!(events(&transition::of_access(before.as_ref(), &status(now), true)), expected, "{name}");
    }
}

#[test]
fn a_session_that_was_withdrawn_before_its_first_status_is_told_too() {
    let revoked = next(&facts(Standing::Revoked, reach(6, &[], &[]), &[]));
    assert_eq!(events(&transition::of_access(None, &revoked, true)), [""; 0]);
    let told = transition::of_access(None, &revoked, false);
    assert_eq!(events(&told), [event::REVOKED, event::ENFORCED_EVERYWHERE]);
}

#[test]
fn not_being_accepted_is_told_when_it_begins() {
    let rejected = [problem(Severity::Error, reason::NOT_ACCEPTED)];
    let rejected = next(&facts(Standing::Live, reach(0, &[], &[]), &rejected));
    assert_eq!(events(&transition::of_access(None, &rejected, true)), [event::NOT_ACCEPTED]);
    let before = Remembered::of_access(&rejected);
    assert_eq!(events(&transition::of_access(before.as_ref(), &rejected, true)), [""; 0]);
    let missing = [problem(Severity::Error, reason::SERVER_NOT_FOUND)];
    let missing = next(&facts(Standing::Live, reach(0, &[], &[]), &missing));
    assert_eq!(missing.phase, access_phase::REJECTED);
    assert_eq!(events(&transition::of_access(None, &missing, true)), [""; 0]);
}

// === servers ===

fn server(more: Value) -> MCPServer {
    let mut spec = json!({"image": "i", "gateway": {"enabled": true}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata = json!({"name": "pay", "namespace": "ns", "generation": 4});
    let object = json!({"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "metadata": metadata, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn running(desired: i32, updated: i32, available: i32) -> DeploymentState {
    DeploymentState { is_observed: true, desired, replicas: desired, updated, available, failure: None }
}

fn ready() -> Workload {
    Workload {
        deployment: Some(running(3, 3, 3)),
        canary: None,
        service: Some(true),
        ingress: Some(IngressState { has_address: true, has_rules: true }),
        failure: None,
    }
}

struct Case {
    name: &'static str,
    server: MCPServer,
    workload: Workload,
    reach: Reach,
    problems: Vec<Problem>,
    readiness: IngressReadiness,
    rollout: Revisions,
}

impl Case {
    fn new(name: &'static str) -> Self {
        let (workload, reach) = (ready(), reach(3, &[], &[]));
        Self {
            name,
            server: server(json!({})),
            workload,
            reach,
            problems: Vec::new(),
            readiness: IngressReadiness::Strict,
            rollout: Revisions::default(),
        }
    }

    fn status(&self, before: Option<&Remembered>, revision: &str) -> MCPServerStatus {
        let facts = ServerFacts {
            server: &self.server,
            problems: &self.problems,
            workload: &self.workload,
            ingress_readiness: self.readiness,
            reach: &self.reach,
            revision,
            rollout: self.rollout,
        };
        server_status(&facts, before, at(100))
    }
}

fn server_cases() -> Vec<Case> {
    let unseen = DeploymentState { is_observed: false, ..running(3, 3, 3) };
    let surplus = DeploymentState { replicas: 4, ..running(3, 3, 3) };
    let stuck = DeploymentState {
        failure: Some((reason::PROGRESS_DEADLINE_EXCEEDED, "has timed out progressing".into())),
        ..running(3, 1, 2)
    };
    let with = |deployment| Workload { deployment: Some(deployment), ..ready() };
    let direct = || server(json!({"gateway": {"enabled": false}}));
    let canary = || server(json!({"replicas": 4, "rollout": {"strategy": "Canary", "canaryReplicas": 1}}));
    let on_trial = Revisions { stable: Some(1), canary: Some(2), rejected: None };
    let no_address = IngressState { has_address: false, has_rules: true };
    let waiting = Workload { ingress: Some(no_address), ..ready() };
    let error = |reason| vec![problem(Severity::Error, reason)];
    vec![
        Case::new("ready"),
        Case { workload: Workload::default(), reach: Reach::default(), ..Case::new("new") },
        Case { workload: with(unseen), ..Case::new("the Deployment's newest form is not seen") },
        Case { workload: with(running(3, 1, 3)), ..Case::new("rolling out") },
        Case { workload: with(surplus), ..Case::new("old pods are still there") },
        Case { workload: with(running(3, 3, 2)), ..Case::new("a replica is not available") },
        Case { workload: with(stuck), ..Case::new("stuck") },
        Case { workload: with(running(0, 0, 0)), reach: Reach::default(), ..Case::new("scaled to zero") },
        Case { workload: waiting.clone(), ..Case::new("no ingress address, strict") },
        Case {
            workload: waiting,
            readiness: IngressReadiness::Permissive,
            ..Case::new("no ingress address, permissive")
        },
        Case { reach: reach(2, &["pay-2"], &[]), ..Case::new("policy on its way") },
        Case { reach: reach(2, &[], &["pay-2"]), ..Case::new("policy refused") },
        Case { reach: reach(2, &[], &[]).among(3), ..Case::new("a gateway is not connected") },
        Case { reach: Reach::default(), ..Case::new("no gateway is connected") },
        Case { problems: error("RouteCollision"), ..Case::new("not accepted") },
        Case {
            problems: vec![problem(Severity::Warning, "SideEffectUnknown")],
            ..Case::new("with a warning")
        },
        Case {
            server: direct(),
            reach: Reach::default(),
            problems: error("NotGoverned"),
            ..Case::new("direct mode")
        },
        Case {
            workload: Workload { failure: Some("Deployment: forbidden".into()), ..ready() },
            ..Case::new("objects cannot be applied")
        },
        Case { server: canary(), ..Case::new("a canary is not needed now") },
        Case { server: canary(), rollout: on_trial, ..Case::new("the canary is missing") },
        Case {
            server: canary(),
            rollout: on_trial,
            workload: Workload { canary: Some(running(1, 1, 1)), ..ready() },
            reach: reach(4, &[], &[]),
            ..Case::new("with a canary")
        },
    ]
}

#[test]
fn what_becomes_of_a_server_is_told_as_in_the_golden_file() {
    let mut text = String::new();
    for case in server_cases() {
        let status = case.status(None, "r1");
        let ready = [
            ("deployment", status.deployment_ready),
            ("service", status.service_ready),
            ("ingress", status.ingress_ready),
            ("gateway", status.gateway_ready),
            ("policy", status.policy_ready),
            ("canary", status.canary_ready),
        ];
        let ready: Vec<&str> = ready.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        text.push_str(&format!(
            "# {}\nphase `{}` reason `{}` enforced `{}` revision `{}` replicas {} selector `{}`\n{}\nready: {}\n{}\n",
            case.name, status.phase, status.reason, status.enforced, status.enforced_revision, status.replicas,
            status.selector, status.message, ready.join(" "), told(&status.conditions)
        ));
    }
    assert_golden(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/status/server.txt"), &text);
}

#[test]
fn a_server_tells_of_each_policy_once_however_proxies_come_and_go() {
    let mut before = None;
    let mut step = |case: Case, revision: &str| {
        let status = case.status(before.as_ref(), revision);
        let told = events(&transition::of_server(before.as_ref(), &status));
        before = Remembered::of_server(&status);
        told
    };
    let done = || Case::new("done");
    let part = || Case { reach: reach(2, &["pay-2"], &[]), ..Case::new("part") };
    assert_eq!(step(part(), "r1"), [""; 0]);
    assert_eq!(step(done(), "r1"), [event::ENFORCED_EVERYWHERE]);
    assert_eq!(step(part(), "r1"), [""; 0]);
    assert_eq!(step(done(), "r1"), [""; 0]);
    assert_eq!(step(done(), "r2"), [event::ENFORCED_EVERYWHERE]);
}

#[test]
fn direct_mode_is_told_when_it_begins() {
    let direct = Case { server: server(json!({"gateway": {"enabled": false}})), ..Case::new("direct") };
    let status = direct.status(None, "r1");
    assert_eq!(events(&transition::of_server(None, &status)), [event::DIRECT_MODE]);
    let before = Remembered::of_server(&status);
    assert_eq!(events(&transition::of_server(before.as_ref(), &status)), [""; 0]);
}

#[test]
fn what_becomes_of_a_canary_is_told() {
    let with = |stable, canary, rejected| {
        let rollout = Revisions { stable: Some(stable), canary, rejected };
        Case { rollout, ..Case::new("rollout") }.status(None, "r1")
    };
    let told = |before: &MCPServerStatus, next: &MCPServerStatus| {
        events(&transition::of_server(Remembered::of_server(before).as_ref(), next))
    };
    let trying = with(3, Some(4), None);
    assert_eq!(told(&with(3, None, None), &trying), [""; 0]);
    assert_eq!(told(&trying, &with(4, None, None)), [event::ROLLOUT_PROMOTED]);
    assert_eq!(told(&trying, &with(3, None, Some(4))), [event::ROLLOUT_ROLLED_BACK]);
    assert_eq!(told(&trying, &with(3, Some(5), None)), [""; 0]);
    assert_eq!(told(&with(4, None, None), &with(5, None, None)), [""; 0]);
}

#[test]
fn another_episode_of_the_same_status_has_another_word() {
    let facts = facts(Standing::Live, reach(6, &[], &[]), &[]);
    let first = Remembered::of_access(&access_status(&facts, None, at(100)).0).unwrap();
    let second = Remembered::of_access(&access_status(&facts, None, at(200)).0).unwrap();
    assert!(first.tells_the_same_as(&second) && first.episode() != second.episode());
    assert!(first.is(condition::ENFORCED, Verity::True));
}

#[test]
fn a_service_without_an_address_is_not_ready() {
    let service = |ip: &str| serde_json::from_value(json!({"spec": {"clusterIP": ip}})).unwrap();
    assert!(has_address(&service("10.0.0.1")) && !has_address(&service("")));
}
