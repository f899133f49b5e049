//! The Kubernetes resource types of mcpruntime.org/v1alpha1, their rules and their manifests.
