//! The adapters between the domain's ports and AWS. They are thin: each port method is one SDK call, and one classifier
//! handles every SDK error.
//!
//! | file | concern |
//! |---|---|
//! | [`table`] | the DynamoDB table |
//! | [`stream`] | the Kinesis stream |
//! | [`queue`] | the SQS queue |
//! | [`clock`] | the system's clock |
//! | [`classify`] | SDK error → failure kind |
//! | [`environment`], [`config`] | environment variables, settings, the SDK's settings |
//! | [`telemetry`] | logs and metrics |
//! | `tls` | which certificates the functions trust |
//! | `function` | the process of a function, with the feature `lambda` |

pub mod classify;
pub mod clock;
pub mod config;
pub mod environment;
#[cfg(feature = "lambda")]
pub mod function;
pub mod queue;
pub mod stream;
pub mod table;
pub mod telemetry;
mod tls;

pub use aws_config::SdkConfig;
pub use clock::SystemClock;
pub use environment::{ConfigError, Environment};
#[cfg(feature = "lambda")]
pub use function::Function;
pub use queue::SqsQueue;
pub use stream::KinesisStream;
pub use table::DynamoTable;
