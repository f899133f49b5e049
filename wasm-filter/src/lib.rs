//! The Envoy filter: host calls and contexts around sallyport-filter-core.
