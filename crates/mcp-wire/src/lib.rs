//! Strict reader of MCP requests: bytes and headers in, the call they make or why that cannot be known out.
