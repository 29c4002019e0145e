//! A decision about a group, from the page: planned first, then carried out as by `notifyctl redrive` and `resolve`.
//!
//! There is one at a time, so that the rate is that of all changes that the page makes.

use super::Server;
use super::answer::Answer;
use crate::decide;
use crate::decide::SetArgs;
use crate::decide::many::{Order, Progress, seconds};
use crate::decide::plan::{Plan, Planned};
use crate::groups::Key;
use hyper::StatusCode;
use notification::operator;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use tokio::task::{AbortHandle, spawn_local};

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Redrive,
    ResolveRetry,
    ResolveDone,
}

impl From<What> for operator::Decision {
    fn from(what: What) -> Self {
        match what {
            What::Redrive => Self::Redrive,
            What::ResolveRetry => Self::ResolveRetry,
            What::ResolveDone => Self::ResolveDone,
        }
    }
}

/// What the page asks to be planned.
#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    group: String,
    what: What,
    /// Changes per second, at most.
    rate: u32,
    /// Stops when this percentage of those that run again fail again.
    stop_at: u8,
}

/// A decision about a group.
#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    /// Tells it from those before.
    number: u64,
    group: String,
    what: What,
    rate: u32,
    stop_at: u8,
    /// How many notifications the set has.
    count: usize,
    /// About how long it takes to decide on all of them.
    seconds: usize,
    stage: Stage,
    progress: Progress,
    /// The plan's file; `None` while it is only planned.
    file: Option<String>,
    /// Why it ended early.
    error: Option<String>,
    #[serde(skip)]
    set: Vec<Planned>,
    #[serde(skip)]
    task: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Planned,
    Running,
    Ended,
    /// By the person who looks at the page, as with Ctrl-C.
    Interrupted,
}

/// Which decision the page means: not one that another page has planned meanwhile.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    number: u64,
}

/// Fixes the set, and changes nothing.
pub(crate) async fn plan(server: &Server, wish: Wish) -> Result<Answer, Answer> {
    refuse_while_running(server)?;
    let wrong = |text: &str| Answer::problem(StatusCode::BAD_REQUEST, text);
    let group: Key = wish.group.parse().map_err(|text: String| wrong(&text))?;
    if !(1..=1_000).contains(&wish.rate) || !(1..=100).contains(&wish.stop_at) {
        return Err(wrong("the rate is 1 to 1,000 per second, and the share to stop at 1 to 100 percent"));
    }
    let (table, set) = (decide::table(&server.stack), options(group, wish.rate, wish.stop_at));
    let order = Order { stack: &server.stack, table: &table, decision: wish.what.into(), set: &set };
    let planned = order.select().await?.set;
    // Another page may have begun meanwhile.
    refuse_while_running(server)?;
    let mut decision = server.decision.borrow_mut();
    let planned = Decision {
        number: decision.as_ref().map_or(1, |before| before.number + 1),
        group: wish.group,
        what: wish.what,
        rate: wish.rate,
        stop_at: wish.stop_at,
        count: planned.len(),
        seconds: seconds(planned.len(), wish.rate),
        stage: Stage::Planned,
        progress: Progress::default(),
        file: None,
        error: None,
        set: planned,
        task: None,
    };
    let answer = Answer::json(&planned);
    *decision = Some(planned);
    Ok(answer)
}

fn refuse_while_running(server: &Server) -> Result<(), Answer> {
    match &*server.decision.borrow() {
        Some(decision) if decision.stage == Stage::Running => {
            let text = "another decision is being carried out; wait for it, or stop it";
            Err(Answer::problem(StatusCode::CONFLICT, text))
        }
        _ => Ok(()),
    }
}

/// As the options of the commands.
fn options(group: Key, rate: u32, stop_at: u8) -> SetArgs {
    SetArgs { ids: vec![], group: Some(group), yes: true, rate, stop_at, wait: true, plan: None, resume: None }
}

/// Carries out what was planned.
pub(crate) fn start(server: &Rc<Server>, which: &Which) -> Result<Answer, Answer> {
    let mut slot = server.decision.borrow_mut();
    let planned = slot.as_mut().filter(|decision| decision.number == which.number && decision.stage == Stage::Planned);
    let Some(decision) = planned else {
        return Err(Answer::problem(StatusCode::CONFLICT, "this is not the last plan; count again"));
    };
    let Ok(group) = decision.group.parse() else {
        return Err(Answer::problem(StatusCode::BAD_REQUEST, "the group cannot be read"));
    };
    let set = options(group, decision.rate, decision.stop_at);
    let table = decide::table(&server.stack);
    let order = Order { stack: &server.stack, table: &table, decision: decision.what.into(), set: &set };
    let plan = order.write(decision.set.clone())?;
    decision.set.clear();
    decision.file = Some(plan.path.display().to_string());
    decision.progress.left = plan.left.len();
    decision.stage = Stage::Running;
    let task = spawn_local(carry_out(Rc::clone(server), set, decision.what, plan));
    decision.task = Some(task.abort_handle());
    Ok(Answer::json(decision))
}

async fn carry_out(server: Rc<Server>, set: SetArgs, what: What, mut plan: Plan) {
    let table = decide::table(&server.stack);
    let order = Order { stack: &server.stack, table: &table, decision: what.into(), set: &set };
    let note = |progress| {
        if let Some(decision) = &mut *server.decision.borrow_mut() {
            decision.progress = progress;
        }
    };
    let ended = order.decide_on_all(&mut plan, note).await;
    if let Some(decision) = &mut *server.decision.borrow_mut() {
        decision.stage = Stage::Ended;
        match ended {
            Ok((progress, _)) => decision.progress = progress,
            Err(error) => decision.error = Some(error.to_string()),
        }
    }
}

/// Stops it as Ctrl-C stops the command. The plan's file continues it.
pub(crate) fn stop(server: &Server, which: &Which) -> Result<Answer, Answer> {
    let mut slot = server.decision.borrow_mut();
    let running = slot.as_mut().filter(|decision| decision.number == which.number && decision.stage == Stage::Running);
    let Some(decision) = running else {
        return Err(Answer::problem(StatusCode::CONFLICT, "it has ended"));
    };
    if let Some(task) = decision.task.take() {
        task.abort();
    }
    decision.stage = Stage::Interrupted;
    Ok(Answer::json(decision))
}
