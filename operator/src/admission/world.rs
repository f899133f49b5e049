//! The other objects, as the index holds them.

use std::sync::{Arc, Mutex};

use sallyport_api::v1alpha1::MCPServer;
use sallyport_operator_index::Index;
use sallyport_policy::ObjectId;

use super::review::World;
use crate::lock::lock;

impl World for Mutex<Index> {
    fn server(&self, id: &ObjectId) -> Option<Arc<MCPServer>> {
        lock(self).server(id).cloned()
    }

    fn in_the_way(&self, server: &MCPServer) -> Option<ObjectId> {
        lock(self).in_the_way(server).cloned()
    }
}
