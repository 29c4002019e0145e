//! Signed calls to services of which only one or two operations are needed.
//!
//! Their crates of the SDK would take minutes to compile. CloudWatch's also turns on features of the SDK's common crates, and
//! Cargo builds a workspace with the features that any of its members needs: the functions would be built with them, too.

use aws::{SdkConfig, SystemClock};
use aws_sdk_lambda::config::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::StatusCode;
use http::header::InvalidHeaderValue;
use notification::{Clock, limits};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use std::error::Error;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, OnceCell};

/// An operation of a service that speaks AWS's JSON protocol.
pub(crate) struct Operation {
    /// The name of the service in its endpoint and in signatures.
    service: &'static str,
    /// The API and its version, and the operation.
    target: &'static str,
    content_type: &'static str,
}

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
pub(crate) const DESCRIBE_ALARMS: Operation = Operation {
    service: "monitoring",
    target: "GraniteServiceVersion20100801.DescribeAlarms",
    content_type: "application/x-amz-json-1.0",
};

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
pub(crate) const GET_METRIC_DATA: Operation = Operation {
    service: "monitoring",
    target: "GraniteServiceVersion20100801.GetMetricData",
    content_type: "application/x-amz-json-1.0",
};

/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_DescribeLogGroups.html>
pub(crate) const DESCRIBE_LOG_GROUPS: Operation = Operation {
    service: "logs",
    target: "Logs_20140328.DescribeLogGroups",
    content_type: "application/x-amz-json-1.1",
};

/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
pub(crate) const FILTER_LOG_EVENTS: Operation =
    Operation { service: "logs", target: "Logs_20140328.FilterLogEvents", content_type: "application/x-amz-json-1.1" };

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeRule.html>
pub(crate) const DESCRIBE_RULE: Operation =
    Operation { service: "events", target: "AWSEvents.DescribeRule", content_type: "application/x-amz-json-1.1" };

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_ListTargetsByRule.html>
pub(crate) const LIST_TARGETS_BY_RULE: Operation =
    Operation { service: "events", target: "AWSEvents.ListTargetsByRule", content_type: "application/x-amz-json-1.1" };

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>
pub(crate) const PUT_METRIC_DATA: Operation = Operation {
    service: "monitoring",
    target: "GraniteServiceVersion20100801.PutMetricData",
    content_type: "application/x-amz-json-1.0",
};

/// Makes signed calls. The credentials and the HTTP client are made at the first call, and kept: a profile may run a program or
/// assume a role for its credentials.
pub(crate) struct Calls {
    config: SdkConfig,
    http: OnceCell<reqwest::Client>,
    /// `None` until the first call.
    identity: Mutex<Option<Identity>>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The operation, and what happened.
    pub(crate) text: String,
    /// Whether the service throttled the call, or failed itself.
    pub(crate) is_retryable: bool,
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.text
    }
}

impl Problem {
    /// One that a repeat would not solve.
    pub(crate) fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_retryable: false }
    }

    fn of_answer(status: StatusCode, body: &str) -> Self {
        let code = error_code(body);
        let is_throttled = status == StatusCode::TOO_MANY_REQUESTS || code.starts_with("Throttling");
        let text = format!("{status} {code}").trim_end().to_owned();
        Self { text, is_retryable: is_throttled || status.is_server_error() }
    }

    fn of(self, operation: &str) -> Self {
        Self { text: format!("{operation}: {}", self.text), ..self }
    }
}

/// A request before it is signed.
struct Unsigned<'a> {
    endpoint: &'a str,
    service: &'a str,
    region: &'a str,
    headers: &'a [(&'static str, &'a str)],
    body: String,
}

impl Calls {
    pub(crate) fn new(config: SdkConfig) -> Self {
        Self { config, http: OnceCell::new(), identity: Mutex::new(None) }
    }

    /// Calls an operation once. Its answer is `null` if the operation has no result. The error names the operation and says why
    /// it failed.
    pub(crate) async fn json(&self, operation: &Operation, request: &Value) -> Result<Value, Problem> {
        let name = operation.target.rsplit('.').next().unwrap_or_default();
        let region = self.region().map_err(|problem| problem.of(name))?;
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let request = Unsigned {
            endpoint: &format!("https://{}.{region}.amazonaws.com{suffix}/", operation.service),
            service: operation.service,
            region,
            headers: &[("content-type", operation.content_type), ("x-amz-target", operation.target)],
            body: request.to_string(),
        };
        let body = self.call(request).await.map_err(|problem| problem.of(name))?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|error| Problem::permanent(error.to_string()).of(name))
    }

    /// The document of a role's inline policy. IAM speaks AWS's query protocol, which answers in XML.
    /// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html>
    pub(crate) async fn role_policy(&self, role: &str, policy: &str) -> Result<String, Problem> {
        let region = self.region()?;
        if region.starts_with("cn-") || region.starts_with("us-gov-") {
            return Err(Problem::permanent(format!("GetRolePolicy: IAM's endpoint for {region} is not known here")));
        }
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let (role, policy) = (encoded(role), encoded(policy));
        let request = Unsigned {
            // IAM is global, and has its endpoint in this region.
            endpoint: "https://iam.amazonaws.com/",
            service: "iam",
            region: "us-east-1",
            headers: &[("content-type", "application/x-www-form-urlencoded")],
            body: format!("Action=GetRolePolicy&Version=2010-05-08&RoleName={role}&PolicyName={policy}"),
        };
        let body = self.call(request).await.map_err(|problem| problem.of("GetRolePolicy"))?;
        let document = element(&body, "PolicyDocument")
            .ok_or_else(|| Problem::permanent("GetRolePolicy: the answer has no policy"))?;
        Ok(percent_decode_str(document).decode_utf8_lossy().into_owned())
    }

    fn region(&self) -> Result<&str, Problem> {
        let region = self.config.region().ok_or_else(|| Problem::permanent("no AWS region is set"))?;
        Ok(region.as_ref())
    }

    /// Returns the body of a successful answer, unless resolving the credentials and the call take too long together.
    async fn call(&self, request: Unsigned<'_>) -> Result<String, Problem> {
        const LONGEST: Duration = limits::NOTIFYCTL_ATTEMPT_TIMEOUT;
        let answered = tokio::time::timeout(LONGEST, self.send(request)).await;
        answered.unwrap_or_else(|_| Err(Problem::permanent(format!("timed out after {} s", LONGEST.as_secs()))))
    }

    /// Signs a request, and sends it.
    async fn send(&self, request: Unsigned<'_>) -> Result<String, Problem> {
        let http = self.http.get_or_try_init(async || http_client()).await.map_err(chain)?;
        let request = self.sign(request).await?;
        let answer = http.execute(request.try_into().map_err(chain)?).await.map_err(chain)?;
        let status = answer.status();
        let body = answer.text().await.map_err(chain)?;
        if status.is_success() {
            return Ok(body);
        }
        if status == StatusCode::FORBIDDEN {
            // The credentials may have expired without saying when.
            *self.identity.lock().await = None;
        }
        Err(Problem::of_answer(status, &body))
    }

    async fn sign(&self, request: Unsigned<'_>) -> Result<http::Request<String>, Problem> {
        let Unsigned { endpoint, service, region, headers, body } = request;
        let url = self.config.endpoint_url();
        let url = url.map_or(endpoint.to_owned(), |url| format!("{}/", url.trim_end_matches('/')));
        let identity = self.identity().await?;
        let mut request = http::Request::post(&url).body(body).map_err(chain)?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().map_err(chain::<InvalidHeaderValue>)?);
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(SystemTime::from(SystemClock.now()))
            .settings(SigningSettings::default())
            .build()
            .map_err(chain)?
            .into();
        let body = SignableBody::Bytes(request.body().as_bytes());
        let signable = SignableRequest::new("POST", &url, headers.iter().copied(), body).map_err(chain)?;
        let (instructions, _) = sign(signable, &parameters).map_err(chain)?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// The credentials, resolved at the first call and again shortly before they expire: some commands run for days.
    async fn identity(&self) -> Result<Identity, Problem> {
        let mut kept = self.identity.lock().await;
        let soon = SystemTime::from(SystemClock.now()) + limits::NOTIFYCTL_ATTEMPT_TIMEOUT;
        let is_good = |identity: &&Identity| identity.expiration().is_none_or(|expiration| expiration > soon);
        if let Some(identity) = kept.as_ref().filter(is_good) {
            return Ok(identity.clone());
        }
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| Problem::permanent("there are no credentials"))?;
        let identity = Identity::from(provider.provide_credentials().await.map_err(chain)?);
        *kept = Some(identity.clone());
        Ok(identity)
    }
}

/// A client that does not follow redirects: reqwest would send the session token to the other host.
fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()
}

/// The code of an error, for example `{"__type":"…#AccessDeniedException", …}` or `<Code>AccessDenied</Code>`.
fn error_code(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let code = json["__type"].as_str().or_else(|| element(body, "Code")).unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default().to_owned()
}

/// The text of the first element of this name in an XML document.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// An error with its causes, for example "…: Connection refused".
fn chain<E: Error>(error: E) -> Problem {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Problem::permanent(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::credential_fn::provide_credentials_fn;
    use aws_sdk_lambda::config::{Credentials, SharedCredentialsProvider};
    use serde_json::Map;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers each request with the same bytes, and counts them.
    async fn server(answer: String) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = vec![];
                while !request.ends_with(b"}") {
                    assert!(connection.read_buf(&mut request).await.unwrap() > 0);
                }
                counted.fetch_add(1, Ordering::Relaxed);
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, requests)
    }

    fn answer(head: &str) -> String {
        format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    /// Calls to this URL, and how often their credentials were resolved. They are valid for this long.
    async fn calls(url: &str, valid: Duration) -> (Calls, Arc<AtomicUsize>) {
        let resolved = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&resolved);
        let provider = provide_credentials_fn(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let expires = SystemTime::from(SystemClock.now()) + valid;
            async move { Ok(Credentials::new("id", "secret", Some("token".to_owned()), Some(expires), "test")) }
        });
        let config = crate::testing::stack().await.config.into_builder().endpoint_url(url);
        (Calls::new(config.credentials_provider(SharedCredentialsProvider::new(provider)).build()), resolved)
    }

    #[tokio::test]
    async fn credentials_are_resolved_once_and_again_when_they_expire() {
        let (url, _) = server(answer("200 OK")).await;
        for (valid, expected) in [(Duration::from_hours(1), 1), (Duration::from_secs(1), 3)] {
            let (calls, resolved) = calls(&url, valid).await;
            for _ in 0..3 {
                calls.json(&DESCRIBE_RULE, &Value::Object(Map::new())).await.unwrap();
            }
            assert_eq!(resolved.load(Ordering::Relaxed), expected);
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (elsewhere, requests) = server(answer("200 OK")).await;
        let (url, _) = server(answer(&format!("307 -\r\nlocation: {elsewhere}/"))).await;
        let (calls, _) = calls(&url, Duration::from_hours(1)).await;
        let problem = calls.json(&DESCRIBE_RULE, &Value::Object(Map::new())).await.unwrap_err();
        assert!(problem.text.starts_with("DescribeRule: 307") && !problem.is_retryable, "{problem:?}");
        assert_eq!(requests.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_error_is_told_with_its_causes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (calls, _) = calls(&url, Duration::from_hours(1)).await;
        let problem = calls.json(&DESCRIBE_RULE, &Value::Object(Map::new())).await.unwrap_err();
        assert!(problem.text.contains("Connection refused"), "{problem:?}");
    }

    #[test]
    fn a_call_that_was_throttled_or_failed_in_the_service_may_be_repeated() {
        let is_retryable = |code, body| Problem::of_answer(StatusCode::from_u16(code).unwrap(), body).is_retryable;
        assert!(is_retryable(400, r#"{"__type":"ThrottlingException"}"#));
        assert!(is_retryable(429, "") && is_retryable(503, ""));
        assert!(!is_retryable(400, r#"{"__type":"AccessDeniedException"}"#) && !is_retryable(404, ""));
    }

    #[test]
    fn an_error_has_its_code_in_both_protocols() {
        assert_eq!(
            error_code(r#"{"__type":"com.amazonaws.logs#AccessDeniedException","message":"m"}"#),
            "AccessDeniedException"
        );
        assert_eq!(
            error_code("<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>"),
            "NoSuchEntity"
        );
        assert_eq!(error_code("<html>"), "");
    }

    #[test]
    fn an_element_is_found_by_its_name() {
        assert_eq!(element("<a><b>x%7B</b></a>", "b"), Some("x%7B"));
        assert_eq!(element("<a></a>", "b"), None);
    }
}
