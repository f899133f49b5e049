//! What a token says of itself, before anybody has verified it. Good enough to refuse it, or to bound its life.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest token that is looked at, in bytes; those of Kubernetes have about 1,000.
const MOST_BYTES: usize = 16 * 1024;

/// Claims of a JSON web token, unverified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// Seconds since 1970.
    expires: u64,
    issued: u64,
}

impl Claims {
    /// The claims of `token`; none: it is no JSON web token, or not meant for `audience`.
    pub(super) fn read(token: &str, audience: &str) -> Option<Self> {
        if token.len() > MOST_BYTES {
            return None;
        }
        let mut parts = token.split('.');
        let (_, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if signature.is_empty() || parts.next().is_some() {
            return None;
        }
        let payload: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let meant = match payload.get("aud")? {
            serde_json::Value::Array(all) => all.iter().any(|one| one == audience),
            one => one == audience,
        };
        let seconds = |name| payload.get(name).and_then(serde_json::Value::as_u64);
        meant.then_some(Self { expires: seconds("exp")?, issued: seconds("iat")? })
    }

    /// How long it counts from `now` on (since 1970). Never longer than it was issued for: a clock that goes slow
    /// must not lengthen its life.
    pub(super) fn life(self, now: Duration) -> Duration {
        let left = self.expires.saturating_sub(now.as_secs());
        Duration::from_secs(left.min(self.expires.saturating_sub(self.issued)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_token_tells_its_life_and_no_clock_lengthens_it() {
        let claims = Claims::read(&token(r#"{"aud":["sallyport"],"exp":7200,"iat":3600}"#), "sallyport");
        let life = |now| claims.unwrap().life(Duration::from_secs(now)).as_secs();
        assert_eq!([life(3600), life(7000), life(7300), life(0)], [3600, 200, 0, 3600]);
    }

    #[test]
    fn what_is_no_token_for_us_is_told_without_asking() {
        let good = r#"{"aud":"sallyport","exp":2,"iat":1}"#;
        assert!(Claims::read(&token(good), "sallyport").is_some());
        let other = r#"{"aud":["https://kubernetes.default.svc"],"exp":2,"iat":1}"#;
        let unsigned = format!("e30.{}.", URL_SAFE_NO_PAD.encode(good));
        let huge = token(&format!(r#"{{"aud":"sallyport","exp":2,"iat":1,"x":"{}"}}"#, "y".repeat(20_000)));
        for bad in ["", "a.b", "a.b.c", "a.b.c.d", &token(other), &token("[]"), &unsigned, &huge] {
            assert_eq!(Claims::read(bad, "sallyport"), None, "{bad}");
        }
    }
}
