//! The process of a function, as Lambda runs it: with Lambda's runtime API and AWS's endpoint on a loopback port. The tests of
//! the functions share it.

#![allow(dead_code, reason = "each test uses a part of it")]

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A process that is not answered ends its test after this time.
const PATIENCE: Duration = Duration::from_mins(1);

/// The executable of a function, with its environment.
pub(crate) struct Process {
    executable: PathBuf,
    arguments: Vec<&'static str>,
    environment: BTreeMap<&'static str, String>,
}

/// One invocation.
pub(crate) struct Invoked {
    /// Where the answer was sent: `response` or `error`.
    pub(crate) kind: String,
    /// The function's answer.
    pub(crate) answer: Value,
    /// The calls to AWS: operation and request.
    pub(crate) calls: Vec<(String, Value)>,
    /// The JSON lines on standard output: logs and metrics.
    pub(crate) lines: Vec<Value>,
}

impl Process {
    /// The executable with the variables that Lambda sets.
    pub(crate) fn new(executable: impl AsRef<Path>) -> Self {
        let environment = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_LAMBDA_FUNCTION_NAME", "the-function"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ];
        let environment = environment.map(|(name, value)| (name, value.to_owned())).into();
        Self { executable: executable.as_ref().to_owned(), arguments: vec![], environment }
    }

    /// The same with these arguments.
    pub(crate) fn arguments(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    /// The same with another variable.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).env_clear().envs(&self.environment);
        command
    }

    /// Starts it without a variable. It must end by itself, with an error, which is returned.
    pub(crate) fn refusal_without(mut self, name: &str) -> String {
        self.environment.remove(name);
        let output = self.command().stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "it ended without an error");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts it, sends one event, answers its calls to AWS by their operation, and ends it once it has answered.
    pub(crate) fn invoke(mut self, event: &Value, answer: fn(&str) -> Value) -> Invoked {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        self.environment.insert("AWS_LAMBDA_RUNTIME_API", address.to_string());
        self.environment.insert("AWS_ENDPOINT_URL", format!("http://{address}"));
        let (server, answers) = Server::new(event, answer);
        let calls = Arc::clone(&server.calls);
        thread::spawn(move || server.accept(&listener));

        let mut process = Running(self.command().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        let (kind, answer) = answers.recv_timeout(PATIENCE).unwrap();
        let output = process.end();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        Invoked {
            kind,
            answer,
            calls: calls.lock().unwrap().clone(),
            lines: lines.map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }
}

impl Invoked {
    /// The value of a metric in CloudWatch's embedded format; `None` unless it was written once.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let embedded = self.lines.iter().filter(|line| line.get("_aws").is_some());
        let mut values = embedded.filter_map(|line| line[name].as_u64());
        values.next().filter(|_| values.next().is_none())
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    /// Ends it, and returns what it wrote to standard output.
    fn end(&mut self) -> String {
        self.0.kill().unwrap();
        let mut output = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lambda's runtime API and AWS's endpoint.
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>
#[derive(Clone)]
struct Server {
    /// The event, until it has been handed out.
    event: Arc<Mutex<Option<String>>>,
    answer: fn(&str) -> Value,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Sender<(String, Value)>,
}

impl Server {
    fn new(event: &Value, answer: fn(&str) -> Value) -> (Self, Receiver<(String, Value)>) {
        let (answers, receiver) = channel();
        let event = Arc::new(Mutex::new(Some(event.to_string())));
        (Self { event, answer, calls: Arc::default(), answers }, receiver)
    }

    fn accept(self, listener: &TcpListener) {
        while let Ok((connection, _)) = listener.accept() {
            let server = self.clone();
            // It ends with the process, which closes its connections.
            thread::spawn(move || server.serve(&connection));
        }
    }

    fn serve(&self, mut connection: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(connection);
        loop {
            let request = Request::read(&mut reader)?;
            let reply = self.reply(&request)?;
            connection.write_all(reply.as_bytes()).ok()?;
        }
    }

    /// The answer to a request; `None` if there is none, as while no event is waiting.
    fn reply(&self, request: &Request) -> Option<String> {
        if let Some(target) = request.headers.get("x-amz-target") {
            let operation = target.rsplit('.').next()?.to_owned();
            let answer = (self.answer)(&operation).to_string();
            self.calls.lock().unwrap().push((operation, serde_json::from_str(&request.body).ok()?));
            return Some(http("200 OK", "Content-Type: application/x-amz-json-1.0\r\n", &answer));
        }
        if request.path.ends_with("/invocation/next") {
            let Some(event) = self.event.lock().unwrap().take() else {
                thread::park_timeout(PATIENCE);
                return None;
            };
            let headers = "Lambda-Runtime-Aws-Request-Id: the-request\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\n\
                Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:1:function:the-function\r\n";
            return Some(http("200 OK", headers, &event));
        }
        let kind = request.path.rsplit('/').next()?.to_owned();
        self.answers.send((kind, serde_json::from_str(&request.body).unwrap_or_default())).ok()?;
        Some(http("202 Accepted", "", ""))
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Request {
    /// Reads one request; `None` if the connection has ended.
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let path = lines.first()?.split(' ').nth(1)?.to_owned();
        let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        let headers: HashMap<_, _> =
            headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { path, headers, body: String::from_utf8(body).ok()? })
    }
}
