//! Who may ask: the page itself, in the browser of the person who started the server.
//!
//! Any web page can send requests to a port of this machine, so three things are checked:
//! - the host name: a name that someone else's DNS server resolves to 127.0.0.1 is refused ("DNS rebinding");
//! - the origin: a request that another site's page made is refused;
//! - the token, which is new at each start and printed with the address: without it, other users of this machine get nothing.

use super::answer::Answer;
use crate::error::Error;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

/// The path of everything that needs the token. The page without data does not.
pub(crate) const API: &str = "/api/";

/// The header with the token.
pub(crate) const TOKEN: &str = "x-notifyctl-token";

/// Says which requests are answered.
pub(crate) struct Guard {
    hosts: [String; 2],
    token: String,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Host,
    Origin,
    Token,
    Method,
}

impl Guard {
    /// A guard with a new token, of 128 random bits.
    pub(crate) fn new(port: u16) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|cause| Error::Failed(format!("the system has no randomness: {cause}")))?;
        let hosts = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
        Ok(Self { hosts, token: format!("{:032x}", u128::from_ne_bytes(bytes)) })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn check(&self, request: &Parts) -> Result<(), Refused> {
        let header = |name| text(&request.headers, name);
        let host = header(header::HOST.as_str());
        if !self.hosts.iter().any(|allowed| host == Some(allowed)) {
            return Err(Refused::Host);
        }
        // Browsers that send no Sec-Fetch-Site send Origin with what can change anything.
        let origin = header(header::ORIGIN.as_str());
        let is_own = |origin: &str| origin.strip_prefix("http://") == host;
        // "none": typed by the user.
        let is_same = |site: &str| ["same-origin", "none"].contains(&site);
        let is_from_elsewhere = !origin.is_none_or(is_own) || !header("sec-fetch-site").is_none_or(is_same);
        if is_from_elsewhere && !is_visit(request) {
            return Err(Refused::Origin);
        }
        if ![Method::GET, Method::POST].contains(&request.method) {
            return Err(Refused::Method);
        }
        let has_token = || header(TOKEN).is_some_and(|token| is_equal(token, &self.token));
        if request.uri.path().starts_with(API) && !has_token() {
            return Err(Refused::Token);
        }
        Ok(())
    }
}

/// Whether the browser opens the page itself, as a document of its own: by a link, for example from the file that `make demo UI=1`
/// opens. The page has no data, and what led to it cannot read it.
fn is_visit(request: &Parts) -> bool {
    let header = |name| text(&request.headers, name);
    let is_document = header("sec-fetch-mode") == Some("navigate") && header("sec-fetch-dest") == Some("document");
    is_document && request.method == Method::GET && request.uri.path() == "/"
}

/// A header, if it is there once. A header that is there twice or is no text counts as an empty one.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()).unwrap_or_default())
}

/// Compares in a time that does not depend on where the texts differ.
fn is_equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let (status, text) = match refused {
            Refused::Host => (StatusCode::MISDIRECTED_REQUEST, "open the address that notifyctl printed"),
            Refused::Origin => (StatusCode::FORBIDDEN, "requests of other sites are refused"),
            Refused::Token => {
                (StatusCode::UNAUTHORIZED, "open the address that notifyctl printed, with all after the #")
            }
            Refused::Method => (StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are answered"),
        };
        Self::problem(status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn guard() -> Guard {
        Guard::new(8734).unwrap()
    }

    /// Checks a request of a path with these headers; TOKEN as a value is the right token.
    fn check(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<(), Refused> {
        let guard = guard();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, if *value == "TOKEN" { guard.token() } else { value });
        }
        guard.check(&request.body(()).unwrap().into_parts().0)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8734");
    const RIGHT: (&str, &str) = (TOKEN, "TOKEN");

    #[test]
    fn a_host_name_that_is_not_this_machine_is_refused() {
        for host in ["127.0.0.1:8734", "localhost:8734"] {
            assert_eq!(check("GET", "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["attacker.example:8734", "127.0.0.1", "127.0.0.1:80", "localhost:8734.attacker.example", ""] {
            assert_eq!(check("GET", "/", &[("host", host)]), Err(Refused::Host), "{host}");
        }
        assert_eq!(check("GET", "/", &[]), Err(Refused::Host));
        assert_eq!(check("GET", "/", &[HOST, HOST]), Err(Refused::Host));
    }

    #[test]
    fn a_request_of_another_site_is_refused_even_with_the_token() {
        let with = |name, value| check("POST", "/api/decision", &[HOST, RIGHT, (name, value)]);
        assert_eq!(with("origin", "http://127.0.0.1:8734"), Ok(()));
        for origin in ["https://attacker.example", "http://127.0.0.1:80", "http://localhost:8734", "null", ""] {
            assert_eq!(with("origin", origin), Err(Refused::Origin), "{origin}");
        }
        for (site, expected) in [
            ("same-origin", Ok(())),
            ("none", Ok(())),
            ("cross-site", Err(Refused::Origin)),
            ("same-site", Err(Refused::Origin)),
        ] {
            assert_eq!(with("sec-fetch-site", site), expected, "{site}");
        }
    }

    #[test]
    fn a_link_may_lead_to_the_page_but_not_to_its_data_nor_into_a_frame() {
        let from_elsewhere = ("sec-fetch-site", "cross-site");
        let visit = |method, path, mode, destination| {
            check(
                method,
                path,
                &[HOST, RIGHT, from_elsewhere, ("sec-fetch-mode", mode), ("sec-fetch-dest", destination)],
            )
        };
        assert_eq!(visit("GET", "/", "navigate", "document"), Ok(()));
        for (method, path, mode, destination) in [
            ("GET", "/", "navigate", "iframe"),
            ("GET", "/", "no-cors", "document"),
            ("GET", "/app.js", "navigate", "document"),
            ("GET", "/api/flow", "navigate", "document"),
            ("POST", "/", "navigate", "document"),
        ] {
            let refused = visit(method, path, mode, destination);
            assert_eq!(refused, Err(Refused::Origin), "{method} {path} {mode} {destination}");
        }
    }

    #[test]
    fn data_and_changes_need_the_token_and_the_empty_page_does_not() {
        assert_eq!(check("GET", "/app.js", &[HOST]), Ok(()));
        for method in ["GET", "POST"] {
            assert_eq!(check(method, "/api/flow", &[HOST, RIGHT]), Ok(()));
            assert_eq!(check(method, "/api/flow", &[HOST]), Err(Refused::Token));
            assert_eq!(check(method, "/api/flow", &[HOST, (TOKEN, "")]), Err(Refused::Token));
            assert_eq!(check(method, "/api/flow", &[HOST, RIGHT, RIGHT]), Err(Refused::Token));
            assert_eq!(check(method, "/api/flow", &[HOST, (TOKEN, &"0".repeat(32))]), Err(Refused::Token));
        }
        assert_eq!(check("OPTIONS", "/api/flow", &[HOST, RIGHT]), Err(Refused::Method), "no preflight succeeds");
    }

    #[test]
    fn each_start_has_another_token() {
        assert_eq!(guard().token().len(), 32);
        assert_ne!(guard().token(), guard().token());
    }
}
