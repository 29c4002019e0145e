//! The adapters between the domain's ports and AWS. Thin on purpose: each port method is one SDK call, and every SDK
//! error passes through the one classifier.
//!
//! | file | concern |
//! |---|---|
//! | [`table`] | the DynamoDB table |
//! | [`stream`] | the Kinesis stream |
//! | [`queue`] | the SQS queue |
//! | [`clock`] | the system's clock |
//! | [`classify`] | SDK error → failure kind |
//! | [`config`] | environment and SDK settings |
//! | [`telemetry`] | logs and metrics |
//! | `tls` | whom the functions trust as AWS |

pub mod classify;
pub mod clock;
pub mod config;
pub mod queue;
pub mod stream;
pub mod table;
pub mod telemetry;
mod tls;

pub use aws_config::SdkConfig;
pub use clock::SystemClock;
pub use queue::SqsQueue;
pub use stream::KinesisStream;
pub use table::DynamoTable;
