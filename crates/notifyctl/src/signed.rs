//! Signed calls to services of which only one or two operations are needed.
//!
//! Their crates of the SDK would take minutes to compile. CloudWatch's also turns on features of the SDK's common crates, and
//! Cargo builds a workspace with the features that any of its members needs: the functions would be built with them, too.

use aws::{SdkConfig, SystemClock};
use aws_sdk_lambda::config::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use notification::{Clock, limits};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Display;
use std::time::SystemTime;

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

/// Calls an operation once. Its answer is `null` if the operation has no result. The error names the operation and says why it
/// failed.
pub(crate) async fn json(config: &SdkConfig, operation: &Operation, request: &Value) -> Result<Value, String> {
    let region = region(config)?;
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    let endpoint = format!("https://{}.{region}.amazonaws.com{suffix}/", operation.service);
    let headers = [("content-type", operation.content_type), ("x-amz-target", operation.target)];
    let name = operation.target.rsplit('.').next().unwrap_or_default();
    let called = call(config, &endpoint, operation.service, region, &headers, request.to_string()).await;
    let body = called.map_err(|reason| format!("{name}: {reason}"))?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&body).map_err(|error| format!("{name}: {error}"))
}

/// The document of a role's inline policy. IAM speaks AWS's query protocol, which answers in XML.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html>
pub(crate) async fn role_policy(config: &SdkConfig, role: &str, policy: &str) -> Result<String, String> {
    let region = region(config)?;
    if region.starts_with("cn-") || region.starts_with("us-gov-") {
        return Err(format!("GetRolePolicy: IAM's endpoint for {region} is not known here"));
    }
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let (role, policy) = (encoded(role), encoded(policy));
    let body = format!("Action=GetRolePolicy&Version=2010-05-08&RoleName={role}&PolicyName={policy}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    // IAM is global, and has its endpoint in this region.
    let called = call(config, "https://iam.amazonaws.com/", "iam", "us-east-1", &headers, body).await;
    let body = called.map_err(|reason| format!("GetRolePolicy: {reason}"))?;
    let document = element(&body, "PolicyDocument").ok_or("GetRolePolicy: the answer has no policy")?;
    Ok(percent_decode_str(document).decode_utf8_lossy().into_owned())
}

fn region(config: &SdkConfig) -> Result<&str, String> {
    Ok(config.region().ok_or("no AWS region is set")?.as_ref())
}

/// Signs a request, sends it, and returns the body of a successful answer.
async fn call(
    config: &SdkConfig,
    endpoint: &str,
    service: &str,
    region: &str,
    headers: &[(&'static str, &str)],
    body: String,
) -> Result<String, String> {
    let url = config.endpoint_url().map_or(endpoint.to_owned(), |url| format!("{}/", url.trim_end_matches('/')));
    let provider = config.credentials_provider().ok_or("there are no credentials")?;
    let identity: Identity = provider.provide_credentials().await.map_err(text)?.into();
    let mut request = http::Request::post(&url).body(body).map_err(text)?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().map_err(text)?);
    }
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(SystemTime::from(SystemClock.now()))
        .settings(SigningSettings::default())
        .build()
        .map_err(text)?
        .into();
    let signable =
        SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(request.body().as_bytes()));
    let (instructions, _) = sign(signable.map_err(text)?, &parameters).map_err(text)?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    let mut request = reqwest::Request::try_from(request).map_err(text)?;
    *request.timeout_mut() = Some(limits::SIGNED_CALL_TIMEOUT);
    let answer = reqwest::Client::new().execute(request).await.map_err(text)?;
    let status = answer.status();
    let body = answer.text().await.map_err(text)?;
    if status.is_success() { Ok(body) } else { Err(format!("{status} {}", error_code(&body)).trim_end().to_owned()) }
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

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
