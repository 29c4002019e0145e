//! What a monitor counts, as metrics in CloudWatch.

use super::follow::Counts;
use crate::stack::Stack;
use crate::stack::signed::PUT_METRIC_DATA;
use crate::time::since;
use aws::telemetry::NAMESPACE;
use notification::{Timestamp, limits};
use serde_json::{Value, json};

/// The metrics of a monitor. They have data points for as long as it runs, whether or not anything changes.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// What has been published.
    published: Counts,
    tried_at: Option<Timestamp>,
}

impl Metrics {
    /// Whether the last time was long enough ago.
    pub(super) fn are_due(&self, now: Timestamp) -> bool {
        self.tried_at.is_none_or(|tried_at| since(tried_at, now) >= limits::PUBLISH_METRICS_EVERY)
    }

    /// Whether nothing has been published, and no call has failed.
    pub(super) const fn are_new(&self) -> bool {
        self.tried_at.is_none()
    }

    /// Publishes what was counted since the last time that succeeded. If an answer is lost, the same is published
    /// again: a violation counts twice rather than never.
    pub(super) async fn publish(&mut self, stack: &Stack, counted: Counts, now: Timestamp) -> Result<(), String> {
        self.tried_at = Some(now);
        let request = request(&stack.table_name, counted - self.published);
        stack.calls.json(&PUT_METRIC_DATA, &request).await?;
        self.published = counted;
        Ok(())
    }
}

/// CloudWatch gives the data points the time at which it receives them.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>
fn request(table_name: &str, counted: Counts) -> Value {
    let datum = |name: &str, value: usize| {
        let dimensions = json!([{"Name": "TableName", "Value": table_name}]);
        json!({"MetricName": name, "Dimensions": dimensions, "Unit": "Count", "Value": value})
    };
    let data = [
        datum("ChangesChecked", counted.checked),
        datum("Violations", counted.violations),
        datum("Gaps", counted.gaps),
    ];
    json!({"Namespace": NAMESPACE, "MetricData": data})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::signed::Calls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    #[test]
    fn a_data_point_has_the_namespace_of_the_functions_and_the_table_as_its_dimension() {
        let request = request("t", Counts { checked: 7, violations: 2, gaps: 1 });
        assert_eq!(request["Namespace"], "AtomicNotification");
        let data = request["MetricData"].as_array().unwrap();
        let values: Vec<_> =
            data.iter().map(|datum| (datum["MetricName"].as_str().unwrap(), &datum["Value"])).collect();
        assert_eq!(values, [("ChangesChecked", &json!(7)), ("Violations", &json!(2)), ("Gaps", &json!(1))]);
        for datum in data {
            assert_eq!(datum["Dimensions"], json!([{"Name": "TableName", "Value": "t"}]));
        }
    }

    /// A CloudWatch that answers with these status codes, one after the other. It hands on each request.
    async fn cloudwatch(status_codes: &'static [u16]) -> (Stack, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for code in status_codes {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = vec![];
                while !request.ends_with(b"}") {
                    assert!(connection.read_buf(&mut request).await.unwrap() > 0);
                }
                sender.send(String::from_utf8(request).unwrap()).unwrap();
                let answer = format!("HTTP/1.1 {code} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut stack = crate::testing::stack().await;
        stack.calls = Calls::new(stack.config.clone().into_builder().endpoint_url(url).build());
        (stack, requests)
    }

    fn violations(request: &str) -> Value {
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        body["MetricData"][1]["Value"].clone()
    }

    #[tokio::test]
    async fn each_call_has_what_was_counted_since_the_last_one_that_succeeded() {
        let (stack, mut requests) = cloudwatch(&[200, 500, 200]).await;
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let counted = |violations| Counts { checked: 10 * violations, violations, gaps: 0 };
        let mut metrics = Metrics::default();
        assert!(metrics.are_due(at(0)) && metrics.are_new());
        metrics.publish(&stack, counted(1), at(0)).await.unwrap();
        assert!(!metrics.are_new());
        let problem = metrics.publish(&stack, counted(3), at(60)).await.unwrap_err();
        assert!(problem.starts_with("PutMetricData: 500"), "{problem}");
        assert!(!metrics.are_due(at(119)) && metrics.are_due(at(120)), "a call that failed is not repeated at once");
        metrics.publish(&stack, counted(4), at(120)).await.unwrap();

        let requests = [requests.recv().await, requests.recv().await, requests.recv().await].map(Option::unwrap);
        assert_eq!(requests.each_ref().map(|request| violations(request)), [json!(1), json!(2), json!(3)]);
        let head = requests[0].to_lowercase();
        assert!(head.contains("x-amz-target: graniteserviceversion20100801.putmetricdata"), "{head}");
        assert!(head.contains("authorization: aws4-hmac-sha256"), "{head}");
    }
}
