//! What the API server says when it does not do something, in our words.

use kube::core::Status;
use kube::core::response::StatusCause;
use sallyport_api::schema::SchemaProblem;

use crate::resources::{Key, ResourceError};

/// Why a read or a write of `key` failed.
pub(super) fn refused(error: kube::Error, key: &Key) -> ResourceError {
    match error {
        kube::Error::Api(status) => answered(&status, key),
        error => ResourceError::Unavailable(format!(
            "the Kubernetes API server cannot be asked ({error}); whether the change took effect is not known, look and try again"
        )),
    }
}

/// Whether the object itself is what is missing.
pub(super) fn not_there(status: &Status, key: &Key) -> bool {
    let kind = status.details.as_ref().map_or("", |details| details.kind.as_str());
    status.code == 404 && kind == key.0.plural()
}

fn answered(status: &Status, key: &Key) -> ResourceError {
    let message = status.message.as_str();
    match status.code {
        404 if not_there(status, key) => ResourceError::NotFound { kind: key.0, id: key.1.clone() },
        404 if status.details.as_ref().is_some_and(|details| details.kind == "namespaces") => one(
            "metadata.namespace",
            format!("is `{}`, and there is no such namespace; make it first", key.1.namespace),
        ),
        404 => ResourceError::Unavailable(format!(
            "the cluster does not know {}; install the resource definitions (`sallyport install`)",
            key.0.as_str()
        )),
        400 | 413 | 422 => invalid(status),
        401 => ResourceError::Unavailable(format!(
            "the API server does not accept the control API's token ({message}); nothing was changed"
        )),
        403 => ResourceError::Forbidden(forbidden(message)),
        409 => ResourceError::Conflict(format!("{message}; nothing was changed, try again")),
        _ => ResourceError::Unavailable(format!(
            "the API server answered with {}: {message}; whether the change took effect is not known, look and try again",
            status.code
        )),
    }
}

/// The words of an admission webhook stand for themselves; a missing permission needs a remedy.
fn forbidden(message: &str) -> String {
    match message.split_once(" denied the request: ") {
        Some((_, reason)) => reason.into(),
        None => format!(
            "{message}; the role of the control API does not allow it: see config/rbac/audit.yaml, and run `sallyport doctor`"
        ),
    }
}

fn invalid(status: &Status) -> ResourceError {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    if causes.is_empty() {
        return one("", forbidden_or_plain(&status.message));
    }
    let problem = |cause: &StatusCause| SchemaProblem {
        path: cause.field.trim_start_matches("<nil>").into(),
        reason: "Rule",
        message: cause.message.clone(),
    };
    ResourceError::Invalid(causes.iter().map(problem).collect())
}

fn forbidden_or_plain(message: &str) -> String {
    message.split_once(" denied the request: ").map_or(message, |(_, reason)| reason).into()
}

fn one(path: &str, message: String) -> ResourceError {
    ResourceError::Invalid(vec![SchemaProblem { path: path.into(), reason: "Rule", message }])
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;
    use sallyport_api::Kind;
    use sallyport_policy::ObjectId;

    use super::*;

    fn status(code: u16, kind: &str, message: &str) -> Status {
        let (name, group, uid) = (String::new(), String::new(), String::new());
        let details =
            StatusDetails { name, group, kind: kind.into(), uid, causes: vec![], retry_after_seconds: 0 };
        Status { code, message: message.into(), details: Some(details), ..Status::success() }
    }

    fn told(status: Status) -> ResourceError {
        let key = (Kind::Session, ObjectId::new("ns", "s"));
        refused(kube::Error::Api(status.boxed()), &key)
    }

    #[test]
    fn only_a_missing_object_is_not_found() {
        assert!(matches!(told(status(404, "mcpagentsessions", "")), ResourceError::NotFound { .. }));
        let ResourceError::Invalid(problems) = told(status(404, "namespaces", "")) else { panic!() };
        assert_eq!(problems[0].path, "metadata.namespace");
        assert!(matches!(told(status(404, "", "page not found")), ResourceError::Unavailable(_)));
    }

    #[test]
    fn a_webhook_speaks_for_itself_and_a_role_gets_a_remedy() {
        let webhook = "admission webhook \"sessions.sallyport\" denied the request: revoked is for ever";
        assert!(
            matches!(told(status(403, "", webhook)), ResourceError::Forbidden(m) if m == "revoked is for ever")
        );
        let role = told(status(403, "", "cannot patch resource"));
        assert!(matches!(role, ResourceError::Forbidden(m) if m.contains("sallyport doctor")));
        let ResourceError::Invalid(problems) = told(status(422, "", webhook)) else { panic!() };
        assert_eq!(problems[0].message, "revoked is for ever");
    }

    #[test]
    fn what_may_have_happened_is_not_called_refused() {
        for code in [429, 500, 503, 504] {
            let ResourceError::Unavailable(message) = told(status(code, "", "etcd")) else { panic!() };
            assert!(message.contains("is not known"), "{message}");
        }
        assert!(matches!(told(status(409, "", "changed")), ResourceError::Conflict(_)));
    }
}
