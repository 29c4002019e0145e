//! The ports of the real handlers: calls to a world in which each can fail.

use crate::aws::lambda::Task;
use crate::rng;
use crate::world::{Flight, Shared, World, lock};
use jiff::Timestamp;
use notification::testing::{Call, Calls, Refused};
use notification::{Clock, Failure, limits};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The ports of one invocation, or of one command of an operator.
#[derive(Clone)]
pub(crate) struct Ports {
    world: Shared,
    task: Task,
    /// How far the clock of its machine is ahead of the world's, in milliseconds.
    machine_ahead: i64,
    /// How far the clock from which Lambda takes its deadline is ahead of the world's, in milliseconds.
    service_ahead: i64,
}

impl Ports {
    /// The ports of an invocation. Lambda takes its deadline from another clock than its own.
    pub(crate) fn of_invocation(world: Shared, task: Task) -> Self {
        let (seed, services, instances) = {
            let scenario = &lock(&world).scenario;
            (scenario.seed, scenario.clock_skew_millis, scenario.instance_skew_millis)
        };
        let service_ahead = rng::numbered(seed, "skew", task).i64(-services..=services);
        let machine_ahead = service_ahead + rng::numbered(seed, "instance", task).i64(-instances..=instances);
        Self { world, task, machine_ahead, service_ahead }
    }

    /// The ports of a command that an operator runs. The operator's clock may be wrong by as much as `notifyctl` allows for.
    pub(crate) fn of_operator(world: Shared, task: Task) -> Self {
        let seed = lock(&world).scenario.seed;
        let allowed = i64::try_from(limits::OPERATOR_CLOCK_SKEW.as_millis()).unwrap_or(0) - 1;
        let machine_ahead = rng::numbered(seed, "operator's clock", task).i64(-allowed..=allowed);
        Self { world, task, machine_ahead, service_ahead: 0 }
    }

    /// The deadline of an invocation, as Lambda states it.
    pub(crate) fn deadline(&self, time: Timestamp) -> Timestamp {
        shifted(time, self.service_ahead)
    }

    /// The number of its invocation.
    pub(crate) const fn task(&self) -> Task {
        self.task
    }

    /// Counts a call or an action as in flight, until what is returned is dropped.
    pub(crate) fn in_flight(&self, flight: Flight) -> InFlight {
        lock(&self.world).begins(self.task, flight);
        InFlight { world: Arc::clone(&self.world), task: self.task, flight }
    }

    pub(crate) fn world(&self) -> &Shared {
        &self.world
    }
}

/// A call or an action in flight. It ends when its caller has the answer, or gives up.
pub(crate) struct InFlight {
    world: Shared,
    task: Task,
    flight: Flight,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.world).has_ended(self.task, self.flight);
    }
}

fn shifted(time: Timestamp, millis: i64) -> Timestamp {
    time.saturating_add(jiff::SignedDuration::from_millis(millis)).unwrap_or(Timestamp::MAX)
}

impl Calls for Ports {
    type Backend = World;

    async fn call<R: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnMut(&mut World, Refused<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let _in_flight = self.in_flight(Flight::Call);
        let (reply, answer) = oneshot::channel();
        lock(&self.world).call(self.task, call, effect, reply);
        match answer.await {
            Ok(answer) => answer,
            // The process is dead, or no reply will ever come.
            Err(_) => pending().await,
        }
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        let now = lock(&self.world).now;
        shifted(now, self.machine_ahead)
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        lock(&self.world).after(duration, move |_| {
            // The sleeper may be gone.
            let _ = wake.send(());
        });
        drop(woken.await);
    }
}
