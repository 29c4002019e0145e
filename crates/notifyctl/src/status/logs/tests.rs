use super::*;
use std::collections::VecDeque;
use std::time::Duration;

const DOWNSTREAM: Search<'_> = Search { id: "a", from: Origin::Downstream, with_content: false, until: Timestamp::MAX };

/// A log line as Lambda hands it on: the function's own time is earlier than CloudWatch's.
fn line(fields: &Value) -> Value {
    json!({"timestamp": 1_795_341_600_500_i64, "message": fields.to_string()})
}

fn failed(id: &str) -> Value {
    line(&json!({
        "timestamp": "2026-11-22T10:00:00.123456Z", "level": "ERROR", "target": "downstream::ended",
        "message": "failed permanently; the notification is FAILED",
        "reason_code": "rejected", "reason": "rejected: no such order",
        "spans": [{"requestId": "r", "name": "Lambda runtime invoke"}, {"id": id, "name": "record"}],
    }))
}

const WINDOW: Window = Window { from: 0, to: 1 };

fn problem(text: &str, is_retryable: bool) -> Problem {
    Problem { text: text.to_owned(), is_retryable }
}

/// Searches a window with these answers, and returns how many calls were made, too.
async fn search(search: &Search<'_>, answers: impl IntoIterator<Item = Result<Vec<Value>, Problem>>) -> (Found, usize) {
    let mut answers: VecDeque<_> = answers.into_iter().collect();
    let (mut calls, mut read) = (0, 0);
    let found = search.run(&[WINDOW], async |_, token| {
        assert_eq!(token, (read > 0).then(|| read.to_string()), "a page has the token of the one before");
        calls += 1;
        let page = answers.pop_front().unwrap()?;
        read += 1;
        let next = (!answers.is_empty()).then(|| read.to_string());
        Ok(json!({"events": page, "nextToken": next}))
    });
    (found.await, calls)
}

fn told(fields: &Value, with_content: bool) -> String {
    Search { with_content, ..DOWNSTREAM }.event(&line(fields)).unwrap().what
}

#[tokio::test]
async fn every_page_is_read_and_only_the_lines_that_name_the_notification_are_kept() {
    let text = json!({"timestamp": 1, "message": "START RequestId: a"});
    let (found, read) = search(&DOWNSTREAM, [Ok(vec![]), Ok(vec![failed("a-2"), text, failed("a")]), Ok(vec![])]).await;
    let what = "ERROR failed permanently; the notification is FAILED: rejected: no such order (rejected)".to_owned();
    let event = Event::new("2026-11-22T10:00:00.123Z".to_owned(), Origin::Downstream, what);
    assert_eq!(found, Found { events: vec![event], older: 0, end: End::Complete });
    assert_eq!((read, remarks(&[(Origin::Downstream, found)])), (3, Vec::new()));
}

#[tokio::test]
async fn a_search_ends_after_a_number_of_pages_and_says_so() {
    let (found, read) = search(&DOWNSTREAM, (0..=limits::LOG_PAGES_MAX).map(|_| Ok(vec![failed("a")]))).await;
    assert_eq!((read, found.events.len()), (limits::LOG_PAGES_MAX, limits::LOG_PAGES_MAX));
    assert!(
        remarks(&[(Origin::Downstream, found)])[0]
            .contains("the search of downstream's log stopped at its limit; lines may be missing")
    );
}

#[tokio::test]
async fn a_search_ends_when_its_time_is_over_and_says_so() {
    let search = Search { until: after(SystemClock.now(), Duration::from_millis(20)), ..DOWNSTREAM };
    let mut read = 0;
    let found = search.run(&[WINDOW], async |_, _| {
        read += 1;
        if read > 1 {
            std::future::pending::<()>().await;
        }
        Ok(json!({"events": [failed("a")], "nextToken": "t"}))
    });
    let found = found.await;
    assert_eq!(found.events.len(), 1);
    assert!(
        remarks(&[(Origin::Downstream, found)])[0]
            .contains("the search of downstream's log stopped at its limit; lines may be missing")
    );
}

#[tokio::test]
async fn a_call_that_was_throttled_is_repeated() {
    let (found, calls) = search(&DOWNSTREAM, [Err(problem("throttled", true)), Ok(vec![failed("a")])]).await;
    assert_eq!((calls, found.events.len(), found.end), (2, 1, End::Complete));
}

#[tokio::test]
async fn a_call_that_is_throttled_until_the_time_is_over_is_the_reason_of_the_end() {
    let search = Search { until: after(SystemClock.now(), Duration::from_secs(1)), ..DOWNSTREAM };
    let found = search.run(&[WINDOW], async |_, _| Err(problem("throttled", true))).await;
    assert_eq!(found.end, End::Failed("throttled".to_owned()));
}

#[tokio::test]
async fn a_long_window_leaves_pages_for_those_after_it() {
    let windows = [Window { from: 0, to: 9 }, Window { from: 90, to: 99 }, Window { from: 10, to: 89 }];
    let mut read = [0; 3];
    let found = DOWNSTREAM.run(&windows, async |window, _| {
        let place = windows.iter().position(|other| *other == window).unwrap();
        read[place] += 1;
        let next = (place != 1).then_some("t");
        Ok(json!({"events": [failed("a")], "nextToken": next}))
    });
    assert_eq!(found.await.end, End::Limit);
    assert_eq!((read[0], read[1], read[2]), (7, 1, limits::LOG_PAGES_MAX - 8));
}

#[test]
fn the_last_known_time_and_the_newest_lines_are_searched_before_the_rest() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (since, now) = (at("2026-11-22T08:00:00Z"), at("2026-11-22T20:00:00Z"));
    let of = |last: Option<&str>| -> Vec<String> {
        let time = |millis| Timestamp::from_millisecond(millis).unwrap().strftime("%H:%M:%S").to_string();
        windows(since, now, last.map(at)).iter().map(|it| format!("{}-{}", time(it.from), time(it.to))).collect()
    };
    let newest = "19:45:00-20:15:00";
    let around = ["09:45:00-10:15:00", newest, "10:15:00-19:44:59", "08:00:00-09:44:59"];
    assert_eq!(of(Some("2026-11-22T10:00:00Z")), around);
    for last in [None, Some("2026-11-22T20:00:01Z"), Some("2026-11-20T00:00:00Z")] {
        assert_eq!(of(last), [newest, "08:00:00-19:44:59"], "{last:?}");
    }
    assert_eq!(of(Some("2026-11-22T19:50:00Z")), ["19:35:00-19:44:59", newest, "08:00:00-19:34:59"]);
}

#[tokio::test]
async fn of_many_lines_the_last_are_kept() {
    let at = |second: usize| {
        line(&json!({"timestamp": format!("2026-11-22T10:{:02}:{:02}.000Z", second / 60, second % 60), "id": "a"}))
    };
    let lines: Vec<Value> = (0..limits::LOG_LINES_MAX + 5).map(at).collect();
    let (first, second) = lines.split_at(3);
    let (found, _) = search(&DOWNSTREAM, [Ok(first.to_vec()), Ok(second.to_vec())]).await;
    assert_eq!((found.older, found.events.len()), (5, limits::LOG_LINES_MAX));
    assert_eq!(found.events[0].at, "2026-11-22T10:00:05.000Z");
    assert!(remarks(&[(Origin::Downstream, found)])[0].contains("5 older lines"));
}

#[tokio::test]
async fn a_page_that_cannot_be_read_leaves_the_lines_before_it_and_the_reason() {
    let denied = problem("FilterLogEvents: 400 AccessDeniedException", false);
    let (found, read) = search(&DOWNSTREAM, [Ok(vec![failed("a")]), Err(denied), Ok(vec![])]).await;
    assert_eq!((read, found.events.len()), (2, 1));
    let remarks = remarks(&[(Origin::Downstream, found)]);
    assert_eq!(remarks, ["could not read the log of downstream: FilterLogEvents: 400 AccessDeniedException"]);
}

#[test]
fn logs_that_cannot_be_read_for_the_same_reason_are_remarked_in_one_line() {
    let failed = |problem: &str| Found { events: Vec::new(), older: 0, end: End::Failed(problem.to_owned()) };
    let searched = [Origin::Ingest, Origin::Publisher, Origin::Downstream].map(|from| (from, failed("denied")));
    assert_eq!(remarks(&searched), ["could not read the logs of ingest, publisher and downstream: denied"]);
    let two = [(Origin::Ingest, failed("denied")), (Origin::Publisher, failed("throttled"))];
    assert_eq!(remarks(&two).len(), 2);
}

#[test]
fn a_line_names_a_notification_by_a_field_or_by_a_span_and_by_nothing_else() {
    for named in [
        json!({"id": "a"}),
        json!({"item": "a"}),
        json!({"spans": [{"id": "a"}]}),
        json!({"spans": [{"name": "Lambda runtime invoke"}, {"id": "a"}]}),
    ] {
        assert!(names(&named, "a"), "{named}");
    }
    for other in [json!({}), json!({"message": "a"}), json!({"spans": [{"message_id": "a"}, {"id": "b"}]}), json!("a")]
    {
        assert!(!names(&other, "a"), "{other}");
    }
}

#[test]
fn a_line_without_a_time_of_its_own_has_cloudwatchs() {
    let event = DOWNSTREAM.event(&line(&json!({"id": "a", "timestamp": "now"}))).unwrap();
    assert_eq!(event.at, "2026-11-22T10:00:00.500Z");
}

#[test]
fn a_line_is_told_with_its_reason_and_its_counts() {
    let refused = json!({
        "id": "a", "level": "ERROR", "target": "ingest", "message": "not accepted", "reason": "conflict", "receive_count": 6,
    });
    assert_eq!(told(&refused, false), "ERROR not accepted: conflict (receive 6)");
    let late =
        json!({"id": "a", "level": "ERROR", "target": "downstream::ended", "message": "late", "status": "FAILED"});
    assert_eq!(told(&late, false), "ERROR late (status FAILED)");
}

#[test]
fn a_line_of_your_own_action_is_shown_only_if_content_is_asked_for() {
    let own = json!({"id": "a", "level": "INFO", "target": "approve::limit", "message": "the amount is 19.99"});
    let without = told(&own, false);
    assert!(without.contains("approve") && without.contains("--event") && !without.contains("19.99"), "{without}");
    assert_eq!(told(&own, true), "INFO the amount is 19.99");
}

#[test]
fn a_pattern_has_the_id_or_the_beginning_of_one_that_it_could_misread() {
    let value = |id: &str| pattern(id).split('"').nth(1).map(str::to_owned).unwrap();
    assert_eq!(value("rfd-000001"), "rfd-000001");
    assert_eq!(value("kinesis:shardId-000000000001:4967"), "kinesis:shardId-000000000001:4967");
    for (id, expected) in [
        ("aa*b", "aa*"),
        ("aa\"b", "aa*"),
        ("aa\\b", "aa*"),
        ("aaéb", "aa*"),
        ("é", "*"),
        ("aa b", "aa*"),
        ("*ab", "*ab"),
        ("*ab*", "*ab*"),
        ("a*bc*d", "*bc*"),
    ] {
        assert_eq!(value(id), expected, "{id}");
    }
}

#[test]
fn a_pattern_is_never_longer_than_cloudwatch_allows() {
    let longest = "i".repeat(limits::ID_MAX_CHARS);
    assert!(pattern(&longest).len() <= 1_024, "{}", pattern(&longest).len());
    assert!(pattern(&longest).contains("i*\""));
}
