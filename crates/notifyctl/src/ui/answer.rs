//! Answers to the browser, each with the headers that keep the page to itself.

use crate::error::Error;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// The page may load its own script and style sheet, call its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// On every answer. See <https://cheatsheetseries.owasp.org/cheatsheets/HTTP_Headers_Cheat_Sheet.html>.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    pub(crate) const fn html(text: &'static str) -> Self {
        Self::asset("text/html; charset=utf-8", text)
    }

    pub(crate) const fn css(text: &'static str) -> Self {
        Self::asset("text/css; charset=utf-8", text)
    }

    pub(crate) const fn script(text: &'static str) -> Self {
        Self::asset("text/javascript; charset=utf-8", text)
    }

    const fn asset(content_type: &'static str, text: &'static str) -> Self {
        Self { status: StatusCode::OK, content_type, body: Bytes::from_static(text.as_bytes()) }
    }

    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    /// What is wrong, in a sentence.
    pub(crate) fn problem(status: StatusCode, text: &str) -> Self {
        Self::json_with(status, &json!({"error": text}))
    }

    fn json_with(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default().into();
        Self { status, content_type: "application/json", body }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

/// An error behind the server: a call to AWS failed.
impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::problem(StatusCode::BAD_GATEWAY, &error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_the_headers_that_keep_the_page_to_itself() {
        for answer in [Answer::html(""), Answer::json(&1), Answer::problem(StatusCode::NOT_FOUND, "")] {
            let response = answer.into_response();
            let header = |name: &str| response.headers()[name].to_str().unwrap();
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff", "no-store"));
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(response.headers().get("access-control-allow-origin"), None);
        }
    }

    #[test]
    fn the_page_follows_the_policy() {
        let html = crate::ui::HTML;
        for inline in ["<style", " style=", "<script>", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!html.contains(inline), "{inline}");
        }
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!crate::ui::SCRIPT.contains(sink), "{sink}");
        }
    }
}
