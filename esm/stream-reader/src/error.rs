//! Why a call to AWS failed, in one line. The SDK's own text contains whole requests.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Error codes that mean: too many calls. The SDK has already repeated the call for some seconds.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
const THROTTLED: [&str; 4] =
    ["LimitExceededException", "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"];

/// A call to AWS that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {cause}")]
pub struct CallError {
    call: &'static str,
    /// The service's error code, if the service answered.
    code: Option<String>,
    cause: String,
}

impl CallError {
    /// An error with its cause in words.
    #[must_use]
    pub fn new(call: &'static str, cause: String) -> Self {
        Self { call, code: None, cause }
    }

    /// Turns the error of an SDK call into one line.
    pub fn of<E: ProvideErrorMetadata, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Self {
        move |error| {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
            Self { call, code, cause: cause(&error) }
        }
    }

    /// Whether there were too many calls: a later one may succeed.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        THROTTLED.iter().any(|code| self.has_code(code))
    }

    /// Whether the shard iterator was not used for too long.
    #[must_use]
    pub fn is_expired_iterator(&self) -> bool {
        self.has_code("ExpiredIteratorException")
    }

    /// Whether the records at this place are older than the stream keeps them.
    #[must_use]
    pub fn is_trimmed(&self) -> bool {
        self.has_code("TrimmedDataAccessException")
    }

    /// Whether the stream or the shard does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.has_code("ResourceNotFoundException")
    }

    fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

fn cause<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service) => {
            let (code, message) = (service.err().code(), service.err().message());
            format!("{}: {}", code.unwrap_or("unknown error"), message.unwrap_or("no message"))
        }
        SdkError::TimeoutError(_) => "no answer in time; check the network and AWS_ENDPOINT_URL".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            "the endpoint cannot be reached; check the network and AWS_ENDPOINT_URL".to_owned()
        }
        // The SDK reports missing credentials as a dispatch failure, too.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            "the request could not be made; check the credentials and AWS_REGION".to_owned()
        }
        _ => "the answer could not be read; is AWS_ENDPOINT_URL an AWS endpoint?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsError;
    use aws_sdk_dynamodbstreams::types::error::LimitExceededException;
    use aws_smithy_types::error::ErrorMetadata;

    fn with_code(code: &str) -> CallError {
        let error = GetRecordsError::generic(ErrorMetadata::builder().code(code).build());
        CallError::of("GetRecords")(SdkError::service_error(error, ()))
    }

    #[test]
    fn a_throttled_call_is_told_from_one_that_fails() {
        for code in ["LimitExceededException", "ThrottlingException", "ProvisionedThroughputExceededException"] {
            assert!(with_code(code).is_throttled(), "{code}");
        }
        for code in ["AccessDeniedException", "ExpiredIteratorException"] {
            assert!(!with_code(code).is_throttled(), "{code}");
        }
        let metadata = ErrorMetadata::builder().code("LimitExceededException").build();
        let modeled = LimitExceededException::builder().meta(metadata).build();
        let error = SdkError::service_error(GetRecordsError::LimitExceededException(modeled), ());
        assert!(CallError::of("GetRecords")(error).is_throttled(), "the SDK knows this error by its type");
    }

    #[test]
    fn the_text_has_the_call_the_code_and_the_message_of_the_service() {
        let error = GetRecordsError::generic(ErrorMetadata::builder().code("AccessDenied").message("no").build());
        let error = CallError::of("GetRecords")(SdkError::service_error(error, ()));
        assert_eq!(error.to_string(), "GetRecords failed: AccessDenied: no");
    }
}
