//! Against a real API server, under the very role that is installed. No controllers run there, so nothing but us makes or deletes
//! anything. Without the server's binaries these tests say that they are left out (`SALLYPORT_KUBE_BIN`).

mod fixture;
mod rollouts;
mod upkeep;
