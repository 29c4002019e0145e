//! Runs the binary of a function as Lambda does: serves the Runtime API and a backend, and measures the process.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use crate::backend::{Backend, Behaviour};
use crate::error::Error;
use crate::http::{self, Answer, Server};
use crate::limits;
use crate::subject::Subject;
use crate::throttle::Throttle;
use crate::tls::{self, Authority};
use aws::SystemClock;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use notification::Clock;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::ffi::OsString;
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
    binary: &'static str,
    next: Option<oneshot::Sender<Bytes>>,
    runtime: mpsc::Receiver<FromFunction>,
    _runtime_api: Server,
}

/// What the function sends to the Runtime API.
#[derive(Debug)]
enum FromFunction {
    /// It asks for an invocation.
    Next { at: Instant, reply: oneshot::Sender<Bytes> },
    /// It answers an invocation.
    Answer { at: Instant, body: Bytes, is_error: bool },
}

/// One invocation, answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invocation {
    /// From the first byte of the payload to the last byte of the answer.
    pub(crate) wall: Duration,
    /// Whether no record was reported as failed.
    pub(crate) complete: bool,
}

/// A program to run as a function.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The function's binary.
    pub(crate) binary: PathBuf,
    /// The program that runs it, with its arguments; empty if it runs directly.
    pub(crate) under: Vec<OsString>,
    /// Environment variables, in addition to those of the subject.
    pub(crate) variables: Vec<(&'static str, &'static str)>,
}

impl From<PathBuf> for Program {
    fn from(binary: PathBuf) -> Self {
        Self { binary, under: Vec::new(), variables: Vec::new() }
    }
}

impl Program {
    fn command(&self) -> Command {
        match self.under.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        }
    }
}

impl Host {
    /// Starts the process and waits until it is ready.
    pub(crate) async fn start(
        program: &Program,
        subject: Subject,
        Conditions { behaviour, authority, throttle }: Conditions<'_>,
    ) -> Result<Self, Error> {
        let binary = subject.binary();
        let backend = Backend::start(behaviour, Some(authority.acceptor.clone())).map_err(Error::Server)?;
        let (to_host, runtime) = mpsc::channel(1);
        let runtime_api = http::serve(
            None,
            || {},
            move |request| {
                let to_host = to_host.clone();
                async move { runtime_api(request, &to_host).await }
            },
        )
        .map_err(Error::Server)?;

        let mut command = program.command();
        // Nothing is inherited.
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address.to_string())
            .env("AWS_ENDPOINT_URL", format!("https://{}:{}", tls::HOST, backend.address().port()))
            .env("SSL_CERT_FILE", authority.roots())
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
            .envs(subject.variables())
            .envs(program.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started_by = || program.under.first().map_or(program.binary.clone(), PathBuf::from);
        let mut spawn = || (Instant::now(), spawn(&mut command));
        let (started, process) = match throttle {
            None => spawn(),
            Some(throttle) => throttle.inside(spawn)?,
        };
        let process = process.map_err(|cause| Error::Program { path: started_by(), cause })?;
        let init = Duration::ZERO;
        let mut host = Self { backend, init, binary, process, next: None, runtime, _runtime_api: runtime_api };
        host.init = host.ready().await? - started;
        Ok(host)
    }

    /// Invokes the function, and waits until it asks for the next invocation.
    pub(crate) async fn invoke(&mut self, event: Bytes) -> Result<Invocation, Error> {
        let started = Instant::now();
        // Where nobody takes it, the process has ended, which is seen next.
        let _ = self.next.take().map(|next| next.send(event));
        let (at, body) = match self.heard().await? {
            FromFunction::Answer { at, body, is_error: false } => (at, body),
            FromFunction::Answer { body, .. } => return Err(self.refused(&body)),
            FromFunction::Next { .. } => return Err(self.refused(b"none")),
        };
        let report: Report = serde_json::from_slice(&body).map_err(|_| self.refused(&body))?;
        self.ready().await?;
        Ok(Invocation { wall: at - started, complete: report.batch_item_failures.is_empty() })
    }

    /// Waits until the function asks for an invocation. Returns when it did.
    async fn ready(&mut self) -> Result<Instant, Error> {
        match self.heard().await? {
            FromFunction::Next { at, reply } => {
                self.next = Some(reply);
                Ok(at)
            }
            FromFunction::Answer { body, .. } => Err(self.refused(&body)),
        }
    }

    /// Waits for the next message of the function.
    async fn heard(&mut self) -> Result<FromFunction, Error> {
        let give_up = Instant::now() + TIMEOUT;
        while Instant::now() < give_up {
            match tokio::time::timeout(CHECK_EVERY, self.runtime.recv()).await {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => break,
                Err(_) => {
                    if let Some(status) = self.process.0.try_wait().map_err(Error::unmeasurable)? {
                        return Err(Error::Ended { binary: self.binary, status });
                    }
                }
            }
        }
        Err(Error::Silent { binary: self.binary, seconds: TIMEOUT.as_secs() })
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// CPU that the process has used so far: user and system time of all its threads, including those that have ended, in
    /// nanoseconds (`clock_getcpuclockid`).
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        let pid = self.pid().try_into().map(Pid::from_raw).map_err(Error::unmeasurable)?;
        let time = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now);
        time.map(Duration::from).map_err(Error::unmeasurable)
    }

    /// A size in the status of the process, in bytes: its memory now (`VmRSS:`), or its largest (`VmHWM:`).
    pub(crate) fn memory(&self, name: &str) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).map_err(Error::unmeasurable)?;
        let kibibytes =
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.map(|size| size * 1024.0).ok_or_else(|| Error::unmeasurable(format!("its status has no {name}")))
    }

    /// Ends the process and its servers: anything left open would affect the next measurement.
    pub(crate) async fn stop(mut self) {
        // SIGTERM first: the program that runs it, such as valgrind, may still have something to write.
        if let Ok(pid) = self.pid().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let given_up = Instant::now() + ENDED_AFTER;
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < given_up {
            tokio::time::sleep(CHECK_EVERY / 100).await;
        }
    }

    fn refused(&self, answer: &[u8]) -> Error {
        Error::Refused { binary: self.binary, answer: String::from_utf8_lossy(answer).into_owned() }
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
async fn runtime_api(request: Request<Incoming>, to_host: &mpsc::Sender<FromFunction>) -> hyper::Result<Answer> {
    let at = Instant::now();
    if request.uri().path().ends_with("/invocation/next") {
        let (reply, event) = oneshot::channel();
        // If the host is gone, the process is about to end.
        let _ = to_host.send(FromFunction::Next { at, reply }).await;
        return Ok(invocation(event.await.unwrap_or_default()));
    }
    let is_error = !request.uri().path().ends_with("/response");
    let body = request.into_body().collect().await?.to_bytes();
    let _ = to_host.send(FromFunction::Answer { at: Instant::now(), body, is_error }).await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn invocation(event: Bytes) -> Answer {
    let deadline = SystemClock.now().as_millisecond() + i64::try_from(TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    let mut response = Response::new(Full::new(event));
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "application/json"),
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:measured"),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("lambda-runtime-deadline-ms", deadline.into());
    response
}

/// The answer of a function: the records that failed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    batch_item_failures: Vec<IgnoredAny>,
}
