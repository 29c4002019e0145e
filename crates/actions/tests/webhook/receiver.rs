//! A receiver on a loopback port that answers according to a script and records the requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The bytes of an answer, and what happens afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    text: String,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    NextRequest,
    Close,
    /// The connection stays open, but nothing more is sent.
    Stall,
}

impl Answer {
    /// A whole answer without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::whole(status, "", "")
    }

    /// A whole answer with additional headers (each with its line ending) and a body.
    pub(crate) fn whole(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} Test\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        Self { text, then: Then::NextRequest }
    }

    /// The beginning of an answer. Then the connection is closed.
    pub(crate) fn cut(text: &str) -> Self {
        Self { text: text.to_owned(), then: Then::Close }
    }

    /// The beginning of an answer. Then nothing more is sent.
    pub(crate) fn stalled(text: &str) -> Self {
        Self { text: text.to_owned(), then: Then::Stall }
    }
}

/// A delivery.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

#[derive(Debug, Default)]
struct Notes {
    requests: Vec<Request>,
    connections: usize,
    script: VecDeque<Answer>,
}

/// Listens until the runtime of the test ends. After the script, it answers 204.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    notes: Arc<Mutex<Notes>>,
}

impl Receiver {
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// A receiver whose queue of connections is full for this time, so that requests for more are lost.
    pub(crate) async fn start_busy(busy: Duration) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // One more than the length of the queue: https://man7.org/linux/man-pages/man2/listen.2.html
        let waiting = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let url = format!("http://{address}/hook");
        let receiver = Self { url, notes: Arc::default() };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            tokio::time::sleep(busy).await;
            drop(waiting);
            accepting.accept(listener).await;
        });
        receiver
    }

    fn on(listener: TcpListener, script: impl IntoIterator<Item = Answer>) -> Self {
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let notes = Arc::new(Mutex::new(Notes { script: script.into_iter().collect(), ..Notes::default() }));
        let receiver = Self { url, notes };
        tokio::spawn(receiver.clone().accept(listener));
        receiver
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.notes.lock().unwrap().requests.clone()
    }

    /// The number of connections that were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.notes.lock().unwrap().connections
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            self.notes.lock().unwrap().connections += 1;
            tokio::spawn(self.clone().serve(connection));
        }
    }

    async fn serve(self, mut connection: TcpStream) {
        while let Some(request) = read(&mut connection).await {
            let answer = {
                let mut notes = self.notes.lock().unwrap();
                notes.requests.push(request);
                notes.script.pop_front().unwrap_or_else(|| Answer::status(204))
            };
            connection.write_all(answer.text.as_bytes()).await.unwrap();
            match answer.then {
                Then::NextRequest => {}
                Then::Close => return,
                Then::Stall => std::future::pending().await,
            }
        }
    }
}

/// Reads one request; `None` if the connection has ended.
async fn read(connection: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(head + 4);
    let headers: BTreeMap<String, String> = String::from_utf8(bytes)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { headers, body: String::from_utf8(body).unwrap() })
}
