//! An HTTP/1.1 server on a free loopback port, with TLS or without.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Connections that can wait to be accepted: the straightforward variant opens a thousand at once.
const BACKLOG: u32 = 4_096;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepting: JoinSet<()>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Server {
    /// Stops it, and waits until all its connections are closed.
    pub(crate) async fn stop(mut self) {
        self.accepting.shutdown().await;
        let mut connections = std::mem::take(&mut *lock(&self.connections));
        connections.shutdown().await;
    }
}

/// Answers requests with `answer`, over TLS if there is an acceptor. `connected` is called for each new connection.
pub(crate) fn serve<F: Future<Output = hyper::Result<Answer>> + Send + 'static>(
    tls: Option<TlsAcceptor>,
    connected: impl Fn() + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> io::Result<Server> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    let connections = Arc::new(Mutex::new(JoinSet::new()));
    let mut accepting = JoinSet::new();
    accepting.spawn(accept_all(listener, tls, Arc::clone(&connections), connected, answer));
    Ok(Server { address, accepting, connections })
}

async fn accept_all<F: Future<Output = hyper::Result<Answer>> + Send + 'static>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Mutex<JoinSet<()>>>,
    connected: impl Fn() + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) {
    // If no more connections can be accepted, the client reports it.
    while let Ok((stream, _)) = listener.accept().await {
        connected();
        let _ = stream.set_nodelay(true);
        let mut open = lock(&connections);
        open.spawn(answer_over(tls.clone(), stream, answer.clone()));
        while open.try_join_next().is_some() {}
    }
}

async fn answer_over<F: Future<Output = hyper::Result<Answer>>>(
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    answer: impl Fn(Request<Incoming>) -> F,
) {
    match tls {
        None => answer_all(stream, answer).await,
        Some(tls) => {
            // If the client does not trust the certificate, it reports that.
            if let Ok(stream) = tls.accept(stream).await {
                answer_all(stream, answer).await;
            }
        }
    }
}

/// Answers the requests of one connection.
async fn answer_all<F: Future<Output = hyper::Result<Answer>>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> F,
) {
    // If the connection breaks, the client reports it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
