//! Protobuf of audit events, their sequence and hash chain.
