//! greenwood-runtime.
