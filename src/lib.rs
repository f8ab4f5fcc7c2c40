//! Greenwood.
