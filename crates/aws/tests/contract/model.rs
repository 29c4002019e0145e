//! The model of AWS as an engine: each client's requests are answered in the process.

use aws_model::{Aws, Request};
use aws_sdk_dynamodb::config::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use notification::Clock;
use std::sync::Mutex;

/// A model that answers at once.
#[derive(Debug, Default)]
struct InProcess(Mutex<Aws>);

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let request = Request { target, body: request.body().bytes().unwrap_or_default() };
        let response = self.0.lock().unwrap().handle(request, aws::SystemClock.now(), &|_| None);
        HttpConnectorFuture::ready(Ok(HttpResponse::new(response.status.try_into().unwrap(), response.body.into())))
    }
}

/// An HTTP client for a new model, in which nothing exists yet.
pub(crate) fn http_client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(InProcess::default());
    http_client_fn(move |_, _| connector.clone())
}

/// Credentials that the model does not check.
pub(crate) fn credentials() -> Credentials {
    Credentials::new("model", "model", None, None, "contract")
}
