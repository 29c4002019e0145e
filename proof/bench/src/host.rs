//! Runs the binary of a function as Lambda does: serves the Runtime API and a backend, and measures the process.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use crate::backend::{Backend, Behaviour};
use crate::error::Error;
use crate::http::{Answer, Server};
use crate::limits;
use crate::subject::Function;
use crate::throttle::Throttle;
use crate::tls::{self, Authority};
use aws::SystemClock;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use notification::Clock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Timeout of an invocation, and longest wait for an answer.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How often to check whether the process still runs while waiting for its answer.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// A process that has not ended this long after it was asked to is killed.
const ENDED_AFTER: Duration = Duration::from_secs(10);

/// Length of the session token in each call, as with a role's credentials. AWS does not specify one.
const SESSION_TOKEN_CHARS: usize = 800;

/// The task that failed if the system has no answer about the process.
const MEASURE: &str = "measure the process";

/// How AWS and Lambda behave while a function is measured.
#[derive(Clone, Copy)]
pub(crate) struct Conditions<'a> {
    pub(crate) behaviour: Behaviour,
    pub(crate) authority: &'a Authority,
    /// Limits the function to a part of a CPU; without it, the function has all of them.
    pub(crate) throttle: Option<&'a Throttle>,
}

/// A function's process, waiting for an invocation.
#[derive(Debug)]
pub(crate) struct Host {
    // Dropped first: what it leaves open ends before the servers.
    process: Process,
    pub(crate) backend: Backend,
    /// From exec until it asked for its first invocation.
    pub(crate) init: Duration,
    /// The program that was started, for errors.
    program: PathBuf,
    next: Option<oneshot::Sender<Bytes>>,
    runtime: mpsc::Receiver<(Instant, FromFunction)>,
    _runtime_api: Server,
}

/// What the function sends to the Runtime API.
#[derive(Debug)]
enum FromFunction {
    /// It asks for an invocation, and waits for its payload.
    Next(oneshot::Sender<Bytes>),
    /// It answers an invocation, or reports an error.
    Answer(Bytes),
}

/// One invocation, answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invocation {
    /// From the first byte of the payload to the last byte of the answer.
    pub(crate) wall: Duration,
    /// Whether no record was reported as failed.
    pub(crate) complete: bool,
}

impl Host {
    /// Starts a function by a command, and waits until it is ready.
    pub(crate) async fn start(
        mut command: Command,
        function: Function,
        Conditions { behaviour, authority, throttle }: Conditions<'_>,
    ) -> Result<Self, Error> {
        let server = "start a server on loopback";
        let backend = Backend::start(behaviour, Some(authority.acceptor.clone())).map_err(Error::cannot(server))?;
        let (to_host, runtime) = mpsc::channel(1);
        let runtime_api = Server::start(None, move |request| answer(request, to_host.clone()));
        let runtime_api = runtime_api.map_err(Error::cannot(server))?;

        // Nothing is inherited.
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address.to_string())
            .env("AWS_ENDPOINT_URL", format!("https://{}:{}", tls::HOST, backend.server.address.port()))
            .env("SSL_CERT_FILE", &authority.roots)
            .env("AWS_LAMBDA_FUNCTION_NAME", "measured")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_LAMBDA_LOG_LEVEL", "INFO")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_SESSION_TOKEN", "t".repeat(SESSION_TOKEN_CHARS))
            .env("TABLE_NAME", "notifications")
            .env("QUEUE_URL", "https://queue")
            .env("STREAM_NAME", "notifications")
            .env("LEDGER_TABLE_NAME", "ledger")
            .env("ACTION", function.action())
            .env("FUNCTION", function.binary())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = PathBuf::from(command.get_program());
        let mut spawn = || (Instant::now(), spawn(&mut command));
        let (started, process) = match throttle {
            None => spawn(),
            Some(throttle) => throttle.inside(spawn)?,
        };
        let process = process.map_err(Error::cannot(format!("start {}", program.display())))?;
        let init = Duration::ZERO;
        let mut host = Self { process, backend, init, program, next: None, runtime, _runtime_api: runtime_api };
        host.init = host.ready().await? - started;
        Ok(host)
    }

    /// Invokes the function, and waits until it asks for the next invocation.
    pub(crate) async fn invoke(&mut self, event: Bytes) -> Result<Invocation, Error> {
        let started = Instant::now();
        // If nobody takes it, the process has ended, which `heard` reports.
        let _ = self.next.take().map(|next| next.send(event));
        let (at, FromFunction::Answer(body)) = self.heard().await? else { return Err(self.refused(b"none")) };
        let report: Report = serde_json::from_slice(&body).map_err(|_| self.refused(&body))?;
        self.ready().await?;
        Ok(Invocation { wall: at - started, complete: report.batch_item_failures.is_empty() })
    }

    /// Waits until the function asks for an invocation. Returns when it did.
    async fn ready(&mut self) -> Result<Instant, Error> {
        match self.heard().await? {
            (at, FromFunction::Next(reply)) => {
                self.next = Some(reply);
                Ok(at)
            }
            (_, FromFunction::Answer(body)) => Err(self.refused(&body)),
        }
    }

    /// Waits for the next message of the function. Returns it with its time.
    async fn heard(&mut self) -> Result<(Instant, FromFunction), Error> {
        let give_up = Instant::now() + TIMEOUT;
        while Instant::now() < give_up {
            match tokio::time::timeout(CHECK_EVERY, self.runtime.recv()).await {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => break,
                Err(_) => {
                    if let Some(status) = self.process.0.try_wait().map_err(Error::cannot(MEASURE))? {
                        return Err(Error::Crashed { program: self.program.clone(), status });
                    }
                }
            }
        }
        Err(Error::Silent { program: self.program.clone(), seconds: TIMEOUT.as_secs() })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.0.id().cast_signed())
    }

    /// CPU that the process has used so far: user and system time of all its threads, including those that have ended, in
    /// nanoseconds (`clock_getcpuclockid`).
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        let time = ClockId::pid_cpu_clock_id(self.pid()).and_then(ClockId::now);
        time.map(Duration::from).map_err(Error::cannot(MEASURE))
    }

    /// A size in the status of the process, in bytes: its memory now (`VmRSS:`), or its largest (`VmHWM:`).
    pub(crate) fn memory(&self, name: &str) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).map_err(Error::cannot(MEASURE))?;
        let kibibytes =
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
        let bytes = kibibytes.map(|size| size * 1024.0);
        bytes.ok_or_else(|| Error::cannot(MEASURE)(format!("its status has no {name}")))
    }

    /// Ends the process and its servers: anything left open would affect the next measurement.
    pub(crate) async fn stop(mut self) {
        // SIGTERM first: the program that runs it, such as valgrind, may still have something to write.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let give_up = Instant::now() + ENDED_AFTER;
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < give_up {
            tokio::time::sleep(CHECK_EVERY / 100).await;
        }
    }

    fn refused(&self, answer: &[u8]) -> Error {
        Error::Refused { program: self.program.clone(), answer: String::from_utf8_lossy(answer).into_owned() }
    }
}

/// A process that is killed when it is dropped. (This is not tokio's, because cargo would compile tokio's feature `process`
/// into the functions too.)
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may already have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process with the limit on open files and sockets that a function has on Lambda.
fn spawn(command: &mut Command) -> std::io::Result<Process> {
    let (_, ours) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, ours.min(limits::FILE_DESCRIPTORS), ours)?;
    let process = command.spawn();
    setrlimit(Resource::RLIMIT_NOFILE, ours, ours)?;
    process.map(Process)
}

/// Answers a request of the function, and passes it to the host.
async fn answer(request: Request<Incoming>, to_host: mpsc::Sender<(Instant, FromFunction)>) -> Answer {
    if !request.uri().path().ends_with("/invocation/next") {
        let body = request.into_body().collect().await?.to_bytes();
        // If the host is gone, the process is about to end.
        let _ = to_host.send((Instant::now(), FromFunction::Answer(body))).await;
        let ok = Full::from(r#"{"status":"OK"}"#);
        return Ok(Response::builder().status(StatusCode::ACCEPTED).body(ok)?);
    }
    let (reply, event) = oneshot::channel();
    let _ = to_host.send((Instant::now(), FromFunction::Next(reply))).await;
    let event = event.await?;
    let deadline = SystemClock.now().as_millisecond() + i64::try_from(TIMEOUT.as_millis())?;
    let trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0";
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:measured")
        .header("lambda-runtime-trace-id", trace)
        .header("lambda-runtime-deadline-ms", deadline);
    Ok(response.body(Full::new(event))?)
}

/// The answer of a function: the records that failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    batch_item_failures: Vec<IgnoredAny>,
}
