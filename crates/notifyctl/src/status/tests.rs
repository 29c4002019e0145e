use super::*;
use crate::testing::stack;
use std::time::Duration;

const RECEIVED: &str = "2026-11-22T10:00:00.000Z";

fn args(id: &str) -> StatusArgs {
    StatusArgs { id: id.to_owned(), event: false, since: None, no_logs: false, dead_letters: false }
}

async fn put(stack: &Stack, attributes: &[(&str, &str)]) {
    let put = attributes
        .iter()
        .fold(stack.dynamodb.put_item(), |put, (name, value)| put.item(*name, AttributeValue::S((*value).to_owned())));
    put.table_name(&stack.table_name).send().await.unwrap();
}

/// A stack with one notification that is DONE, with an outcome.
async fn with_done() -> Stack {
    let stack = stack().await;
    let event = r#"{"id":"a","data":{"secret":1}}"#;
    let done = [("status", "DONE"), ("received_at", RECEIVED), ("done_at", "2026-11-22T10:00:01.500Z")];
    put(&stack, &[&[("id", "a"), ("event", event), ("outcome", r#"{"secret":2}"#)], &done[..]].concat()).await;
    stack
}

#[tokio::test]
async fn the_event_and_the_outcome_are_shown_only_if_asked() {
    let stack = with_done().await;
    let names = async |with_content| {
        let shown = read(&stack, "a", with_content).await.unwrap().unwrap();
        shown.attributes.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(false).await, ["id", "status", "received_at", "done_at"]);
    assert_eq!(names(true).await, ["id", "status", "received_at", "done_at", "outcome", "event"]);
}

/// The model has no Lambda and no queues, so neither logs nor dead letters can be read.
#[tokio::test]
async fn what_cannot_be_read_is_remarked_in_a_line_each_and_the_rest_is_told() {
    let stack = with_done().await;
    for (dead_letters, remark) in
        [(false, "the dead letters were not counted"), (true, "the dead letters were not read")]
    {
        let report = collect(&stack, &StatusArgs { dead_letters, ..args("a") }).await.unwrap();
        assert!(report.found.is_some());
        let what: Vec<_> = report.timeline.iter().map(|event| (event.what.as_str(), event.after_ms)).collect();
        assert_eq!(what, [("received: ingest put it into the table", None), ("DONE", Some(1_500))]);
        let begins = ["could not read the logs of ingest, publisher and downstream: GetFunctionConfiguration", remark];
        assert_eq!(report.remarks.len(), begins.len(), "{:?}", report.remarks);
        for (remark, begin) in report.remarks.iter().zip(begins) {
            assert!(remark.starts_with(begin) && remark.lines().count() == 1, "{remark}");
        }
    }
}

#[test]
fn a_number_is_a_number_for_machines_and_a_time_of_expiry_is_a_time_for_people() {
    let number = value(&AttributeValue::N("1803804653".to_owned())).unwrap();
    assert_eq!(number, Value::from(1_803_804_653));
    assert_eq!(for_people("expires_at", &number), "2027-02-28T08:50:53Z");
    assert_eq!(for_people("failures", &2.into()), "2");
    assert_eq!(for_people("id", &"a".into()), "a");
}

#[tokio::test]
async fn without_logs_none_are_searched() {
    let report = collect(&with_done().await, &StatusArgs { no_logs: true, ..args("a") }).await.unwrap();
    assert!(!report.remarks.iter().any(|remark| remark.contains("log")), "{:?}", report.remarks);
}

#[tokio::test]
async fn a_notification_that_is_not_in_the_table_has_no_status_but_may_have_a_timeline() {
    let report = collect(&stack().await, &StatusArgs { no_logs: true, ..args("b") }).await.unwrap();
    assert!(report.found.is_none());
    let refused = Event::new(RECEIVED.to_owned(), Origin::Ingest, "ERROR not accepted".to_owned());
    let shown = Value::Object(as_json("b", Vec::new(), vec![refused], Vec::new()));
    assert_eq!((&shown["id"], &shown["status"]), (&"b".into(), &Value::Null));
    assert_eq!((&shown["timeline"][0]["from"], &shown["remarks"]), (&"ingest".into(), &Value::Array(Vec::new())));
}

#[test]
fn the_logs_are_searched_from_before_the_first_time_in_the_table_or_as_far_back_as_asked() {
    let now: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
    let from = |since, of_table: &[Event]| search_from(&StatusArgs { since, ..args("a") }, of_table, now).to_string();
    let received = [Event::new(RECEIVED.to_owned(), Origin::Table, String::new())];
    assert_eq!(from(None, &received), "2026-11-22T08:00:00Z");
    assert_eq!(from(None, &[]), "2026-11-29T10:00:00Z");
    assert_eq!(from(Some(Duration::from_mins(1)), &received), "2026-11-30T09:59:00Z");
}
