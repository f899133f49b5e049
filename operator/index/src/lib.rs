//! Watch events in; what each proxy must do and know out; no client calls.
