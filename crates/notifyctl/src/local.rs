//! `notifyctl local`: what Lambda's event source mappings do with streams, for a local AWS that does it differently. It
//! drives the engine of the crate event-source: it reads the streams with the functions' roles, invokes the functions and
//! keeps the time.
//!
//! | file | concern |
//! |---|---|
//! | [`mapping`] | which mappings there are, and their settings |
//! | [`source`] | a stream: its shards, iterators and records |
//! | [`table_stream`] | a table's stream, and the event that Lambda makes of a record |
//! | [`data_stream`] | a Kinesis stream, and the event that Lambda makes of a record |
//! | [`function`] | one invocation |
//! | [`runner`] | one mapping at work |
//! | [`report`] | what a person or a machine sees of it |

mod data_stream;
mod function;
mod mapping;
mod report;
mod runner;
mod source;
mod table_stream;

use crate::cli::LocalArgs;
use crate::error::Error;
use crate::output;
use crate::stack::{Outputs, sdk_config};
use aws::config::{Environment, Process};
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use futures_util::future::try_join_all;
use report::Report;
use runner::Runner;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use url::{Host, Url};

/// Invocations of all functions at once. Each is a process of its own on this machine, and MiniStack may throttle above
/// 16 (its `LAMBDA_ACCOUNT_CONCURRENCY`).
const INVOCATIONS_AT_ONCE: usize = 10;

/// Time for one attempt of one call, but for invocations: a local AWS that hangs is one that does not answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the stack names its functions that have streams for sources.
const FUNCTION_OUTPUTS: [&str; 2] = ["PublisherFunction", "DownstreamFunction"];

pub(crate) async fn run(stack: &str, args: &LocalArgs, json: bool) -> Result<ExitCode, Error> {
    let endpoint = on_this_machine(Process.get("AWS_ENDPOINT_URL").as_deref())?;
    // Set here, it also wins over the endpoints of single services in the environment and the profile.
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let config = sdk_config(Some(&endpoint)).await?.into_builder().timeout_config(timeouts).build();
    let functions = if args.function.is_empty() {
        let outputs = Outputs::read(&config, stack).await?;
        FUNCTION_OUTPUTS.into_iter().map(|output| outputs.get(output)).collect::<Result<_, _>>()?
    } else {
        args.function.clone()
    };
    let mappings = mapping::of_functions(&config, &functions).await?;
    let report = Report::new(json, args.quiet, &mappings);
    let permits = Semaphore::new(INVOCATIONS_AT_ONCE);
    let runners = mappings.iter().map(|mapping| Runner::new(mapping, &config, &permits, &report));
    let runners = try_join_all(runners).await?.into_iter().map(Runner::run);
    let mut terminated = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    tokio::select! {
        ended = try_join_all(runners) => ended.map(|_| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(stopped(&report)),
        _ = terminated.recv() => Ok(stopped(&report)),
    }
}

/// What is in flight goes on in its function; its answer is not waited for, as where a poller of Lambda's fails.
fn stopped(report: &Report) -> ExitCode {
    output::remark(report.total());
    ExitCode::SUCCESS
}

/// The endpoint, if it is on this machine. A real account must never be polled by accident.
fn on_this_machine(endpoint: Option<&str>) -> Result<String, Error> {
    let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
        return Err(Error::NotLocal { found: "not set".to_owned() });
    };
    // Of an address with a password in it, nothing is shown.
    let url = Url::parse(endpoint).map_err(|_| Error::NotLocal { found: "no URL".to_owned() })?;
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if is_loopback && matches!(url.scheme(), "http" | "https") {
        Ok(url.into())
    } else {
        Err(Error::NotLocal { found: format!("at {}", url.host_str().unwrap_or("no host")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_on_this_machine_is_polled() {
        for local in ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566", "https://127.1.2.3/"] {
            assert!(on_this_machine(Some(local)).is_ok(), "{local}");
        }
        for other in [
            None,
            Some(""),
            Some("127.0.0.1:4566"),
            Some("https://lambda.eu-central-1.amazonaws.com"),
            Some("http://127.0.0.1@example.com"),
            Some("http://localhost.example.com"),
            Some("http://10.0.0.1:4566"),
            Some("http://0.0.0.0:4566"),
            Some("file://localhost/x"),
        ] {
            let error = on_this_machine(other).unwrap_err().to_string();
            assert!(error.contains("AWS_ENDPOINT_URL"), "{error}");
        }
    }
}
