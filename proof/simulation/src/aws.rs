//! Models of what AWS documents. Each rule names its source and has a test of its own.

pub mod shards;
pub mod table;
