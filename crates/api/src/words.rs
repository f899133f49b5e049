//! The words of status: phases, types of conditions, reasons, and reasons of events. All are stable: tools may compare them.
//!
//! Reasons that come from resolving, such as `RouteCollision`, appear in conditions as
//! they are. `docs/kubernetes.md` lists all words with what to do about them.

/// Phases of an MCPServer.
pub mod server_phase {
    /// It has no effect, or its objects cannot be applied.
    pub const ERROR: &str = "Error";
    /// Nothing of it is ready.
    pub const PENDING: &str = "Pending";
    /// Some of it is ready.
    pub const PARTIALLY_READY: &str = "PartiallyReady";
    /// All of it is ready.
    pub const READY: &str = "Ready";
    /// All of them.
    pub const ALL: [&str; 4] = [ERROR, PENDING, PARTIALLY_READY, READY];
}

/// Phases of a grant or session.
pub mod access_phase {
    /// Taken in, and not yet enforced everywhere.
    pub const PENDING: &str = "Pending";
    /// In force.
    pub const ACTIVE: &str = "Active";
    /// A grant that is switched off.
    pub const DISABLED: &str = "Disabled";
    /// A session that is withdrawn.
    pub const REVOKED: &str = "Revoked";
    /// A session past its end.
    pub const EXPIRED: &str = "Expired";
    /// Made for another policy version than the server has.
    pub const OUTDATED: &str = "Outdated";
    /// It has no effect.
    pub const REJECTED: &str = "Rejected";
    /// All of them.
    pub const ALL: [&str; 7] = [PENDING, ACTIVE, DISABLED, REVOKED, EXPIRED, OUTDATED, REJECTED];
}

/// Types of conditions.
pub mod condition {
    /// The object is valid, and its server takes it.
    pub const ACCEPTED: &str = "Accepted";
    /// What the object names is there and fits.
    pub const RESOLVED: &str = "Resolved";
    /// Every proxy has acknowledged the object as it is now.
    pub const ENFORCED: &str = "Enforced";
    /// The server can be used: all of the following that apply to it.
    pub const READY: &str = "Ready";
    /// The Deployment runs the current template with all replicas available.
    pub const DEPLOYMENT_READY: &str = "DeploymentReady";
    /// The Service has an address.
    pub const SERVICE_READY: &str = "ServiceReady";
    /// The Ingress leads to the Service.
    pub const INGRESS_READY: &str = "IngressReady";
    /// Every available replica's gateway is connected.
    pub const GATEWAY_READY: &str = "GatewayReady";
    /// The policy is complete and enforced by every gateway.
    pub const POLICY_READY: &str = "PolicyReady";
    /// The canary Deployment is available.
    pub const CANARY_READY: &str = "CanaryReady";
    /// All of them.
    pub const ALL: [&str; 10] = [
        ACCEPTED,
        RESOLVED,
        ENFORCED,
        READY,
        DEPLOYMENT_READY,
        SERVICE_READY,
        INGRESS_READY,
        GATEWAY_READY,
        POLICY_READY,
        CANARY_READY,
    ];
}

/// Reasons of conditions.
pub mod reason {
    /// The object is valid.
    pub const ACCEPTED: &str = "Accepted";
    /// The server's owner does not list the object's namespace.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// There is no such MCPServer.
    pub const SERVER_NOT_FOUND: &str = "ServerNotFound";
    /// All that the object names is there.
    pub const RESOLVED: &str = "Resolved";
    /// It works, and probably not all of it as meant.
    pub const RESOLVED_WITH_WARNINGS: &str = "ResolvedWithWarnings";
    /// Made for another policy version than the server has.
    pub const POLICY_VERSION_MISMATCH: &str = "PolicyVersionMismatch";
    /// Every proxy has acknowledged it.
    pub const ENFORCED_EVERYWHERE: &str = "EnforcedEverywhere";
    /// Some proxy has not acknowledged it yet.
    pub const PROPAGATING: &str = "Propagating";
    /// A proxy refused it.
    pub const PROXY_REJECTED: &str = "ProxyRejected";
    /// No proxy of the server is connected.
    pub const NO_PROXIES: &str = "NoProxies";
    /// The server runs without a gateway: its calls are not governed.
    pub const DIRECT_MODE: &str = "DirectMode";
    /// The object has no effect; `Accepted` or `Resolved` says why.
    pub const NO_EFFECT: &str = "NoEffect";
    /// A session that is withdrawn.
    pub const REVOKED: &str = "Revoked";
    /// A session past its end.
    pub const EXPIRED: &str = "Expired";
    /// A grant that is switched off.
    pub const DISABLED: &str = "Disabled";
    /// All replicas run the current template and are available.
    pub const AVAILABLE: &str = "Available";
    /// The object is not there yet.
    pub const MISSING: &str = "Missing";
    /// Pods of the current template are being started.
    pub const PROGRESSING: &str = "Progressing";
    /// Fewer replicas are available than wanted.
    pub const UNAVAILABLE: &str = "Unavailable";
    /// The Deployment gave up waiting for its pods.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// Pods cannot be created.
    pub const REPLICA_FAILURE: &str = "ReplicaFailure";
    /// No replica is wanted.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// It has an address.
    pub const ADDRESS_ASSIGNED: &str = "AddressAssigned";
    /// It has no address yet.
    pub const NO_ADDRESS: &str = "NoAddress";
    /// It has its rules; whether a controller serves them is not asked (permissive readiness).
    pub const RULES_PRESENT: &str = "RulesPresent";
    /// Every available replica's gateway is connected.
    pub const CONNECTED: &str = "Connected";
    /// Some available replica's gateway is not connected.
    pub const NOT_CONNECTED: &str = "NotConnected";
    /// Everything that is needed is ready.
    pub const READY: &str = "Ready";
    /// Objects of the server cannot be applied.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// All of them.
    pub const ALL: [&str; 29] = [
        ACCEPTED,
        NOT_ACCEPTED,
        SERVER_NOT_FOUND,
        RESOLVED,
        RESOLVED_WITH_WARNINGS,
        POLICY_VERSION_MISMATCH,
        ENFORCED_EVERYWHERE,
        PROPAGATING,
        PROXY_REJECTED,
        NO_PROXIES,
        DIRECT_MODE,
        NO_EFFECT,
        REVOKED,
        EXPIRED,
        DISABLED,
        AVAILABLE,
        MISSING,
        PROGRESSING,
        UNAVAILABLE,
        PROGRESS_DEADLINE_EXCEEDED,
        REPLICA_FAILURE,
        SCALED_TO_ZERO,
        ADDRESS_ASSIGNED,
        NO_ADDRESS,
        RULES_PRESENT,
        CONNECTED,
        NOT_CONNECTED,
        READY,
        APPLY_FAILED,
    ];
}

/// Reasons of events.
pub mod event {
    /// A session was withdrawn.
    pub const REVOKED: &str = "Revoked";
    /// A session's withdrawal was lifted.
    pub const UNREVOKED: &str = "Unrevoked";
    /// A grant was switched off.
    pub const DISABLED: &str = "Disabled";
    /// A grant was switched on again.
    pub const ENABLED: &str = "Enabled";
    /// Every proxy has acknowledged a withdrawal, or a server's new policy.
    pub const ENFORCED_EVERYWHERE: &str = "EnforcedEverywhere";
    /// The object has no effect.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// A proxy refused the object.
    pub const PROXY_REJECTED: &str = "ProxyRejected";
    /// A server runs without a gateway now.
    pub const DIRECT_MODE: &str = "DirectMode";
    /// A canary's template became the stable one.
    pub const ROLLOUT_PROMOTED: &str = "RolloutPromoted";
    /// A canary's template was given up.
    pub const ROLLOUT_ROLLED_BACK: &str = "RolloutRolledBack";
    /// All of them.
    pub const ALL: [&str; 10] = [
        REVOKED,
        UNREVOKED,
        DISABLED,
        ENABLED,
        ENFORCED_EVERYWHERE,
        NOT_ACCEPTED,
        PROXY_REJECTED,
        DIRECT_MODE,
        ROLLOUT_PROMOTED,
        ROLLOUT_ROLLED_BACK,
    ];
}
