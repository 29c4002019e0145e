//! An HTTP/1.1 server on a free loopback port, with TLS or without.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Answer = Result<Response<Full<Bytes>>, BoxError>;

/// Connections that can wait to be accepted: the straightforward variant opens a thousand at once.
const BACKLOG: u32 = 4_096;

/// A running server. Dropping it stops it, and closes all its connections.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Server {
    /// Answers requests with `answer`, over TLS if there is an acceptor.
    pub(crate) fn start<F: Future<Output = Answer> + Send + 'static>(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicU64::new(0));
        let connected = Arc::clone(&connections);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            // If no more connections can be accepted, the client reports it.
            while let Ok((stream, _)) = listener.accept().await {
                connected.fetch_add(1, Ordering::Relaxed);
                open.spawn(answer_all(tls.clone(), stream, answer.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, connections, _accepting: accepting })
    }

    /// The number of connections that it has accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Answers the requests of one connection. If it breaks, or the client does not trust the certificate, the client reports it.
async fn answer_all<F: Future<Output = Answer>>(
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let (http, service) = (http1::Builder::new(), service_fn(answer));
    match tls {
        None => http.serve_connection(TokioIo::new(stream), service).await?,
        Some(tls) => http.serve_connection(TokioIo::new(tls.accept(stream).await?), service).await?,
    }
    Ok(())
}
