//! Against a real API server, under the very role that is installed. `python3 e2e/run.py kube_workloads` runs them: it gives
//! them an API server by `KUBECONFIG`. No controllers run there, so nothing but us makes or deletes anything.

mod fixture;
mod rollouts;
mod upkeep;
