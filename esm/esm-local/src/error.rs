//! What ends `esm-local`.

/// A line for the user: what failed, for which function or stream, and what to do about it.
pub(crate) type Error = Box<dyn std::error::Error>;
