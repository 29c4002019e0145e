//! Models of what AWS documents. Each rule names its source and has a test of its own.

pub(crate) mod captured;
pub(crate) mod lambda;
pub(crate) mod shards;
pub(crate) mod source;
pub(crate) mod stream;
