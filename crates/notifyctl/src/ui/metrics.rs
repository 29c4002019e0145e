//! What CloudWatch knows of each stage: latencies, ages and counts of a minute. The functions publish them (docs/OPERATIONS.md).

use crate::stack::Stack;
use crate::stack::signed;
use crate::time::{before, since};
use aws::SystemClock;
use notification::{Clock, Timestamp, limits};
use serde::Serialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// The length of a data point: the shortest that CloudWatch keeps of these metrics.
const PERIOD: Duration = Duration::from_mins(1);

/// How far back the last data point may be.
const LOOKED_BACK: Duration = Duration::from_mins(15);

/// A metric with a statistic.
struct Figure {
    /// Its name on the page.
    name: &'static str,
    namespace: &'static str,
    metric: &'static str,
    /// The name and the value of its only dimension.
    dimension: (&'static str, String),
    statistic: &'static str,
}

/// All figures of the page: 12, of 9 metrics.
fn figures(stack: &Stack) -> Vec<Figure> {
    let of_function = |name, metric, function: &str, statistic| Figure {
        name,
        namespace: aws::telemetry::NAMESPACE,
        metric,
        dimension: ("FunctionName", function.to_owned()),
        statistic,
    };
    let iterator_age =
        |name, function| Figure { namespace: "AWS/Lambda", ..of_function(name, "IteratorAge", function, "Maximum") };
    let (ingest, publisher, downstream) =
        (&*stack.functions.ingest, &*stack.functions.publisher, &*stack.functions.downstream);
    vec![
        of_function("received_to_published_p50", "ReceivedToPublished", publisher, "p50"),
        of_function("received_to_published_p99", "ReceivedToPublished", publisher, "p99"),
        of_function("published_to_done_p50", "PublishedToDone", downstream, "p50"),
        of_function("published_to_done_p99", "PublishedToDone", downstream, "p99"),
        of_function("received_to_done_p50", "ReceivedToDone", downstream, "p50"),
        of_function("received_to_done_p99", "ReceivedToDone", downstream, "p99"),
        of_function("inserted", "Inserted", ingest, "Sum"),
        of_function("published", "Published", publisher, "Sum"),
        of_function("done", "Done", downstream, "Sum"),
        iterator_age("table_stream_age", publisher),
        iterator_age("data_stream_age", downstream),
        Figure {
            name: "queue_age",
            namespace: "AWS/SQS",
            metric: "ApproximateAgeOfOldestMessage",
            dimension: ("QueueName", stack.queue_url.rsplit('/').next().unwrap_or_default().to_owned()),
            statistic: "Maximum",
        },
    ]
}

/// A figure in the last minute that has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Minute {
    /// When the minute began, in seconds since 1970.
    at: f64,
    value: f64,
}

/// What was read, and when.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Read {
    #[serde(skip)]
    at: Timestamp,
    /// By name. A figure without data in the last quarter of an hour is not among them.
    figures: BTreeMap<String, Minute>,
    /// Why CloudWatch could not be read.
    error: Option<String>,
}

impl Read {
    /// Whether it is too early to read again.
    fn is_recent(&self, is_local: bool, now: Timestamp) -> bool {
        let every = if is_local { limits::UI_METRICS_EVERY_LOCALLY } else { limits::UI_METRICS_EVERY };
        since(self.at, now) < every
    }
}

/// The figures, at most as old as the page may read them often.
pub(crate) async fn look(stack: &Stack, last: &RefCell<Option<Read>>) -> Read {
    let now = SystemClock.now();
    if let Some(read) = last.borrow().as_ref().filter(|read| read.is_recent(stack.is_local, now)) {
        return read.clone();
    }
    // Others who ask meanwhile get what there was before.
    let known = last.take().map_or((BTreeMap::new(), None), |read| (read.figures, read.error));
    *last.borrow_mut() = Some(Read { at: now, figures: known.0, error: known.1 });
    let answer = stack.calls.json(&signed::GET_METRIC_DATA, &request(&figures(stack), now)).await;
    let read = match answer {
        Ok(answer) => Read { at: now, figures: minutes(&answer), error: None },
        Err(problem) => Read { at: now, figures: BTreeMap::new(), error: Some(problem.text) },
    };
    *last.borrow_mut() = Some(read.clone());
    read
}

fn request(figures: &[Figure], now: Timestamp) -> Value {
    let query = |figure: &Figure| {
        let (name, value) = &figure.dimension;
        json!({
            "Id": figure.name,
            "MetricStat": {
                "Metric": {
                    "Namespace": figure.namespace,
                    "MetricName": figure.metric,
                    "Dimensions": [{"Name": name, "Value": value}],
                },
                "Period": PERIOD.as_secs(),
                "Stat": figure.statistic,
            },
        })
    };
    json!({
        "MetricDataQueries": figures.iter().map(query).collect::<Vec<_>>(),
        "StartTime": before(now, LOOKED_BACK).as_second(),
        "EndTime": now.as_second(),
        "ScanBy": "TimestampDescending",
    })
}

/// The last data point of each figure.
fn minutes(answer: &Value) -> BTreeMap<String, Minute> {
    let results = answer["MetricDataResults"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |result: &Value| Some((result["Id"].as_str()?.to_owned(), last(result)?));
    results.iter().filter_map(of).collect()
}

fn last(result: &Value) -> Option<Minute> {
    let (times, values) = (result["Timestamps"].as_array()?, result["Values"].as_array()?);
    let points =
        times.iter().zip(values).filter_map(|(at, value)| Some(Minute { at: at.as_f64()?, value: value.as_f64()? }));
    points.max_by(|a, b| a.at.total_cmp(&b.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stack;

    #[tokio::test]
    async fn every_figure_is_asked_for_once_in_one_call_that_cloudwatch_takes() {
        let stack = stack().await;
        let request = request(&figures(&stack), Timestamp::from_second(1_800_000_000).unwrap());
        let queries = request["MetricDataQueries"].as_array().unwrap();
        // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html: 500 in a call.
        assert!(queries.len() <= 500);
        let mut ids: Vec<_> = queries.iter().map(|query| query["Id"].as_str().unwrap()).collect();
        // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html
        assert!(ids.iter().all(|id| id.starts_with(|c: char| c.is_ascii_lowercase())));
        ids.dedup();
        assert_eq!(ids.len(), queries.len());
        assert_eq!((&request["StartTime"], &request["EndTime"]), (&json!(1_799_999_100), &json!(1_800_000_000)));
    }

    #[test]
    fn metrics_are_read_once_a_minute_at_most_where_they_are_charged() {
        let read = Read { at: Timestamp::UNIX_EPOCH, figures: BTreeMap::new(), error: None };
        let recent = |is_local, second| read.is_recent(is_local, Timestamp::from_second(second).unwrap());
        assert_eq!([recent(false, 59), recent(false, 60)], [true, false]);
        assert_eq!([recent(true, 4), recent(true, 5)], [true, false]);
    }

    #[test]
    fn a_figure_is_that_of_the_last_minute_in_any_order_and_one_without_data_is_left_out() {
        let answer = json!({"MetricDataResults": [
            {"Id": "done", "Timestamps": [1_800_000_000.0, 1_800_000_060.0], "Values": [7.0, 9.0]},
            {"Id": "inserted", "Timestamps": [1_800_000_060.0, 1_800_000_000.0], "Values": [3.0, 5.0]},
            {"Id": "queue_age", "Timestamps": [], "Values": []},
        ]});
        let at = 1_800_000_060.0;
        let expected = [("done", Minute { at, value: 9.0 }), ("inserted", Minute { at, value: 3.0 })];
        assert_eq!(minutes(&answer), expected.map(|(name, minute)| (name.to_owned(), minute)).into());
        assert!(minutes(&json!({"other": 1})).is_empty());
    }
}
