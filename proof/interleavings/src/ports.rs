//! The ports of the handler over the world, and the action.

use crate::bugs;
use crate::scenario::Receiver;
use crate::world::{Request, Shared, World, entry, lock};
use futures_channel::oneshot;
use jiff::Timestamp;
use notification::ports::Table;
use notification::testing::{Call, Calls, Refused};
use notification::{Action, ActionError, Change, Clock, Deadline, Effect, Failure, Guarantee, Notification};
use std::fmt::Debug;
use std::future::pending;
use std::time::Duration;

/// The method of a call to the receiver.
pub(crate) const EFFECT: &str = "effect";

/// The ports of one worker, or of the operator.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) world: Shared,
    /// The number of the worker.
    pub(crate) actor: usize,
}

/// A request that can take effect, and be answered, in separate steps.
pub(crate) trait Pending: Send {
    /// Lets it take effect, again if it did before.
    fn arrive(&mut self, world: &mut World);
    /// Answers it with the result of its last effect. Returns the answer, or `None` if nobody waits for it.
    fn reply(&mut self) -> Option<String>;
    /// Answers it with a failure.
    fn fail(&mut self, failure: Failure);
    /// Whether its caller still waits.
    fn is_awaited(&self) -> bool;
}

/// A request with an answer of some type.
struct Sent<F, R> {
    effect: F,
    answer: Option<Result<R, Failure>>,
    reply: Option<oneshot::Sender<Result<R, Failure>>>,
}

impl<F, R> Pending for Sent<F, R>
where
    F: FnMut(&mut World, Refused<'_>) -> Result<R, Failure> + Send,
    R: Debug + Send,
{
    fn arrive(&mut self, world: &mut World) {
        self.answer = Some((self.effect)(world, &|_| None));
    }

    fn reply(&mut self) -> Option<String> {
        let (reply, answer) = (self.reply.take()?, self.answer.take()?);
        let text = format!("{answer:?}");
        reply.send(answer).is_ok().then_some(text)
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(reply) = self.reply.take() {
            // The caller may have given up.
            let _ = reply.send(Err(failure));
        }
    }

    fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_canceled())
    }
}

impl Calls for Ports {
    type Backend = World;

    async fn call<R: Debug + Send + 'static>(
        &self,
        call: Call,
        effect: impl FnMut(&mut World, Refused<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(Sent { effect, answer: None, reply: Some(reply) });
        lock(&self.world).send(Request { actor: self.actor, sent: 0, call, is_slow: false, pending });
        match answer.await {
            Ok(answer) => answer,
            // No reply will ever come.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        lock(&self.world).now_of(self.actor)
    }

    async fn sleep(&self, duration: Duration) {
        let woken = lock(&self.world).wake_after(self.actor, duration);
        if woken.await.is_err() {
            pending::<()>().await;
        }
    }
}

/// The action: it puts an entry into a second table, or calls the receiver.
pub(crate) struct CallReceiver {
    pub(crate) ports: Ports,
    pub(crate) guarantee: Guarantee,
}

impl Action for CallReceiver {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let (id, actor) = (notification.id().to_string(), self.ports.actor);
        let bug = lock(&self.ports.world).bug;
        if self.guarantee == Guarantee::Transactional {
            if !lock(&self.ports.world).would_accept() {
                return Err(bugs::rejection(bug, "the business rejects it".to_owned()));
            }
            if !bugs::splits_transactions(bug) {
                return Ok(Effect { outcome: None, writes: vec![entry()] });
            }
            let write = Call::new(EFFECT, [&id]);
            let replaces = self.ports.call(write, move |world, _| Ok(world.put_alone(actor))).await;
            return match replaces {
                Ok(false) => Ok(Effect::default()),
                Ok(true) => Err(ActionError::Rejected("an item of the effect exists already".to_owned())),
                Err(failure) => bugs::acted(bug, Err(failure)),
            };
        }
        if bugs::writes_done_first(bug) {
            let done = Change::done(notification.id(), notification.event(), None);
            drop(self.ports.write(&[done], self.ports.now()).await);
        }
        let called = self.ports.call(Call::new(EFFECT, [&id]), move |world, _| world.receive(actor)).await;
        bugs::acted(bug, called.map(|()| Effect::default()))
    }
}

impl Receiver {
    /// Whether it accepts a call.
    pub(crate) const fn accepts(self, is_fixed: bool, has_accepted: bool) -> bool {
        match self {
            Self::Accepts => true,
            Self::Rejects => false,
            Self::RejectsUntilFixed => is_fixed,
            Self::RejectsRepeats => !has_accepted,
        }
    }
}
