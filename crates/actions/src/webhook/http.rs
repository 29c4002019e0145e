//! One HTTP request to the receiver. What its answer means, and whether another follows, is decided elsewhere.

use notification::{Guarantee, limits};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, Url};

/// A POST request: its headers by name, and its body.
#[derive(Debug)]
pub struct Request<'a> {
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: &'a str,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// There was no connection, so the receiver did nothing.
    NotConnected,
    /// The connection broke, so the receiver may have done what it was asked for.
    Broken,
}

/// Sends requests to one receiver.
pub trait Post: Send + Sync {
    /// Sends a request, once, and returns the answer as soon as its headers have arrived.
    ///
    /// # Errors
    /// [`NoAnswer`] says whether the receiver may have received the request.
    fn post(&self, request: Request<'_>) -> impl Future<Output = Result<Response, NoAnswer>> + Send;
}

/// Sends requests to a URL.
#[derive(Debug)]
pub struct Http {
    client: Client,
    url: Url,
}

impl Http {
    /// A client for this URL that suits the guarantee.
    ///
    /// # Errors
    /// No client can be created.
    pub(super) fn new(url: Url, guarantee: Guarantee) -> reqwest::Result<Self> {
        Ok(Self { client: client(guarantee).build()?, url })
    }
}

impl Post for Http {
    async fn post(&self, request: Request<'_>) -> Result<Response, NoAnswer> {
        let mut builder = self.client.post(self.url.clone()).body(request.body.to_owned());
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        // The text of an error contains the URL, which may contain a token.
        builder.send().await.map_err(|error| if error.is_connect() { NoAnswer::NotConnected } else { NoAnswer::Broken })
    }
}

fn client(guarantee: Guarantee) -> ClientBuilder {
    let client = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(limits::WEBHOOK_CONNECT_TIMEOUT)
        .user_agent(concat!("atomic-notification-service/", env!("CARGO_PKG_VERSION")));
    match guarantee {
        // Lambda freezes the process between invocations, and receivers then close idle connections. A call on such a
        // connection fails with an unknown outcome, so the notification becomes IN_DOUBT for no reason. A new connection
        // costs less. The client retries calls that the receiver refused to process, which is disabled as well.
        Guarantee::AtMostOnce { .. } => client.pool_max_idle_per_host(0).retry(reqwest::retry::never()),
        _ => client.pool_max_idle_per_host(limits::ACTIONS_IN_FLIGHT),
    }
}
