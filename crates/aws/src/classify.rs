//! The one classifier from SDK error to failure kind.
//!
//! Sources: [DynamoDB errors](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html),
//! [BatchStatementError](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html),
//! [PutRecords](https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html).

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::RequestId;
use notification::{Failure, FailureKind};

/// The kind of an error code of DynamoDB or Kinesis. An unknown code is retryable, within the event source's retry limit.
#[must_use]
pub fn code_kind(code: &str) -> FailureKind {
    match code {
        // The request itself is invalid, and would be invalid again.
        "ValidationException"
        | "ValidationError"
        | "SerializationException"
        | "InvalidArgumentException"
        | "ItemCollectionSizeLimitExceeded"
        | "ItemCollectionSizeLimitExceededException"
        | "RequestEntityTooLarge" => FailureKind::Permanent,
        // "The request could not be completed": DynamoDB does not say whether the write took place.
        "InternalServerError"
        | "InternalServerErrorException"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout" => FailureKind::MayHaveHappened,
        // Throttling, in-flight transaction conflicts, and faults that an operator can fix (permissions, keys, a missing table).
        _ => FailureKind::Retryable,
    }
}

fn of_code(code: &str, reason: String) -> Failure {
    match code_kind(code) {
        FailureKind::Retryable => Failure::retryable(reason),
        FailureKind::MayHaveHappened => Failure::may_have_happened(reason),
        FailureKind::Permanent => Failure::permanent(reason),
    }
}

/// Turns the error of a whole call into a failure. Its text has the operation, the code and the request id. It includes AWS's
/// own message only if that is about access or a missing resource: other messages can quote the payload.
pub fn failure<E, R>(operation: &str, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata,
    R: std::fmt::Debug,
    SdkError<E, R>: RequestId,
{
    let request_id = error.request_id().unwrap_or("none");
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("unknown");
            let hint = match code {
                "AccessDeniedException"
                | "AccessDenied"
                | "ResourceNotFoundException"
                | "UnrecognizedClientException"
                | "ExpiredTokenException"
                | "KMSAccessDeniedException"
                | "KMSDisabledException" => {
                    format!(": {}", service.err().message().unwrap_or("check the function's role and the resource"))
                }
                _ => String::new(),
            };
            of_code(code, format!("{operation}: {code} (request {request_id}){hint}"))
        }
        SdkError::TimeoutError(_) => Failure::may_have_happened(format!("{operation}: no answer in time")),
        // The connection broke, perhaps after the request was sent.
        SdkError::DispatchFailure(_) => Failure::may_have_happened(format!(
            "{operation}: the connection failed; check the network and the endpoint"
        )),
        SdkError::ResponseError(_) => {
            Failure::may_have_happened(format!("{operation}: the answer could not be read (request {request_id})"))
        }
        // Nothing was sent: no credentials, no region, no endpoint.
        _ => Failure::retryable(format!("{operation}: the request could not be made; check region and credentials")),
    }
}

/// Turns the error of one entry inside a successful answer into a failure.
#[must_use]
pub fn entry_failure(operation: &str, code: &str) -> Failure {
    of_code(code, format!("{operation}: {code} for this entry"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementError;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    #[test]
    fn each_error_code_has_its_kind() {
        use FailureKind::{MayHaveHappened, Permanent, Retryable};
        let table = [
            ("ProvisionedThroughputExceeded", Retryable),
            ("ProvisionedThroughputExceededException", Retryable),
            ("ThrottlingException", Retryable),
            ("ThrottlingError", Retryable),
            ("RequestLimitExceeded", Retryable),
            ("LimitExceededException", Retryable),
            ("TransactionConflict", Retryable),
            ("TransactionConflictException", Retryable),
            ("TransactionInProgressException", Retryable),
            ("ResourceNotFoundException", Retryable),
            ("AccessDeniedException", Retryable),
            ("ExpiredTokenException", Retryable),
            ("KMSThrottlingException", Retryable),
            ("SomethingNew", Retryable),
            ("InternalServerError", MayHaveHappened),
            ("InternalFailure", MayHaveHappened),
            ("ServiceUnavailable", MayHaveHappened),
            ("ValidationException", Permanent),
            ("ValidationError", Permanent),
            ("InvalidArgumentException", Permanent),
            ("SerializationException", Permanent),
            ("ItemCollectionSizeLimitExceeded", Permanent),
        ];
        for (code, kind) in table {
            assert_eq!(code_kind(code), kind, "{code}");
        }
    }

    fn service(code: &str, message: &str) -> SdkError<BatchExecuteStatementError, HttpResponse> {
        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let response = HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::empty());
        SdkError::service_error(BatchExecuteStatementError::generic(metadata), response)
    }

    fn check(error: &SdkError<BatchExecuteStatementError, HttpResponse>, kind: FailureKind, text: &str) {
        let failure = failure("BatchExecuteStatement", error);
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.reason.contains(text), "{failure}");
    }

    #[test]
    fn rule_7_a_lost_answer_may_have_happened_and_a_request_that_was_not_sent_did_not() {
        check(&SdkError::timeout_error("t"), FailureKind::MayHaveHappened, "no answer in time");
        check(
            &SdkError::dispatch_failure(ConnectorError::io("reset".into())),
            FailureKind::MayHaveHappened,
            "connection",
        );
        let response = HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::empty());
        check(&SdkError::response_error("cut", response), FailureKind::MayHaveHappened, "could not be read");
        check(&SdkError::construction_failure("no region"), FailureKind::Retryable, "could not be made");
    }

    #[test]
    fn a_message_of_aws_is_shown_only_if_it_cannot_quote_the_payload() {
        check(
            &service("AccessDeniedException", "not authorized to PartiQLInsert"),
            FailureKind::Retryable,
            "PartiQLInsert",
        );
        let hidden = failure("BatchExecuteStatement", &service("ValidationException", "bad value: secret"));
        assert!(!hidden.reason.contains("secret"), "{hidden}");
    }
}
