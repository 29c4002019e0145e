//! What the page asks for and what it may change, in JSON.

use super::answer::Answer;
use super::{Server, decision, fault, metrics, trouble};
use crate::attention::{self, Filter};
use crate::groups::{Group, Groups, Key};
use crate::list;
use crate::status::{self, Shown};
use crate::summary::{Counted, Summary};
use aws::SystemClock;
use hyper::{Method, StatusCode};
use notification::{Clock, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// Pending ones need attention if they have been for this long, as for `notifyctl groups`.
const PENDING_FOR: Duration = Duration::from_mins(5);

/// Answers a request.
pub(crate) async fn answer(server: &Rc<Server>, method: &Method, path: &str, query: &str, body: &[u8]) -> Answer {
    let answered = match (method, path) {
        (&Method::GET, "/api/flow") => flow(server, query).await,
        (&Method::GET, "/api/metrics") => Ok(Answer::json(&metrics::look(&server.stack, &server.metrics).await)),
        (&Method::GET, "/api/groups") => groups(server).await,
        (&Method::GET, "/api/ids") => ids(server, query).await,
        (&Method::GET, "/api/notification") => notification(server, query).await,
        (&Method::GET, "/api/trouble") => trouble::look(server).await,
        (&Method::GET, "/api/decision") => Ok(Answer::json(&*server.decision.borrow())),
        (&Method::POST, path) => change(server, path, body).await,
        _ => Err(nothing()),
    };
    answered.unwrap_or_else(|problem| problem)
}

fn nothing() -> Answer {
    Answer::problem(StatusCode::NOT_FOUND, "there is no such thing to ask for")
}

async fn change(server: &Rc<Server>, path: &str, body: &[u8]) -> Result<Answer, Answer> {
    if !server.allows_changes {
        let text = "this page is read-only; `notifyctl ui --allow-changes` lets it change";
        return Err(Answer::problem(StatusCode::FORBIDDEN, text));
    }
    match path {
        "/api/decision" => decision::plan(server, read(body)?).await,
        "/api/decision/start" => decision::start(server, &read(body)?),
        "/api/trouble" => trouble::send(server, &read(body)?).await,
        "/api/fault" => fault::cause(server, &read(body)?).await,
        "/api/decision/stop" => decision::stop(server, &read(body)?),
        _ => Err(nothing()),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| Answer::problem(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// A parameter of the query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    parameters.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The counts, and when they were read.
#[derive(Debug, Serialize)]
struct Flow<'a> {
    stack: &'a str,
    is_local: bool,
    allows_changes: bool,
    at: String,
    summary: Summary,
    oldest_pending: Option<String>,
}

/// The counts: of what is not DONE or, with `all=1`, of every status, which reads the whole table.
async fn flow(server: &Server, query: &str) -> Result<Answer, Answer> {
    let stack = &server.stack;
    let counted = if parameter(query, "all").is_some() { Counted::WholeTable } else { Counted::Indexes };
    let summary = Summary::read(stack, counted).await?;
    let oldest_pending = attention::oldest_pending(stack).await?;
    Ok(Answer::json(&Flow {
        stack: &stack.name,
        is_local: stack.is_local,
        allows_changes: server.allows_changes,
        at: format!("{:.3}", SystemClock.now()),
        summary,
        oldest_pending,
    }))
}

/// What needs attention.
#[derive(Debug, Serialize)]
struct Attention {
    groups: Vec<Group>,
    read_units: f64,
}

async fn groups(server: &Server) -> Result<Answer, Answer> {
    let filter = Filter { pending_for: PENDING_FOR, ..Filter::default() };
    let mut groups = Groups::default();
    let read_units = attention::each(&server.stack, &filter, |entry| groups.add(entry)).await?;
    Ok(Answer::json(&Attention { groups: groups.largest_first(), read_units }))
}

/// The notifications of a page of a group's ids.
const IDS: usize = 20;

/// A page of the ids of a group, the oldest first.
async fn ids(server: &Server, query: &str) -> Result<Answer, Answer> {
    let group: Result<Key, String> = parameter(query, "group").unwrap_or_default().parse();
    let group = group.map_err(|text| Answer::problem(StatusCode::BAD_REQUEST, &text))?;
    let filter = Filter { pending_for: PENDING_FOR, ..group.filter() };
    let after = parameter(query, "after");
    Ok(Answer::json(&list::page(&server.stack, &filter, Some(&group), IDS, after.as_deref()).await?))
}

/// One notification. Its event, and the outcome that its action noted, only if that is asked for: both may have personal data.
async fn notification(server: &Server, query: &str) -> Result<Answer, Answer> {
    let id = parameter(query, "id").filter(|id| !id.is_empty() && id.chars().count() <= limits::ID_MAX_CHARS);
    let Some(id) = id else {
        return Err(Answer::problem(StatusCode::BAD_REQUEST, "an id is needed, of the length that ids have"));
    };
    let with_event = parameter(query, "event").is_some();
    let Some(Shown { attributes, timeline }) = status::read(&server.stack, &id, with_event).await? else {
        return Err(Answer::problem(StatusCode::NOT_FOUND, &format!("{id} {}", status::ABSENT)));
    };
    let attributes: Vec<Value> =
        attributes.iter().map(|(name, value)| json!([name, status::for_people(name, value)])).collect();
    Ok(Answer::json(&json!({"id": id, "attributes": attributes, "timeline": timeline})))
}
