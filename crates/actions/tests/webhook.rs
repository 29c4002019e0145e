//! The webhook with a receiver on a loopback port: what is delivered, and what each answer leads to.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "webhook/ports.rs"]
mod ports;
#[path = "webhook/receiver.rs"]
mod receiver;

use actions::webhook::{Http, Settings, Webhook};
use aws::Environment;
use notification::Clock;
use notification::{Action, ActionError, Deadline, Effect, Notification, limits};
use ports::{Secret, Time};
use receiver::{Answer, Receiver, Request};
use serde_json::{Value, json};
use std::time::Duration;

const OLD: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
const NEW: &str = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";
const IDEMPOTENT: &str = "idempotent";
const AT_MOST_ONCE: &str = "at-most-once";

fn environment(url: &str, guarantee: &str) -> Environment {
    Environment::from_iter([("WEBHOOK_URL", url), ("WEBHOOK_GUARANTEE", guarantee), ("WEBHOOK_SECRET_ID", "s")])
}

/// A webhook with its receiver, its secret and its clock.
struct World {
    webhook: Webhook<Http, Secret, Time>,
    receiver: Receiver,
    secret: Secret,
    time: Time,
}

impl World {
    async fn new(guarantee: &str, time: Time, script: impl IntoIterator<Item = Answer>) -> Self {
        Self::with(guarantee, time, Receiver::start(script).await).await
    }

    async fn with(guarantee: &str, time: Time, receiver: Receiver) -> Self {
        let settings = Settings::from_environment(&environment(&receiver.url, guarantee)).unwrap();
        let secret = Secret::new(OLD);
        let webhook = Webhook::new(settings, secret.clone(), time.clone()).await.unwrap();
        Self { webhook, receiver, secret, time }
    }

    /// Runs the action with a minute until the deadline.
    async fn run(&self, id: &str) -> Result<Effect, ActionError> {
        self.run_within(id, Duration::from_mins(1)).await
    }

    async fn run_within(&self, id: &str, left: Duration) -> Result<Effect, ActionError> {
        self.webhook.run(&notification(id), Deadline::at(self.time.now() + left)).await
    }

    fn calls(&self) -> usize {
        self.receiver.requests().len()
    }
}

fn event(id: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{{"amount":19.990}}}}"#)
}

fn notification(id: &str) -> Notification {
    Notification::parse(event(id)).unwrap()
}

fn outcome(result: Result<Effect, ActionError>) -> Value {
    serde_json::from_str(result.unwrap().outcome.unwrap().as_str()).unwrap()
}

fn rejected(text: &str) -> Result<Effect, ActionError> {
    Err(ActionError::Rejected(text.to_owned()))
}

fn retry(text: &str) -> Result<Effect, ActionError> {
    Err(ActionError::Retry(text.to_owned()))
}

fn may_have_happened(text: &str) -> Result<Effect, ActionError> {
    Err(ActionError::MayHaveHappened(text.to_owned()))
}

/// The secret of each signature of a delivery.
fn signed_with(request: &Request) -> Vec<&'static str> {
    let known = [OLD, NEW].map(|secret| (signature(request, secret), secret));
    let secret_of = |found: &str| known.iter().find(|(signature, _)| signature == found).unwrap().1;
    request.headers["webhook-signature"].split(' ').map(secret_of).collect()
}

/// The signature of a delivery with a secret, by the library of the specification.
fn signature(request: &Request, secret: &str) -> String {
    let timestamp = request.headers["webhook-timestamp"].parse().unwrap();
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    webhook.sign(&request.headers["webhook-id"], timestamp, request.body.as_bytes()).unwrap()
}

// ---- What is delivered ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_delivery_is_the_event_byte_for_byte_signed_and_with_the_id_as_its_key() {
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    assert_eq!(outcome(world.run("shop.rfd 1").await), json!({"status": 204, "body": ""}));
    let request = &world.receiver.requests()[0];
    assert_eq!(request.body, event("shop.rfd 1"));
    let header = |name: &str| request.headers[name].as_str();
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(header("idempotency-key"), "shop.rfd%201");
    assert_eq!(header("webhook-id"), "shop%2Erfd%201");
    assert_eq!(header("webhook-timestamp"), "1795000000");
    assert_eq!(signed_with(request), [OLD]);
}

#[tokio::test]
async fn the_trace_of_an_event_is_passed_on_in_headers_as_far_as_it_is_valid() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cases = [
        (json!(PARENT), json!("congo=t61rcWkgMzE,rojo=1"), Some(PARENT), Some("congo=t61rcWkgMzE,rojo=1")),
        (json!(PARENT), json!("a=b\r\nhost: elsewhere"), Some(PARENT), None),
        (json!(PARENT), Value::Null, Some(PARENT), None),
        (json!("4bf92f3577b34da6a3ce929d0e0e4736"), json!("congo=1"), None, None),
    ];
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    for (traceparent, tracestate, ..) in &cases {
        let event = json!({
            "specversion": "1.0", "id": "a", "source": "s", "type": "t", "traceparent": traceparent, "tracestate": tracestate,
        });
        let notification = Notification::parse(event.to_string()).unwrap();
        let deadline = Deadline::at(world.time.now() + Duration::from_mins(1));
        world.webhook.run(&notification, deadline).await.unwrap();
    }
    for (request, (.., traceparent, tracestate)) in world.receiver.requests().iter().zip(cases) {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        assert_eq!((header("traceparent"), header("tracestate")), (traceparent, tracestate));
        assert_eq!(signed_with(request), [OLD]);
    }
    assert_eq!(world.calls(), 4);
}

#[tokio::test]
async fn the_longest_ids_have_keys_of_at_most_255_bytes() {
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    for id in ["x".repeat(256), "ü".repeat(256), ".".repeat(256)] {
        world.run(&id).await.unwrap();
    }
    for request in world.receiver.requests() {
        assert!(request.headers["idempotency-key"].starts_with("sha256:"));
        assert_eq!(request.headers["webhook-id"], request.headers["idempotency-key"]);
        assert_eq!(signed_with(&request), [OLD]);
    }
}

#[tokio::test]
async fn while_the_secret_holds_two_a_delivery_has_two_signatures() {
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    world.secret.set(&format!("{NEW}\n{OLD}"));
    world.time.advance(limits::SECRET_MAX_AGE);
    world.run("a").await.unwrap();
    assert_eq!(signed_with(&world.receiver.requests()[0]), [NEW, OLD]);
}

#[tokio::test]
async fn connections_are_kept_by_an_idempotent_webhook_and_never_reused_at_most_once() {
    for (guarantee, connections) in [(IDEMPOTENT, 1), (AT_MOST_ONCE, 4)] {
        let world = World::new(guarantee, Time::stands(), vec![Answer::whole(200, "", "{}"); 4]).await;
        for _ in 0..4 {
            world.run("a").await.unwrap();
            for _ in 0..20 {
                // The client returns a connection to its pool in a separate task.
                tokio::task::yield_now().await;
            }
        }
        assert_eq!((world.calls(), world.receiver.connections()), (4, connections), "{guarantee}");
    }
}

// ---- Answers -------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_body_of_an_answer_is_the_outcome_up_to_2_kib() {
    let largest = format!(r#""{}""#, "x".repeat(limits::WEBHOOK_ANSWER_MAX_BYTES - 2));
    let larger = "x".repeat(limits::WEBHOOK_ANSWER_MAX_BYTES + 1);
    for (body, expected) in [
        (r#"{"ok":true}"#, json!({"status": 201, "body": {"ok": true}})),
        ("plain", json!({"status": 201, "body": "plain"})),
        (&largest, json!({"status":  201, "body": "x".repeat(limits::WEBHOOK_ANSWER_MAX_BYTES - 2)})),
        (&larger, json!({"status": 201, "omitted": "the body has more than 2048 bytes"})),
    ] {
        let world = World::new(IDEMPOTENT, Time::stands(), [Answer::whole(201, "", body)]).await;
        assert_eq!(outcome(world.run("a").await), expected);
    }
}

#[tokio::test]
async fn an_answer_of_2xx_is_a_success_whatever_its_body_does() {
    let a_second_passes = || Time::new(|wait| wait == limits::WEBHOOK_BODY_TIMEOUT);
    for guarantee in [IDEMPOTENT, AT_MOST_ONCE] {
        for (answer, time, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Time::stands(), json!({"status": 200, "body": ""})),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
                Time::stands(),
                json!({"status": 200, "omitted": "the connection broke within the body"}),
            ),
        ] {
            let world = World::new(guarantee, time, [Answer::cut(answer)]).await;
            assert_eq!(outcome(world.run("a").await), expected);
            assert_eq!(world.calls(), 1);
        }
        for stalled in [
            "HTTP/1.1 202 Accepted\r\n\r\n",
            "HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nhalf",
            "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ] {
            let world = World::new(guarantee, a_second_passes(), [Answer::stalled(stalled)]).await;
            let expected = json!({"status": 202, "omitted": "the body took longer than 1 s"});
            assert_eq!(outcome(world.run("a").await), expected);
        }
    }
}

#[tokio::test]
async fn a_body_is_not_waited_for_beyond_the_deadline() {
    let stalled = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let world = World::new(IDEMPOTENT, Time::stands(), [Answer::stalled(stalled)]).await;
    let left = limits::STOP_BEFORE_DEADLINE + Duration::from_millis(100);
    let expected = json!({"status": 200, "omitted": "the deadline left no time for the body"});
    assert_eq!(outcome(world.run_within("a", left).await), expected);
}

#[tokio::test]
async fn the_body_of_a_refusal_is_not_read() {
    let stalled = "HTTP/1.1 422 No\r\nContent-Length: 9\r\n\r\nhalf";
    let world = World::new(IDEMPOTENT, Time::stands(), [Answer::stalled(stalled)]).await;
    assert_eq!(world.run("a").await, rejected("the receiver answered 422"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new(IDEMPOTENT, Time::stands(), [Answer::whole(307, "Location: /else\r\n", "")]).await;
    assert_eq!(world.run("a").await, rejected("the receiver answered 307; redirects are not followed"));
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn a_conflict_is_an_earlier_call_in_progress_unless_there_was_none() {
    let world = World::new(IDEMPOTENT, Time::stands(), [Answer::status(409)]).await;
    let in_progress = "the receiver answered 409: an earlier call with this key is in progress";
    assert_eq!(world.run("a").await, retry(in_progress));
    let world = World::new(AT_MOST_ONCE, Time::stands(), [Answer::status(409)]).await;
    assert_eq!(world.run("a").await, rejected("the receiver answered 409"));
}

#[tokio::test]
async fn a_call_without_an_answer_may_have_happened_and_one_without_a_connection_did_not() {
    let twenty_seconds_pass = Time::new(|wait| wait == limits::WEBHOOK_TIMEOUT);
    let world = World::new(AT_MOST_ONCE, twenty_seconds_pass, [Answer::stalled("")]).await;
    assert_eq!(world.run("a").await, may_have_happened("the receiver did not answer in time"));
    let world = World::new(AT_MOST_ONCE, Time::stands(), [Answer::cut("")]).await;
    assert_eq!(world.run("a").await, may_have_happened("the connection to the receiver broke"));
    assert_eq!(world.calls(), 1);

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings::from_environment(&environment(&format!("http://{free}/"), AT_MOST_ONCE)).unwrap();
    let webhook = Webhook::new(settings, Secret::new(OLD), world.time.clone()).await.unwrap();
    let deadline = Deadline::at(world.time.now() + Duration::from_mins(1));
    let result = webhook.run(&notification("a"), deadline).await;
    assert_eq!(result, Err(ActionError::Unavailable("could not connect to the receiver".to_owned())));
}

#[tokio::test]
async fn a_receiver_whose_first_packet_is_lost_is_still_reached() {
    // The packet is sent again after a second or more.
    let receiver = Receiver::start_busy(Duration::from_millis(1_200)).await;
    let world = World::with(IDEMPOTENT, Time::stands(), receiver).await;
    assert_eq!(outcome(world.run("a").await)["status"], 204);
}

// ---- Retry-After ---------------------------------------------------------------------------------------------------

/// A clock for which only the waits pass that the receivers of these tests ask for.
fn asked_for() -> Time {
    Time::new(|wait| wait == Duration::from_secs(3))
}

/// Three seconds after the start, in both forms.
const IN_THREE_SECONDS: [&str; 2] = ["Retry-After: 3\r\n", "Retry-After: Wed, 18 Nov 2026 11:06:43 GMT\r\n"];

#[tokio::test]
async fn retry_after_is_waited_for_as_seconds_and_as_a_date() {
    for header in IN_THREE_SECONDS {
        for status in [409, 425, 429, 503] {
            let world = World::new(IDEMPOTENT, asked_for(), [Answer::whole(status, header, "")]).await;
            world.run("a").await.unwrap();
            let requests = world.receiver.requests();
            let sent: Vec<&str> = requests.iter().map(|request| &*request.headers["webhook-timestamp"]).collect();
            assert_eq!(sent, ["1795000000", "1795000003"], "{status} {header}");
        }
    }
}

#[tokio::test]
async fn after_an_attempt_of_unknown_outcome_no_refusal_of_a_later_one_says_that_nothing_happened() {
    for header in IN_THREE_SECONDS {
        for (status, reason) in [
            (404, "the receiver answered 404, after an attempt whose outcome is unknown"),
            (429, "the receiver answered 429, after an attempt whose outcome is unknown"),
            (401, "the receiver answered 401, after an attempt whose outcome is unknown"),
        ] {
            let time = Time::new(|wait| wait == Duration::from_secs(3) || wait == limits::SECRET_READ_INTERVAL);
            let script = [Answer::whole(503, header, ""), Answer::status(status)];
            let world = World::new(IDEMPOTENT, time, script).await;
            assert_eq!(world.run("a").await, may_have_happened(reason));
            assert_eq!(world.calls(), 2);
        }
    }
}

#[tokio::test]
async fn after_refusals_that_did_nothing_a_rejection_is_one() {
    let script = [Answer::whole(429, IN_THREE_SECONDS[0], ""), Answer::status(404)];
    let world = World::new(IDEMPOTENT, asked_for(), script).await;
    assert_eq!(world.run("a").await, rejected("the receiver answered 404"));
}

#[tokio::test]
async fn at_most_once_a_call_is_repeated_only_where_it_did_nothing_and_its_whole_time_is_left() {
    let busy = || [Answer::whole(429, IN_THREE_SECONDS[0], "")];
    let needed = Duration::from_secs(3) + limits::WEBHOOK_TIMEOUT + limits::REPORT_BEFORE_DEADLINE;
    let world = World::new(AT_MOST_ONCE, asked_for(), busy()).await;
    assert_eq!(
        world.run_within("a", needed.saturating_sub(Duration::from_millis(1))).await,
        Err(ActionError::Throttled("the receiver answered 429".to_owned()))
    );
    assert_eq!(world.calls(), 1);
    let world = World::new(AT_MOST_ONCE, asked_for(), busy()).await;
    assert!(world.run_within("a", needed).await.is_ok());
    assert_eq!(world.calls(), 2);

    let world = World::new(AT_MOST_ONCE, asked_for(), [Answer::whole(503, IN_THREE_SECONDS[0], "")]).await;
    assert_eq!(world.run("a").await, may_have_happened("the receiver answered 503"));
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_where_its_whole_time_is_left() {
    let needed = Duration::from_secs(3) + limits::WEBHOOK_TIMEOUT + limits::REPORT_BEFORE_DEADLINE;
    for (left, calls) in [(needed.saturating_sub(Duration::from_millis(1)), 1), (needed, 2)] {
        let world = World::new(IDEMPOTENT, asked_for(), [Answer::whole(429, IN_THREE_SECONDS[0], "")]).await;
        assert_eq!(world.run_within("a", left).await.is_ok(), calls == 2);
        assert_eq!(world.calls(), calls);
    }
}

// ---- Secrets -------------------------------------------------------------------------------------------------------

/// A clock for which only the wait between two readings of the secret passes.
fn readings_pass() -> Time {
    Time::new(|wait| wait <= limits::SECRET_READ_INTERVAL)
}

#[tokio::test]
async fn a_refused_signature_is_made_again_with_a_secret_that_has_changed() {
    for guarantee in [IDEMPOTENT, AT_MOST_ONCE] {
        for status in [401, 403] {
            let world = World::new(guarantee, readings_pass(), [Answer::status(status)]).await;
            world.secret.set(NEW);
            world.run("a").await.unwrap();
            world.run("b").await.unwrap();
            let requests = world.receiver.requests();
            let signed: Vec<_> = requests.iter().map(signed_with).collect();
            assert_eq!(signed, [[OLD], [NEW], [NEW]]);
            assert_eq!(world.secret.readings(), 2, "at start, and for the first delivery");
        }
    }
}

#[tokio::test]
async fn a_refusal_stands_where_the_secret_is_the_same_and_is_retried_where_the_new_one_is_refused_too() {
    for status in [401, 403] {
        let world = World::new(AT_MOST_ONCE, readings_pass(), [Answer::status(status)]).await;
        assert_eq!(world.run("a").await, rejected(&format!("the receiver answered {status}")));
        assert_eq!((world.calls(), world.secret.readings()), (1, 2));

        let world = World::new(AT_MOST_ONCE, readings_pass(), vec![Answer::status(status); 3]).await;
        world.secret.set(NEW);
        let reason = format!("the receiver answered {status}, also with the new secret");
        assert_eq!(world.run("a").await, retry(&reason), "it may have changed again");
        assert_eq!((world.calls(), world.secret.readings()), (2, 2));
        assert_eq!(world.run("a").await, rejected(&format!("the receiver answered {status}")));
    }
}

#[tokio::test]
async fn a_refusal_is_retried_where_it_is_not_known_whether_the_secret_has_changed() {
    let reason = "the receiver answered 401; the signing secret could not be read again, and may have changed";
    let spoil: [fn(&Secret); 2] = [Secret::fail, |secret| secret.set("whsec_short")];
    for spoil in spoil {
        let world = World::new(AT_MOST_ONCE, readings_pass(), [Answer::status(401)]).await;
        spoil(&world.secret);
        assert_eq!(world.run("a").await, retry(reason));
        assert!(world.run("b").await.is_ok(), "the secret read before is kept");
        assert_eq!(signed_with(&world.receiver.requests()[1]), [OLD]);
    }
}

#[tokio::test]
async fn a_changed_secret_is_used_only_where_a_whole_attempt_fits_before_the_deadline() {
    let world = World::new(AT_MOST_ONCE, readings_pass(), [Answer::status(401)]).await;
    world.secret.set(NEW);
    let reason =
        "the receiver answered 401; the signing secret has changed, but the deadline is too near for another attempt";
    assert_eq!(world.run_within("a", limits::WEBHOOK_TIMEOUT).await, retry(reason));
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn of_many_refused_deliveries_one_reads_the_secret() {
    const DELIVERIES: usize = 32;
    for changed in [false, true] {
        let time = readings_pass();
        let world = World::new(IDEMPOTENT, time, vec![Answer::status(401); DELIVERIES]).await;
        if changed {
            world.secret.set(NEW);
        }
        let ids: Vec<String> = (0..DELIVERIES).map(|n| format!("a{n}")).collect();
        let results = futures_util::future::join_all(ids.iter().map(|id| world.run(id))).await;
        assert!(results.iter().all(|result| result.is_ok() == changed));
        assert_eq!(world.calls(), if changed { 2 * DELIVERIES } else { DELIVERIES });
        assert_eq!(world.secret.readings(), 2, "at start, and once for all");
    }
}

#[tokio::test]
async fn the_secret_is_read_again_when_it_is_five_minutes_old() {
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    world.secret.set(NEW);
    world.time.advance(limits::SECRET_MAX_AGE.saturating_sub(Duration::from_millis(1)));
    world.run("a").await.unwrap();
    world.time.advance(Duration::from_millis(1));
    let (first, second) = futures_util::join!(world.run("b"), world.run("c"));
    assert!(first.is_ok() && second.is_ok());
    world.run("d").await.unwrap();
    let signed = |id: &str| {
        let requests = world.receiver.requests();
        signed_with(requests.iter().find(|request| request.headers["webhook-id"] == id).unwrap())
    };
    assert_eq!((signed("a"), signed("b"), signed("d")), (vec![OLD], vec![NEW], vec![NEW]));
    assert_eq!(signed("c"), [OLD], "another delivery was reading it");
    assert_eq!(world.secret.readings(), 2);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_again_stays_as_it_was() {
    let world = World::new(IDEMPOTENT, Time::stands(), []).await;
    let spoil: [fn(&Secret); 3] = [Secret::fail, |secret| secret.set("not a secret"), |secret| secret.set(NEW)];
    for spoil in spoil {
        spoil(&world.secret);
        world.time.advance(limits::SECRET_MAX_AGE);
        world.run("a").await.unwrap();
    }
    let signed: Vec<_> = world.receiver.requests().iter().map(signed_with).collect();
    assert_eq!(signed, [[OLD], [OLD], [NEW]]);
}

#[tokio::test]
async fn a_source_that_does_not_answer_holds_no_delivery_up() {
    let time = Time::new(|wait| wait == limits::SECRET_READ_TIMEOUT || wait == limits::SECRET_READ_INTERVAL);
    let world = World::new(IDEMPOTENT, time, []).await;
    world.secret.set(NEW);
    world.time.advance(limits::SECRET_MAX_AGE);
    world.run("a").await.unwrap();
    assert_eq!(signed_with(&world.receiver.requests()[0]), [OLD], "the reading took longer than its time");
}

#[tokio::test]
async fn the_secret_is_not_read_again_where_that_takes_time_from_a_call_at_most_once() {
    let world = World::new(AT_MOST_ONCE, Time::stands(), []).await;
    world.time.advance(limits::SECRET_MAX_AGE);
    let needed = limits::SECRET_READ_TIMEOUT + limits::WEBHOOK_TIMEOUT + limits::REPORT_BEFORE_DEADLINE;
    world.run_within("a", needed.saturating_sub(Duration::from_millis(1))).await.unwrap();
    assert_eq!(world.secret.readings(), 1);
    world.run_within("a", needed).await.unwrap();
    assert_eq!(world.secret.readings(), 2);
}

#[tokio::test]
async fn a_webhook_never_shows_its_secret() {
    let shown = format!("{:?}", World::new(IDEMPOTENT, Time::stands(), []).await.webhook);
    assert!(shown.contains("secrets: Secrets,"), "{shown}");
    assert!(!shown.contains(OLD), "{shown}");
}

#[tokio::test]
async fn a_secret_that_is_not_valid_at_start_is_refused_by_the_name_of_its_setting() {
    let start = async |secret: Secret| {
        let settings = Settings::from_environment(&environment("https://example.com", IDEMPOTENT)).unwrap();
        let error = Webhook::new(settings, secret, Time::stands()).await.unwrap_err().to_string();
        error.strip_prefix("the environment variable WEBHOOK_SECRET_ID is invalid: ").unwrap().to_owned()
    };
    let bytes_23 = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmU=";
    assert_eq!(
        start(Secret::new(bytes_23)).await,
        "signing secret 1 of 1 has 23 bytes; Standard Webhooks requires 24 to 64"
    );
    assert!(start(Secret::new("c2VjcmV0!")).await.contains("is not a Standard Webhooks secret"));
    let unreadable = Secret::new(OLD);
    unreadable.fail();
    assert_eq!(start(unreadable).await, "AccessDeniedException");
}
