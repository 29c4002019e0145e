//! The action that is simulated: the real webhook over a model of the network, or an entry in a second table.

use crate::mutants::{self, Mutant};
use crate::ports::Ports;
use crate::rng;
use crate::world::{Answer, EFFECT, Flight, Request, lock};
use actions::secret::SecretSource;
use actions::webhook::{self, NoAnswer, Post, Webhook};
use http_body::{Body as HttpBody, Frame};
use jiff::Timestamp;
use notification::ports::Table;
use notification::testing::{Call, Calls};
use notification::{
    Action, ActionError, Change, Clock, Deadline, Effect, Failure, FailureKind, Guarantee, Notification, Put, event,
    limits,
};
use reqwest::{Body, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The method of a call that reads the signing secret.
pub(crate) const GET_SECRET: &str = "get the secret";

/// A process reads the secret when it starts, and may be this old.
const WARM_FOR: Duration = Duration::from_mins(10);

/// The action of a run.
pub(crate) enum SimulatedAction {
    /// Puts an entry into a second table, in the same transaction as DONE.
    Ledger(Ports),
    /// Calls the receiver.
    Webhook { webhook: Box<Webhook<Network, Secret, Ports>>, ports: Ports },
}

impl SimulatedAction {
    pub(crate) async fn new(guarantee: Guarantee, ports: Ports) -> Result<Self, String> {
        if guarantee == Guarantee::Transactional {
            return Ok(Self::Ledger(ports));
        }
        let secret = Secret::of_warm_process(&ports);
        let stated = mutants::stated(mutant(&ports), guarantee);
        let webhook = Webhook::to(Network(ports.clone()), stated, secret, ports.clone()).await;
        Ok(Self::Webhook { webhook: Box::new(webhook.map_err(|failure| failure.reason)?), ports })
    }
}

impl Action for SimulatedAction {
    fn guarantee(&self) -> Guarantee {
        match self {
            Self::Ledger(_) => Guarantee::Transactional,
            Self::Webhook { webhook, .. } => webhook.guarantee(),
        }
    }

    async fn run(&self, notification: &Notification, deadline: Deadline) -> Result<Effect, ActionError> {
        let (Self::Ledger(ports) | Self::Webhook { ports, .. }) = self;
        let _in_flight = ports.in_flight(Flight::Action);
        match self {
            Self::Ledger(ports) => enter(notification, ports).await,
            Self::Webhook { webhook, ports } => {
                if mutants::writes_done_first(mutant(ports)) {
                    let done = Change::done(notification.id(), notification.event(), None);
                    drop(ports.write(&[done], ports.now()).await);
                }
                webhook.run(notification, deadline).await
            }
        }
    }
}

fn mutant(ports: &Ports) -> Option<Mutant> {
    lock(ports.world()).mutant
}

/// Makes an entry of a notification, unless the business refuses it.
async fn enter(notification: &Notification, ports: &Ports) -> Result<Effect, ActionError> {
    let id = notification.id().to_string();
    let (is_rejected, mutant) = {
        let mut world = lock(ports.world());
        (world.refuses(&id), world.mutant)
    };
    if is_rejected {
        return Err(mutants::rejection(mutant, "the business refuses it".to_owned()));
    }
    let attributes = vec![("id", id.clone()), ("event", notification.event().to_owned())];
    let entry = Put { table: "ledger".to_owned(), key: "id", attributes };
    if !mutants::splits_transactions(mutant) {
        return Ok(Effect { outcome: None, writes: vec![entry] });
    }
    let write = Call::new("write the effect of", [&id]);
    let replaces = ports.call(write, move |world, _| Ok(world.table.put(&entry))).await;
    if replaces.map_err(mutants::action_error)? {
        return Err(ActionError::Rejected("an item of the effect exists already".to_owned()));
    }
    Ok(Effect::default())
}

/// The network between the webhook and the receiver.
pub(crate) struct Network(Ports);

impl Post for Network {
    async fn post(&self, request: webhook::Request<'_>) -> Result<Response, NoAnswer> {
        let ports = &self.0;
        let (task, mutant) = (ports.task(), mutant(ports));
        let request = arriving(&request);
        let began = lock(ports.world()).now;
        let mut waiting = Waiting { ports, id: request.id.clone(), began, is_over: false };
        let call = Call::new(EFFECT, [&request.id]);
        let sent = ports.call(call, move |world, _| Ok(world.receive_request(task, &request))).await;
        let answer = match sent {
            Ok(answer) => answer.await.map_err(|_| NoAnswer::Broken),
            Err(failure) => Err(waiting.fails(mutant, &failure)),
        }?;
        waiting.ends(&answer);
        if answer.stalls && mutants::waits_for_bodies(mutant) {
            std::future::pending::<()>().await;
        }
        while mutants::stops_for_writes(mutant) && lock(ports.world()).is_writing(task) {
            ports.sleep(Duration::from_millis(50)).await;
        }
        Ok(response(&answer))
    }
}

fn arriving(request: &webhook::Request<'_>) -> Request {
    let header = |name: &str| {
        let value = request.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        value.unwrap_or_default()
    };
    Request {
        id: event::readable_id(request.body).map_or_else(String::new, |id| id.to_string()),
        key: header("idempotency-key"),
        webhook_id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap_or_default(),
        signature: header("webhook-signature"),
        event: request.body.to_owned(),
    }
}

fn response(answer: &Answer) -> Response {
    let body = if answer.stalls { Body::wrap(Stalled) } else { Body::from("{}") };
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
    if let Some(wait) = answer.retry_after.as_ref().and_then(|wait| wait.parse().ok()) {
        response.headers_mut().insert(http::header::RETRY_AFTER, wait);
    }
    response.into()
}

/// A body that never ends.
struct Stalled;

impl HttpBody for Stalled {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        Poll::Pending
    }
}

/// A call whose caller waits. If the caller gives up, or never learns what happened, the outcome is unknown.
struct Waiting<'a> {
    ports: &'a Ports,
    id: String,
    began: Timestamp,
    is_over: bool,
}

impl Waiting<'_> {
    fn ends(&mut self, answer: &Answer) {
        self.is_over = true;
        let mut world = lock(self.ports.world());
        if answer.is_unknown() {
            world.call_is_unknown(self.ports.task(), &self.id);
        } else if answer.status < 300 {
            world.call_succeeded(self.ports.task(), &self.id);
        }
    }

    fn fails(&mut self, mutant: Option<Mutant>, failure: &Failure) -> NoAnswer {
        self.is_over = true;
        if failure.kind == FailureKind::MayHaveHappened {
            lock(self.ports.world()).call_is_unknown(self.ports.task(), &self.id);
            return NoAnswer::Broken;
        }
        mutants::not_connected(mutant)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            lock(self.ports.world()).call_is_given_up(self.ports.task(), &self.id, self.began);
        }
    }
}

/// The signing secret in Secrets Manager.
pub(crate) struct Secret {
    ports: Ports,
    /// What the process knows since it started.
    known: std::sync::Mutex<Option<String>>,
}

impl Secret {
    /// The secret as a process sees it that may have started some minutes ago.
    fn of_warm_process(ports: &Ports) -> Self {
        let world = lock(ports.world());
        let age = rng::numbered(world.scenario.seed, "warm", ports.task()).u64(0..WARM_FOR.as_secs());
        let started = world.now.saturating_sub(Duration::from_secs(age)).unwrap_or(world.now);
        let known = world.secret_at(started);
        drop(world);
        Self { ports: ports.clone(), known: Some(known).into() }
    }
}

impl SecretSource for Secret {
    async fn read(&self) -> Result<String, Failure> {
        let known = self.known.lock().ok().and_then(|mut known| known.take());
        if let Some(known) = known {
            if mutants::keeps_secrets(mutant(&self.ports)) {
                *self.known.lock().map_err(|_| Failure::retryable("poisoned"))? = Some(known.clone());
            }
            return Ok(known);
        }
        let call = Call::new(GET_SECRET, [""; 0]);
        self.ports.call(call, |world, _| Ok(world.secret_at(world.now))).await
    }
}

/// The longest time that a call of the webhook takes.
pub(crate) const CALL_TIMEOUT: Duration = limits::WEBHOOK_TIMEOUT;
