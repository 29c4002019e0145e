//! A stack whose SQS is in the process: a dead-letter queue, and a queue whose messages ingest takes at once.

use crate::stack::Stack;
use aws_sdk_sqs::config::Builder;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use notification::Clock;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// A message's id and its body.
type Message = (String, String);

/// The two queues. The receipt handle of a message is its id.
#[derive(Debug, Default)]
pub(super) struct Queues {
    visible: Vec<Message>,
    hidden: HashMap<String, String>,
    sent: usize,
    /// Messages that are counted, but never received.
    pub(super) another_reader_has: usize,
    /// Whether ingest refuses what is sent: it is in the dead-letter queue again, under the id that SendMessage
    /// returned.
    pub(super) ingest_refuses: bool,
    /// Spaces at the end of each body.
    pub(super) padding: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sqs(Arc<Mutex<Queues>>);

/// A stack with an empty table and these queues.
pub(super) async fn stack(sqs: &Sqs) -> Stack {
    let mut stack = crate::testing::stack().await;
    let connector = SharedHttpConnector::new(sqs.clone());
    let config = Builder::from(&stack.config).http_client(http_client_fn(move |_, _| connector.clone()));
    stack.sqs = aws_sdk_sqs::Client::from_conf(config.build());
    stack
}

/// Messages that would be accepted.
pub(super) fn good(numbers: Range<usize>) -> Vec<Message> {
    let event = |n| format!(r#"{{"specversion":"1.0","id":"n{n}","source":"s","type":"t"}}"#);
    numbers.map(|n| (format!("m{n:05}"), event(n))).collect()
}

pub(super) fn malformed(numbers: Range<usize>) -> Vec<Message> {
    numbers.map(|n| (format!("m{n:05}"), "no JSON".to_owned())).collect()
}

impl Sqs {
    pub(super) fn with(messages: Vec<Message>) -> Self {
        Self(Arc::new(Mutex::new(Queues { visible: messages, ..Queues::default() })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap()
    }

    /// Dead letters that can be received.
    pub(super) fn visible(&self) -> usize {
        self.lock().visible.len()
    }
}

impl HttpConnector for Sqs {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let input = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let output = self.lock().answer(operation, &input);
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), output.to_string().into())))
    }
}

impl Queues {
    fn answer(&mut self, operation: &str, input: &Value) -> Value {
        let text = |name: &str| input[name].as_str().unwrap().to_owned();
        match operation {
            "GetQueueAttributes" => json!({"Attributes": {
                "ApproximateNumberOfMessages": self.visible.len().to_string(),
                "ApproximateNumberOfMessagesNotVisible": (self.hidden.len() + self.another_reader_has).to_string(),
            }}),
            "ReceiveMessage" => json!({"Messages": self.receive()}),
            "ChangeMessageVisibilityBatch" => json!({"Successful": self.show(&input["Entries"]), "Failed": []}),
            "SendMessage" => json!({"MessageId": self.send(text("MessageBody"))}),
            "DeleteMessage" => {
                self.hidden.remove(&text("ReceiptHandle"));
                json!({})
            }
            _ => panic!("{operation}"),
        }
    }

    fn receive(&mut self) -> Vec<Value> {
        let taken = self.visible.split_off(self.visible.len().saturating_sub(10));
        let messages = taken.iter().map(|(id, body)| {
            let body = format!("{body}{}", " ".repeat(self.padding));
            let sent = aws::SystemClock.now().as_millisecond().to_string();
            json!({"MessageId": id, "ReceiptHandle": id, "Body": body, "Attributes": {"SentTimestamp": sent}})
        });
        let messages = messages.collect();
        self.hidden.extend(taken);
        messages
    }

    fn show(&mut self, entries: &Value) -> Vec<Value> {
        let entries = entries.as_array().unwrap().iter();
        let show = |entry: &Value| {
            assert_eq!(entry["VisibilityTimeout"], 0);
            self.visible.extend(self.hidden.remove_entry(entry["ReceiptHandle"].as_str().unwrap()));
            json!({"Id": entry["Id"]})
        };
        entries.map(show).collect()
    }

    fn send(&mut self, body: String) -> String {
        self.sent += 1;
        let id = format!("sent{}", self.sent);
        if self.ingest_refuses {
            self.visible.push((id.clone(), body));
        }
        id
    }
}
