//! DynamoDB, Kinesis and SQS at the level of HTTP: requests and answers as the SDK sends and reads them, for the operations
//! that this project uses. It is pure and synchronous: no I/O, no clock and no randomness. Whoever drives it decides when a
//! request takes effect, which of its entries fail, and when an index follows its table.
//!
//! It accepts only what it models. Any other operation, member, statement or expression gets a `ValidationException`, so
//! nothing that the adapters send is ignored. The contract suite of `crates/aws` runs on this model as on real engines.
//!
//! | file | concern |
//! |---|---|
//! | `dynamodb` | tables, their indexes and streams, and the operations on them |
//! | `kinesis` | streams of one shard |
//! | [`sqs`] | the one operation of SQS; the queue itself is the caller's |
//! | `error` | errors, and which members a request may have |

pub mod dynamodb;
mod error;
pub mod kinesis;
pub mod sqs;

pub use dynamodb::DynamoDb;
use error::Error;
use jiff::Timestamp;
pub use kinesis::Kinesis;
use serde_json::{Value, json};

/// An HTTP request to one of the services: all of them use a JSON protocol.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html>
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The header `x-amz-target`: the service and the operation.
    pub target: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, in JSON.
    pub body: String,
}

impl Response {
    /// A refusal of the whole request.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self { status, body: json!({"__type": code, "message": message}).to_string() }
    }
}

impl From<Result<Value, Error>> for Response {
    fn from(answer: Result<Value, Error>) -> Self {
        match answer {
            Ok(body) => Self { status: 200, body: body.to_string() },
            Err(error) => error.response(),
        }
    }
}

/// Why one entry of a call fails although the call succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFault {
    /// There is not enough capacity for it.
    Throttled,
    /// A transaction is in progress on its item.
    Conflict,
    /// The service failed.
    Internal,
}

/// The fault of the entry at a place of a call; `None` if the entry is processed.
pub type EntryFaults<'a> = &'a dyn Fn(usize) -> Option<EntryFault>;

/// The services together.
#[derive(Debug, Default)]
pub struct Aws {
    /// DynamoDB and its streams.
    pub dynamodb: DynamoDb,
    /// Kinesis.
    pub kinesis: Kinesis,
}

impl Aws {
    /// Lets a request take effect, and answers it.
    pub fn handle(&mut self, request: Request<'_>, now: Timestamp, faults: EntryFaults<'_>) -> Response {
        let Ok(body) = serde_json::from_slice(request.body) else {
            return Response::error(400, "SerializationException", "the body is not JSON");
        };
        match request.target.split_once('.') {
            Some(("DynamoDB_20120810", operation)) => self.dynamodb.handle(operation, &body, now, faults),
            Some(("DynamoDBStreams_20120810", operation)) => self.dynamodb.handle_streams(operation, &body, now),
            Some(("Kinesis_20131202", operation)) => self.kinesis.handle(operation, &body, now, faults),
            _ => Err(Error::unknown_operation(request.target)),
        }
        .into()
    }
}
