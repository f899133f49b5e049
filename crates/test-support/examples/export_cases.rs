//! Prints the decision cases that hold at this moment as JSON, for runners in other languages.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use sallyport_test_support::cases::{Case, cases};
use serde_json::{Value, json};

fn main() -> serde_json::Result<()> {
    let exported = cases().iter().filter(|case| case.holds_now()).map(export);
    println!("{}", exported.collect::<serde_json::Result<Value>>()?);
    Ok(())
}

fn export(case: &Case) -> serde_json::Result<Value> {
    let manifests = case.objects.iter().map(sallyport_api::Object::to_json);
    let (request, expect) = (&case.request, &case.expect);
    Ok(json!({
        "name": case.name,
        "manifests": manifests.collect::<serde_json::Result<Vec<Value>>>()?,
        "request": {
            "method": request.method, "path": request.path, "headers": request.headers, "body": request.body,
        },
        "expect": {
            "decision": expect.decision, "reason": expect.reason, "status": expect.status,
            "would_deny": expect.would_deny, "grant": expect.grant,
        },
    }))
}
