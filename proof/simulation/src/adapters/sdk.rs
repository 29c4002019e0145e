//! The SDK's clients of one invocation: the settings of the functions, over the world's network, clock and sleep.

use super::cloud::{NOTIFICATIONS, STREAM};
use super::request::Request;
use super::wire::Reply;
use crate::aws::lambda::Task;
use crate::ports::Ports;
use crate::rng;
use crate::world::lock;
use ::aws::{DynamoTable, Environment, KinesisStream, SdkConfig, SqsQueue, config};
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_sdk_dynamodb::config::{Credentials, IdentityCache, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use notification::Clock;
use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// The SDK's settings of the functions.
static SETTINGS: LazyLock<SdkConfig> = LazyLock::new(|| {
    let environment = Environment::from_iter([("AWS_REGION", "us-east-1")]);
    let mut context = Context::from_waker(Waker::noop());
    match pin!(config::sdk(&environment)).poll(&mut context) {
        Poll::Ready(Ok(settings)) => settings,
        other => unreachable!("the settings need only a region, and nothing to wait for: {other:?}"),
    }
});

/// The clients of one invocation.
pub(super) struct Sdk {
    settings: SdkConfig,
    /// Retries of one process share a budget. The SDK's default is one budget for all clients of the process that simulates.
    retries: RetryPartition,
    retention_days: u32,
}

impl Sdk {
    pub(super) fn of(ports: &Ports, task: Task) -> Self {
        let (seed, retention) = {
            let mut world = lock(ports.world());
            let retention = world.deployed.done_retention;
            if let Some(cloud) = &mut world.cloud {
                cloud.retentions.insert(retention.as_secs());
            }
            (world.scenario.seed, retention)
        };
        // The SDK draws its backoff and the tokens of transactions from this thread's generator.
        fastrand::seed(rng::numbered(seed, "sdk", task).u64(..));
        let network = Network { ports: ports.clone(), task };
        let connector = SharedHttpConnector::new(network.clone());
        let settings = SETTINGS
            .to_builder()
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .time_source(network.clone())
            .sleep_impl(network)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "world")))
            .identity_cache(IdentityCache::no_cache())
            .build();
        Self {
            settings,
            retries: RetryPartition::custom("one process").build(),
            retention_days: u32::try_from(retention.as_secs() / (24 * 60 * 60)).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn table(&self) -> DynamoTable {
        let config =
            aws_sdk_dynamodb::config::Builder::from(&self.settings).retry_partition(self.retries.clone()).build();
        let client = aws_sdk_dynamodb::Client::from_conf(config);
        DynamoTable::new(client, NOTIFICATIONS.to_owned()).with_done_retention(self.retention_days)
    }

    pub(super) fn stream(&self) -> KinesisStream {
        let config = aws_sdk_kinesis::config::Builder::from(&self.settings).retry_partition(self.retries.clone());
        KinesisStream::new(aws_sdk_kinesis::Client::from_conf(config.build()), STREAM.to_owned())
    }

    pub(super) fn queue(&self) -> SqsQueue {
        let config = aws_sdk_sqs::config::Builder::from(&self.settings).retry_partition(self.retries.clone());
        let url = "https://sqs.us-east-1.amazonaws.com/123456789012/queue".to_owned();
        SqsQueue::new(aws_sdk_sqs::Client::from_conf(config.build()), url)
    }
}

/// Network, clock and sleep of one invocation.
#[derive(Clone)]
struct Network {
    ports: Ports,
    task: Task,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("task", &self.task).finish_non_exhaustive()
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (reply, answer) = oneshot::channel();
        lock(self.ports.world()).request(self.task, Request::of(&request), reply);
        HttpConnectorFuture::new(async move {
            match answer.await {
                Ok(Reply::Response(response)) => {
                    let status =
                        response.status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
                    Ok(HttpResponse::new(status, response.body.into()))
                }
                Ok(Reply::ConnectionReset) => Err(ConnectorError::io("connection reset by peer".into())),
                // No reply will ever come.
                Err(_) => pending().await,
            }
        })
    }
}

impl TimeSource for Network {
    fn now(&self) -> SystemTime {
        self.ports.now().into()
    }
}

impl AsyncSleep for Network {
    fn sleep(&self, duration: Duration) -> Sleep {
        let (wake, woken) = oneshot::channel();
        lock(self.ports.world()).after(duration, move |_| {
            // The sleeper may be gone.
            let _ = wake.send(());
        });
        Sleep::new(async move { drop(woken.await) })
    }
}
