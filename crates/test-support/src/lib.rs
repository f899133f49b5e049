//! Development only: golden files and case loading.
