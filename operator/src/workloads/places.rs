//! Which server has a place that several claim: with and without a gateway, all claim from the same cluster.

use std::collections::BTreeMap;

use sallyport_api::v1alpha1::MCPServer;
use sallyport_policy::ObjectId;

use crate::render::{Settings, claim};

/// Servers that have no place of their own, with those who have it: of those that claim one place the oldest has it, and among
/// equals the first by name. A host of one's own and any host are different places, as they are for an ingress controller.
pub(super) fn losers<'a>(
    servers: impl Iterator<Item = (&'a ObjectId, &'a MCPServer)>,
    settings: &Settings,
) -> BTreeMap<ObjectId, ObjectId> {
    let mut holders: BTreeMap<(Option<String>, String), (i64, &ObjectId)> = BTreeMap::new();
    let mut claims = Vec::new();
    for (id, server) in servers {
        let age = server.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        let place = claim(server, settings);
        let holder = holders.entry(place.clone()).or_insert((age, id));
        *holder = (*holder).min((age, id));
        claims.push((id, place));
    }
    let lost = |(id, place): (&ObjectId, (Option<String>, String))| {
        let (_, holder) = holders.get(&place)?;
        (*holder != id).then(|| (id.clone(), (*holder).clone()))
    };
    claims.into_iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(created: i64, path: &str, host: Option<&str>) -> MCPServer {
        let mut server = MCPServer::new("x", Default::default());
        server.spec.ingress_path = Some(path.into());
        server.spec.ingress_host = host.map(Into::into);
        let created = k8s_openapi::jiff::Timestamp::from_second(created).unwrap();
        server.metadata.creation_timestamp = Some(sallyport_api::Time(created));
        server
    }

    #[test]
    fn the_oldest_has_the_place() {
        let settings = Settings::default();
        let servers = BTreeMap::from([
            (ObjectId::new("a", "young"), server(9, "/p/mcp", None)),
            (ObjectId::new("b", "old"), server(1, "/p/mcp/", None)),
            (ObjectId::new("c", "elsewhere"), server(9, "/p/mcp", Some("h.example"))),
            (ObjectId::new("d", "same-host"), server(9, "/p/mcp", Some("H.example"))),
        ]);
        let losers = losers(servers.iter(), &settings);
        assert_eq!(losers.get(&ObjectId::new("a", "young")), Some(&ObjectId::new("b", "old")));
        assert_eq!(losers.get(&ObjectId::new("d", "same-host")), Some(&ObjectId::new("c", "elsewhere")));
        assert_eq!(losers.len(), 2);
    }

    #[test]
    fn who_says_nothing_of_the_host_claims_the_platforms() {
        let mut settings = Settings::default();
        settings.ingress.host = Some("h.example".into());
        let servers = BTreeMap::from([
            (ObjectId::new("a", "a"), server(1, "/p/mcp", None)),
            (ObjectId::new("b", "b"), server(2, "/p/mcp", Some("h.example"))),
        ]);
        assert!(losers(servers.iter(), &settings).contains_key(&ObjectId::new("b", "b")));
    }
}
