//! What the Secrets of certificates should hold. Pure: what is stored and the time in, what to write out.
//!
//! An authority goes through three states: alone; with its successor, which is trusted already and signs nothing yet; and
//! replaced, when it is still trusted until it ends. So whoever trusts the bundle of a day ago trusts what is shown today.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use sallyport_runtime::tls::{Authority, Facts, Pem, TlsError, facts};

const DAY: u64 = 86_400;
/// Life of an authority.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY);
/// Life of a server's certificate.
const SERVER_LIFE: Duration = Duration::from_secs(30 * DAY);
/// How long a new authority is handed out before it signs.
const OVERLAP_SECONDS: i64 = 86_400;

/// Keys of a Secret, as Kubernetes and cert-manager name them.
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const BUNDLE: &str = "ca.crt";
/// The successor of an authority.
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

/// Content of a Secret.
pub(super) type Data = BTreeMap<String, String>;

/// A Secret, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Whether we made it; what others made is used, and never changed.
    pub(super) is_ours: bool,
    /// Its content.
    pub(super) data: Data,
}

impl Stored {
    pub(super) fn text(&self, key: &str) -> &str {
        self.data.get(key).map(String::as_str).unwrap_or_default()
    }

    fn facts(&self, key: &str) -> Result<Facts, TlsError> {
        facts(self.text(key))
    }

    /// Certificate and key.
    pub(super) fn pem(&self) -> Pem {
        Pem { certificate: self.text(CERTIFICATE).into(), key: self.text(KEY).into() }
    }

    /// The authority in it.
    pub(super) fn authority(&self) -> Authority {
        Authority { certificate: self.text(CERTIFICATE).into(), key: self.text(KEY).into() }
    }
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What the authority's Secret should hold; none: what it holds. `name` is what a new authority is called.
///
/// # Errors
/// No authority can be made.
pub(super) fn authority(
    stored: Option<&Stored>,
    name: &str,
    now: SystemTime,
) -> Result<Option<Data>, TlsError> {
    let make = || Authority::make(name, now, AUTHORITY_LIFE);
    let Some(stored) = stored else {
        return Ok(Some(alone(&make()?, "", now)));
    };
    if !stored.is_ours {
        return Ok(None);
    }
    let bundle = stored.text(BUNDLE);
    let current = stored.facts(CERTIFICATE).ok().filter(|facts| seconds(now) < facts.ends);
    let Some(current) = current.filter(|_| stored.pem().certified().is_ok()) else {
        return Ok(Some(alone(&make()?, bundle, now)));
    };
    let next =
        Authority { certificate: stored.text(NEXT_CERTIFICATE).into(), key: stored.text(NEXT_KEY).into() };
    match facts(&next.certificate) {
        Ok(facts) if seconds(now) >= facts.made.saturating_add(OVERLAP_SECONDS) => {
            Ok(Some(alone(&next, bundle, now)))
        }
        Ok(_) => Ok(None),
        Err(_) if current.is_due(seconds(now)) => {
            let next = make()?;
            let mut data = stored.data.clone();
            data.insert(BUNDLE.into(), bundled([bundle, &next.certificate], now));
            data.insert(NEXT_CERTIFICATE.into(), next.certificate);
            data.insert(NEXT_KEY.into(), next.key);
            Ok(Some(data))
        }
        Err(_) => Ok(None),
    }
}

/// An authority that signs from now on, trusted beside those of `bundle`.
fn alone(authority: &Authority, bundle: &str, now: SystemTime) -> Data {
    let content = [
        (CERTIFICATE, authority.certificate.clone()),
        (KEY, authority.key.clone()),
        (BUNDLE, bundled([bundle, &authority.certificate], now)),
    ];
    content.map(|(key, text)| (key.to_string(), text)).into()
}

/// What a server's Secret should hold; none: what it holds. `signer` signs, `bundle` vouches.
///
/// # Errors
/// The signer cannot sign.
pub(super) fn server(
    stored: Option<&Stored>,
    signer: &Authority,
    bundle: &str,
    names: &BTreeSet<String>,
    now: SystemTime,
) -> Result<Option<Data>, TlsError> {
    let issuer = facts(&signer.certificate)?;
    if let Some(stored) = stored {
        let holds = |facts: &Facts| {
            facts.issuer == issuer.subject && facts.names == *names && !facts.is_due(seconds(now))
        };
        let is_good =
            stored.facts(CERTIFICATE).is_ok_and(|facts| holds(&facts)) && stored.pem().certified().is_ok();
        if !stored.is_ours || is_good && stored.text(BUNDLE) == bundle {
            return Ok(None);
        }
        if is_good {
            let mut data = stored.data.clone();
            data.insert(BUNDLE.into(), bundle.into());
            return Ok(Some(data));
        }
    }
    let mut pem = signer.issue(&names.iter().cloned().collect::<Vec<_>>(), now, SERVER_LIFE)?;
    // Who trusts the root alone needs the one in between as well.
    if issuer.subject != issuer.issuer {
        pem.certificate.push_str(&signer.certificate);
    }
    let content = [(CERTIFICATE, pem.certificate), (KEY, pem.key), (BUNDLE, bundle.to_string())];
    Ok(Some(content.map(|(key, text)| (key.to_string(), text)).into()))
}

/// Whom to trust: what vouches for the authority and itself, and what vouches for certificates that others made.
pub(super) fn bundle(authority: &Stored, servers: &[Stored], now: SystemTime) -> String {
    let foreign = servers.iter().filter(|server| !server.is_ours).map(|server| server.text(BUNDLE));
    let own = [authority.text(BUNDLE), authority.text(CERTIFICATE)];
    bundled(own.into_iter().chain(foreign), now)
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates in `texts`, each once, in order, without those that have ended.
fn bundled<'t>(texts: impl IntoIterator<Item = &'t str>, now: SystemTime) -> String {
    let mut bundle = String::new();
    for block in texts.into_iter().flat_map(blocks) {
        let counts = facts(&block).is_ok_and(|facts| seconds(now) < facts.ends);
        if counts && !bundle.contains(&block) {
            bundle.push_str(&block);
        }
    }
    bundle
}

/// The certificates of a PEM text, each with its lines alone.
fn blocks(text: &str) -> impl Iterator<Item = String> {
    text.split(BEGIN).skip(1).filter_map(|rest| {
        let body: Vec<&str> = rest.split_once(END)?.0.split_whitespace().collect();
        Some(format!("{BEGIN}\n{}\n{END}\n", body.join("\n")))
    })
}

#[cfg(test)]
mod tests;
