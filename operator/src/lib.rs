//! The control plane process: sources, index, xDS server, status.
