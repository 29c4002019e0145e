//! `notifyctl ui`: a web page for operators, served on the loopback address of this machine.

mod answer;
mod api;
mod decision;
mod fault;
mod guard;
mod kept;
mod metrics;
mod trouble;

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use answer::Answer;
use aws::SystemClock;
use clap::Args;
use guard::Guard;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use notification::{Clock, limits};
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

const EXAMPLES: &str = "\
Examples:
  notifyctl ui                                             read-only, except for a local stack
  notifyctl ui --allow-changes --port 8734

Exit status: 130, when Ctrl-C ends it; 2 if it cannot start.";

/// Serve a web page for operators, on this machine only: the flow, what needs attention, and each notification
///
/// Prints the address of the page, which has a secret: whoever has the address can do what the page can do. The page shows no
/// event unless asked to. It reads while it is visible, on AWS every 10 seconds: 224 queries of the indexes, whose cost grows only
/// with what is not DONE, and four calls to SQS.
///
/// Changes (redrive, resolve) are made as by the commands: the set is fixed and counted first, then carried out at a rate that
/// grows, with a plan's file in the working directory, until too many fail again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UiArgs {
    /// Listen on this port [default: any free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,

    /// Let the page redrive and resolve; a local stack needs no such permission
    #[arg(long)]
    pub(crate) allow_changes: bool,
}

/// The page. It has no data: that comes from the API.
const HTML: &str = include_str!("ui/page/index.html");
const CSS: &str = include_str!("ui/page/app.css");
const SCRIPT: &str = include_str!("ui/page/app.js");

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// What the requests share.
pub(crate) struct Server {
    stack: Stack,
    guard: Guard,
    allows_changes: bool,
    /// The decision about many notifications that is planned, or being carried out.
    decision: RefCell<Option<decision::Decision>>,
    /// The metrics, as they were read last.
    metrics: RefCell<Option<metrics::Read>>,
    /// What the page has sent to a local stack.
    kept: RefCell<kept::Kept>,
}

/// Serves until the process ends. All runs on one thread: what is in the server needs no lock.
pub(crate) async fn run(stack: Stack, args: &UiArgs) -> Result<ExitCode, Error> {
    let address = (Ipv4Addr::LOCALHOST, args.port);
    let listener = TcpListener::bind(address).await.map_err(|cause| {
        Error::Failed(format!("port {} cannot be listened on: {cause}; choose another one with --port", args.port))
    })?;
    let port = listener.local_addr().map_err(|cause| Error::Failed(format!("the port is unknown: {cause}")))?.port();
    let guard = Guard::new(port)?;
    let allows_changes = args.allow_changes || stack.is_local;
    // The part after # stays in the browser: it is in no request.
    output::line(format_args!("http://127.0.0.1:{port}/#{}", guard.token()));
    let mode = if allows_changes { "changes are allowed" } else { "read-only; --allow-changes lets it change" };
    output::note(&format!("the page of the stack {} is at this address ({mode}); Ctrl-C ends it", stack.name));
    let server = Rc::new(Server {
        stack,
        guard,
        allows_changes,
        decision: RefCell::default(),
        metrics: RefCell::default(),
        kept: RefCell::default(),
    });
    LocalSet::new().run_until(accept_all(&listener, server)).await
}

async fn accept_all(listener: &TcpListener, server: Rc<Server>) -> Result<ExitCode, Error> {
    let permits = Arc::new(Semaphore::new(limits::UI_CONNECTIONS_MAX));
    loop {
        // Connections that have to wait are not accepted yet. The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await;
        match listener.accept().await {
            Ok((connection, _)) => {
                let served = serve(connection, Rc::clone(&server));
                spawn_local(async move {
                    let _ = timeout(limits::UI_REQUEST_TIMEOUT, served).await;
                    drop(permit);
                });
            }
            // Too many open files: a decision that is being carried out goes on.
            Err(_) => SystemClock.sleep(limits::STREAM_POLL).await,
        }
    }
}

/// Answers the request of a connection. What breaks off is of no interest: the page asks again. One request each, so that an idle
/// browser holds no connection.
async fn serve(connection: TcpStream, server: Rc<Server>) {
    let respond = service_fn(|request| {
        let server = Rc::clone(&server);
        async move { Ok::<_, Infallible>(respond(server, request).await.into_response()) }
    });
    let connection = TokioIo::new(connection);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::UI_HEAD_TIMEOUT).keep_alive(false);
    let _ = http.serve_connection(connection, respond).await;
}

async fn respond(server: Rc<Server>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    if let Err(refused) = server.guard.check(&head) {
        return refused.into();
    }
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/") => Answer::html(HTML),
        (&Method::GET, "/app.css") => Answer::css(CSS),
        (&Method::GET, "/app.js") => Answer::script(SCRIPT),
        (method, path) if path.starts_with(guard::API) => {
            let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
                return Answer::problem(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or was broken off");
            };
            let query = head.uri.query().unwrap_or_default();
            api::answer(&server, method, path, query, &body.to_bytes()).await
        }
        _ => Answer::problem(StatusCode::NOT_FOUND, "there is no such page"),
    }
}
