//! Neutral picture of what one proxy must do: no Envoy words, no Kubernetes words.
