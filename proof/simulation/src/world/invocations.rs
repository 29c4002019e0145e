//! Lambda: invocations begin, run into their timeouts, are throttled, fail, or run twice.

use super::budgets::Spent;
use super::state::{Respond, World};
use crate::aws::lambda::{Ended, Invocation, Running, Task};
use crate::aws::source::{Function, Source};
use crate::faults::{self, Fault};
use crate::scenario::Trouble;
use crate::trace::Step;
use jiff::Timestamp;
use std::collections::HashSet;
use std::time::Duration;

impl World {
    /// Invokes a function. The invocation itself is a call that can fail.
    pub(super) fn invoke(&mut self, from: Source, ids: Vec<String>, payload: String, respond: Respond) {
        let function = from.function();
        let (number, fault) = self.next_fault("invoke");
        let latency = faults::latency(self.scenario.seed, number);
        let throttled = self.suffers(Trouble::Throttled);
        if throttled || matches!(fault, Some(Fault::Refused | Fault::Partial)) {
            self.note("an invocation is throttled");
            self.trace(|| Step::refused(from.name(), function.name(), &ids, "throttled"));
            self.after(latency, move |world| respond(world, Ended::Throttled));
            return;
        }
        if self.is_down(function) || matches!(fault, Some(Fault::NoAnswer | Fault::CrashBefore)) {
            self.note("an invocation fails");
            self.trace(|| Step::refused(from.name(), function.name(), &ids, "fails at once"));
            self.after(latency, move |world| respond(world, Ended::Error));
            return;
        }
        if function == Function::Downstream {
            self.check_workers(&ids);
        }
        let (task, name) = self.register(from, ids.clone());
        let respond = match fault {
            Some(Fault::LostReply | Fault::Late | Fault::CrashAfter) => lose_answer(name, respond),
            _ => respond,
        };
        if fault == Some(Fault::Repeated) {
            self.note("an invocation runs twice");
            if from == Source::Schedule {
                self.sweeps_at_once();
            }
            let (twin, _) = self.register(from, ids);
            self.begin(twin, function, payload.clone(), latency * 2, Box::new(|_, _| {}));
        }
        let begins = if fault == Some(Fault::Slow) { faults::slow(self.scenario.seed, number) } else { latency };
        self.begin(task, function, payload, begins, respond);
    }

    fn is_down(&self, function: Function) -> bool {
        match function {
            Function::Ingest => false,
            Function::Publisher => self.suffers(Trouble::PublisherDown),
            Function::Downstream => self.suffers(Trouble::DownstreamDown),
        }
    }

    /// Checks that, where nothing goes wrong, no other worker has one of these notifications.
    fn check_workers(&mut self, ids: &[String]) {
        let ours: HashSet<&String> = ids.iter().collect();
        let mut workers = self.running.values().filter(|running| running.from.function() == Function::Downstream);
        if workers.any(|running| running.ids.iter().any(|id| ours.contains(id))) {
            self.note("two workers have one notification at once");
            if self.scenario.is_healthy() {
                self.violated(format!("two workers have {} at once, and nothing went wrong", ids.join(", ")));
            }
        }
    }

    /// Gives an invocation its number and its name.
    fn register(&mut self, from: Source, ids: Vec<String>) -> (Task, String) {
        self.tasks += 1;
        let function = from.function();
        let count = self.started.entry(function).or_default();
        *count += 1;
        let name = format!("{} {count}", function.name());
        self.trace(|| Step::call(from.name(), &name, ids.join(", "), None));
        let (began, guarantee, spent) = (self.now, self.guarantee, Spent::default());
        self.running.insert(self.tasks, Running { from, name: name.clone(), ids, began, guarantee, spent });
        (self.tasks, name)
    }

    /// Begins an invocation, and ends it at its timeout.
    fn begin(&mut self, task: Task, function: Function, payload: String, after: Duration, respond: Respond) {
        let timeout = match function {
            Function::Ingest => self.deployed.ingest_timeout,
            Function::Publisher | Function::Downstream => self.deployed.stream_function_timeout,
        };
        self.after(after, move |world| {
            let deadline = world.now.saturating_add(timeout).unwrap_or(Timestamp::MAX);
            world.doubts.begins(task, deadline);
            world.at(deadline, move |world| world.time_out(task));
            if let Some(running) = world.running.get_mut(&task) {
                // It may have been deployed since the invocation was on its way.
                (running.began, running.guarantee) = (world.now, world.guarantee);
            }
            world.spawns.push((Invocation { task, function, payload, deadline }, respond));
        });
    }

    fn time_out(&mut self, task: Task) {
        let Some(Running { name, ids, .. }) = self.running.get(&task) else { return };
        if self.scenario.clocks_agree() {
            self.violated(format!("{name} ran into its timeout with {}", ids.join(", ")));
        } else {
            self.note("an invocation whose clock is wrong runs into its timeout");
        }
        self.kills.push((task, "it runs into its timeout"));
    }

    /// Notes how an invocation ended that the mapping of Kinesis made.
    pub(crate) fn ends(&mut self, task: Task, response: &str) {
        let half = self.deployed.stream_function_timeout / 2;
        let Some(running) = self.running.get(&task).filter(|running| running.from == Source::Kinesis) else { return };
        if response.contains("itemIdentifier") && self.now >= running.began + half {
            self.note("a batch ends before its deadline and reports the rest");
        }
    }

    /// Ends an invocation or a command, and returns its name.
    pub(crate) fn end(&mut self, task: Task) -> String {
        let name = self.name_of(task);
        if let Some(running) = self.running.remove(&task) {
            self.ended.insert(task, running.guarantee);
        }
        self.commands_running.remove(&task);
        name
    }

    /// The name of an invocation, or of the operator who runs a command.
    pub(crate) fn name_of(&self, task: Task) -> String {
        let invocation = self.running.get(&task).map(|running| &running.name);
        let operator = self.commands_running.get(&task).map(|(operator, _)| operator);
        invocation.or(operator).cloned().unwrap_or_default()
    }
}

/// The function runs, and the mapping does not receive its answer.
fn lose_answer(name: String, respond: Respond) -> Respond {
    Box::new(move |world, _| {
        world.note("a function's answer is lost");
        world.trace(|| Step::note_over(&name, "its answer is lost"));
        respond(world, Ended::Error);
    })
}
