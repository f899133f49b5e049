//! Laws of the verdict that hold for every policy, not only for the cases somebody thought of.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use proptest::collection::vec;
use proptest::prelude::*;
use sallyport_policy::{
    AuthMode, Call, EnforceOn, Grant, Identity, Mode, ObjectId, Reason, ServerPolicy, Session, SessionRules,
    SideEffect, SideEffects, Store, Subject, Target, Tool, ToolRule, Trust, decide,
};

const NOW: i64 = 1_800_000_000;
const IDS: [&str; 3] = ["", "a", "b"];
const TOOLS: [&str; 4] = ["list", "note", "refund", "undeclared"];

fn id(name: &str) -> ObjectId {
    ObjectId::new("ns", name)
}

fn trust() -> impl Strategy<Value = Trust> {
    prop_oneof![Just(Trust::Low), Just(Trust::Medium), Just(Trust::High)]
}

fn effects() -> impl Strategy<Value = SideEffects> {
    vec(prop_oneof![Just(SideEffect::Read), Just(SideEffect::Write), Just(SideEffect::Destructive)], 0..3)
        .prop_map(|effects| effects.into_iter().collect())
}

fn subject() -> impl Strategy<Value = Subject> {
    (0..3_usize, 0..3_usize, 0..3_usize).prop_map(|(h, a, t)| Subject {
        human_id: IDS[h].into(),
        agent_id: IDS[a].into(),
        team_id: IDS[t].into(),
    })
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 2 => Just("v1".to_string()), 1 => Just("v0".to_string())]
}

fn rule(deny: bool) -> impl Strategy<Value = ToolRule> {
    (0..TOOLS.len(), trust()).prop_map(move |(tool, required_trust)| ToolRule {
        name: TOOLS[tool].into(),
        deny,
        required_trust,
    })
}

fn grant(disabled: bool, denies: bool) -> impl Strategy<Value = Grant> {
    let denials = vec(rule(true), 0..=usize::from(denies));
    (subject(), trust(), effects(), version(), vec(rule(false), 0..3), denials).prop_map(
        move |(subject, max_trust, allowed_side_effects, policy_version, mut tool_rules, denials)| {
            tool_rules.extend(denials);
            Grant {
                id: id("unnamed"),
                server: id("server"),
                subject,
                max_trust,
                allowed_side_effects,
                policy_version,
                disabled,
                tool_rules,
            }
        },
    )
}

fn any_grant() -> impl Strategy<Value = Grant> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(disabled, denies)| grant(disabled, denies))
}

fn session() -> impl Strategy<Value = Session> {
    (subject(), trust(), any::<bool>(), proptest::option::of(-10..10_i64), version()).prop_map(
        |(subject, consented_trust, revoked, expires, policy_version)| Session {
            id: id("s"),
            server: id("server"),
            subject,
            consented_trust,
            revoked,
            expires_at: expires.map(|e| NOW + e),
            issued_at: Some(NOW - 5),
            policy_version,
        },
    )
}

fn server() -> impl Strategy<Value = ServerPolicy> {
    (any::<bool>(), any::<bool>(), any::<bool>(), trust(), 0..8_u64).prop_map(
        |(default_allow, required, all, required_trust, lifetime)| ServerPolicy {
            id: id("server"),
            policy_version: "v1".into(),
            default_allow,
            enforce_on: if all { EnforceOn::All } else { EnforceOn::CallTool },
            session: SessionRules { required, max_lifetime_seconds: lifetime, ..SessionRules::default() },
            tools: vec![
                Tool {
                    name: "list".into(),
                    required_trust: Trust::Low,
                    side_effect: Some(SideEffect::Read),
                    risk: None,
                },
                Tool {
                    name: "note".into(),
                    required_trust,
                    side_effect: Some(SideEffect::Write),
                    risk: None,
                },
                Tool {
                    name: "refund".into(),
                    required_trust,
                    side_effect: Some(SideEffect::Destructive),
                    risk: None,
                },
                Tool { name: "vague".into(), required_trust, side_effect: None, risk: None },
            ],
            prompts: vec!["p".into()],
            resources: vec!["r://{id}".into()],
            ..ServerPolicy::default()
        },
    )
}

#[derive(Clone, Debug)]
struct World {
    server: ServerPolicy,
    grants: Vec<Grant>,
    sessions: Vec<Session>,
    caller: Subject,
    session_id: String,
    target: usize,
}

fn world() -> impl Strategy<Value = World> {
    let presented = prop_oneof![Just(String::new()), Just("s".to_string()), Just("unknown".to_string())];
    (server(), vec(any_grant(), 0..5), vec(session(), 0..2), subject(), presented, 0..9_usize).prop_map(
        |(server, mut grants, sessions, caller, session_id, target)| {
            for (n, grant) in grants.iter_mut().enumerate() {
                grant.id = id(&format!("g{n}"));
            }
            World { server, grants, sessions, caller, session_id, target }
        },
    )
}

impl World {
    fn target(&self) -> Target<'_> {
        match self.target {
            0 => Target::Tool { name: "list", as_task: false },
            1 => Target::Tool { name: "note", as_task: false },
            2 => Target::Tool { name: "refund", as_task: false },
            3 => Target::Tool { name: "vague", as_task: false },
            4 => Target::Tool { name: "undeclared", as_task: false },
            5 => Target::Prompt { name: "p" },
            6 => Target::Resource { uri: "r://1", is_normal: true },
            7 => Target::Control,
            _ => Target::Unknown,
        }
    }

    fn store(&self, grants: impl Iterator<Item = Grant>) -> Store {
        let mut store = Store::new();
        for grant in grants {
            store.upsert_grant(grant, 0);
        }
        for session in &self.sessions {
            store.upsert_session(session, 0, NOW).expect("short");
        }
        store.set_servers(vec![self.server.clone()]);
        store
    }

    fn verdict_of(&self, store: &Store) -> (bool, Reason, Option<Reason>, Option<ObjectId>) {
        let identity = Identity {
            human_id: &self.caller.human_id,
            agent_id: &self.caller.agent_id,
            team_id: &self.caller.team_id,
            session_id: &self.session_id,
        };
        let call = Call { identity, target: self.target(), now: NOW };
        let server = store.server_for_route("").expect("the only one");
        let verdict = decide(store, server, &call);
        let grant = verdict.grant.map(|entry| entry.grant().id.clone());
        (verdict.allowed, verdict.reason, verdict.would_deny, grant)
    }

    fn verdict(&self) -> (bool, Reason, Option<Reason>, Option<ObjectId>) {
        self.verdict_of(&self.store(self.grants.iter().cloned()))
    }

    fn allowed(&self) -> bool {
        self.verdict().0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn one_more_allowing_grant_never_takes_access_away(world in world(), extra in grant(false, false)) {
        let mut more = world.clone();
        more.grants.push(Grant { id: id("extra"), ..extra });
        prop_assert!(!world.allowed() || more.allowed(), "{:?} became {:?}", world.verdict(), more.verdict());
    }

    #[test]
    fn one_more_denying_rule_never_gives_access(world in world(), extra in rule(true), to in any::<prop::sample::Index>()) {
        prop_assume!(!world.grants.is_empty());
        let mut more = world.clone();
        let to = to.index(more.grants.len());
        // A grant without rules allows every tool, one with rules only those: keep what it allowed before.
        prop_assume!(!more.grants[to].tool_rules.is_empty());
        more.grants[to].tool_rules.push(extra);
        prop_assert!(world.allowed() || !more.allowed());
    }

    #[test]
    fn disabling_a_grant_never_gives_access_beyond_its_own_denials(world in world(), to in any::<prop::sample::Index>()) {
        prop_assume!(!world.grants.is_empty());
        let mut less = world.clone();
        let to = to.index(less.grants.len());
        prop_assume!(less.grants[to].tool_rules.iter().all(|rule| !rule.deny));
        less.grants[to].disabled = true;
        prop_assert!(world.allowed() || !less.allowed());
    }

    #[test]
    fn less_consent_never_allows_more(world in world()) {
        let mut less = world.clone();
        for session in &mut less.sessions {
            session.consented_trust = Trust::Low;
        }
        prop_assert!(world.allowed() || !less.allowed());
    }

    #[test]
    fn a_revoked_session_denies_whatever_presents_it(world in world()) {
        let mut revoked = world;
        revoked.session_id = "s".into();
        for session in &mut revoked.sessions {
            session.revoked = true;
        }
        prop_assert!(!revoked.allowed() || revoked.target == 8);
    }

    #[test]
    fn no_state_means_no_access_to_any_call(world in world()) {
        let mut empty = world;
        empty.grants.clear();
        empty.sessions.clear();
        empty.server.default_allow = false;
        prop_assert!(!empty.allowed() || empty.target == 7);
    }

    #[test]
    fn the_order_of_arrival_and_detours_do_not_matter(world in world(), detour in any_grant()) {
        let forward = world.store(world.grants.iter().cloned());
        let mut roundabout = world.store(world.grants.iter().rev().cloned());
        roundabout.upsert_grant(Grant { id: id("detour"), ..detour.clone() }, 1);
        if let Some(first) = world.grants.first() {
            roundabout.upsert_grant(Grant { id: first.id.clone(), ..detour }, 2);
            roundabout.upsert_grant(first.clone(), 3);
        }
        roundabout.remove_grant("ns/detour");
        prop_assert_eq!(roundabout.grants(), world.grants.len());
        prop_assert_eq!(world.verdict_of(&forward), world.verdict_of(&roundabout));
    }

    #[test]
    fn observe_lets_pass_and_records_what_enforcement_would_say(world in world()) {
        let (allowed, reason, _, _) = world.verdict();
        let mut observed = world;
        observed.server.mode = Mode::Observe;
        let (passes, _, would_deny, _) = observed.verdict();
        prop_assert!(passes);
        prop_assert_eq!(would_deny, (!allowed).then_some(reason));
    }

    #[test]
    fn anonymous_mode_ignores_what_callers_say_of_themselves(world in world()) {
        let mut named = world;
        named.server.auth.mode = AuthMode::None;
        let mut nameless = named.clone();
        nameless.caller = Subject::default();
        nameless.session_id.clear();
        prop_assert_eq!(named.verdict(), nameless.verdict());
    }
}
