//! The meaning of a receiver's answer.

use notification::deadline::within;
use notification::{ActionError, Clock, Deadline, Guarantee, Timestamp, limits};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// A delivery that did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ActionError,
    pub(super) next: Next,
}

/// What may make a refused delivery succeed within the same run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Waiting this long, as the receiver asks.
    Wait(Duration),
    /// Checking whether the signing secret has changed.
    CheckSecret,
}

/// The meaning of an answer other than 2xx. Its body is not read.
pub(super) fn refusal(response: &Response, guarantee: Guarantee, now: Timestamp) -> Refusal {
    let status = response.status();
    let next = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Next::CheckSecret,
        _ => retry_after(response.headers(), now).map_or(Next::Nothing, Next::Wait),
    };
    Refusal { error: error_for(status, guarantee), next }
}

fn error_for(status: StatusCode, guarantee: Guarantee) -> ActionError {
    let text = format!("the receiver answered {}", status.as_u16());
    match status {
        // The receiver says that it did nothing.
        StatusCode::TOO_EARLY => ActionError::Retry(text),
        StatusCode::TOO_MANY_REQUESTS => ActionError::Throttled(text),
        // Receivers that deduplicate answer 409 while an earlier call with the same key is in progress
        // (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/). At most once has no earlier call.
        StatusCode::CONFLICT if matches!(guarantee, Guarantee::Idempotent { .. }) => {
            ActionError::Retry(format!("{text}: an earlier call with this key is in progress"))
        }
        StatusCode::REQUEST_TIMEOUT => ActionError::MayHaveHappened(text),
        status if status.is_server_error() => ActionError::MayHaveHappened(text),
        status if status.is_redirection() => ActionError::Rejected(format!("{text}; redirects are not followed")),
        _ => ActionError::Rejected(text),
    }
}

/// How long the receiver asks to wait: seconds, or until a date
/// (<https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>). `None` if it asks for no wait or the header is malformed.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
        Duration::try_from(date.duration_since(now)).ok()?
    };
    Some(wait).filter(|wait| !wait.is_zero())
}

/// The outcome of a 2xx answer. The status settles the delivery, so problems with the body are not errors, and the body is
/// not waited for beyond the deadline.
pub(super) async fn outcome(response: Response, clock: &impl Clock, deadline: Deadline) -> Value {
    let status = response.status().as_u16();
    let body = deadline
        .earlier(limits::REPORT_BEFORE_DEADLINE)
        .bound(clock, within(clock, limits::WEBHOOK_BODY_TIMEOUT, body_of(response)));
    let omitted = match body.await {
        Ok(Some(Ok(body))) => {
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
            return json!({"status": status, "body": body});
        }
        Ok(Some(Err(omitted))) => omitted,
        Ok(None) => format!("the body took longer than {} s", limits::WEBHOOK_BODY_TIMEOUT.as_secs()),
        Err(_) => "the deadline left no time for the body".to_owned(),
    };
    json!({"status": status, "omitted": omitted})
}

/// Reads the body up to a limit, so that a receiver cannot exhaust the memory; or says why it is omitted.
async fn body_of(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| "the connection broke within the body")? {
        if body.len() + chunk.len() > limits::WEBHOOK_ANSWER_MAX_BYTES {
            return Err(format!("the body has more than {} bytes", limits::WEBHOOK_ANSWER_MAX_BYTES));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: limits::WEBHOOK_TIMEOUT };
    const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: limits::WEBHOOK_TIMEOUT };

    #[test]
    fn each_answer_has_its_meaning() {
        let kind = |status: u16, guarantee| match error_for(StatusCode::from_u16(status).unwrap(), guarantee) {
            ActionError::Rejected(_) => "rejected",
            ActionError::Retry(_) => "retry",
            ActionError::Throttled(_) => "throttled",
            ActionError::Unavailable(_) => "unavailable",
            ActionError::MayHaveHappened(_) => "may have happened",
        };
        for guarantee in [IDEMPOTENT, AT_MOST_ONCE] {
            assert_eq!([425, 429].map(|status| kind(status, guarantee)), ["retry", "throttled"]);
            for status in [408, 500, 502, 503, 504] {
                assert_eq!(kind(status, guarantee), "may have happened", "{status}");
            }
            for status in [301, 307, 400, 401, 403, 404, 410, 422] {
                assert_eq!(kind(status, guarantee), "rejected", "{status}");
            }
        }
        assert_eq!(kind(409, IDEMPOTENT), "retry", "an earlier call with this key is in progress");
        assert_eq!(kind(409, AT_MOST_ONCE), "rejected", "there was no earlier call");
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = Timestamp::from_second(784_111_770).unwrap();
        let check = |text: &str, expected: Option<u64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check("18446744073709551615", Some(u64::MAX));
        // The three forms of https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats.
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(7));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(7));
        check("Sun Nov  6 08:49:37 1994", Some(7));
        for no_wait in ["0", "-1", "1.5", "", "soon", "Sun, 06 Nov 1994 08:49:30 GMT", "Sun, 06 Nov 1994 08:49:00 GMT"]
        {
            check(no_wait, None);
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
