//! The adapters in this process, with a backend in its own thread. They use no TLS, because the environment of a process says
//! which certificates it trusts, and the environment of this process is not a function's.

use crate::backend::{Backend, Behaviour};
use crate::error::Error;
use aws::{Environment, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use tokio::runtime::{Builder, Runtime};

/// A backend, and the settings to reach it.
pub(crate) struct InProcess {
    /// Runs on the calling thread.
    pub(crate) runtime: Runtime,
    pub(crate) sdk: SdkConfig,
    pub(crate) backend: Backend,
    /// Runs the backend.
    _thread: Runtime,
}

/// The environment of a function.
pub(crate) fn environment() -> Environment {
    Environment::from_iter([
        ("AWS_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
        ("LEDGER_TABLE_NAME", "ledger"),
    ])
}

impl InProcess {
    pub(crate) fn start(behaviour: Behaviour) -> Result<Self, Error> {
        let thread = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::Server)?;
        let backend = {
            let _inside = thread.enter();
            Backend::start(behaviour, None).map_err(Error::Server)?
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Server)?;
        let sdk = runtime
            .block_on(aws::config::sdk(&environment()))
            .map_err(Error::handler)?
            .into_builder()
            .endpoint_url(format!("http://{}", backend.address()))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "bench")))
            .build();
        Ok(Self { runtime, sdk, backend, _thread: thread })
    }
}
