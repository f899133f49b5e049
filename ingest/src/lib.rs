//! Receives audit batches, checks their chains, stores them durably, acknowledges.
