#![allow(clippy::float_cmp, reason = "small whole numbers, and figures of the documents")]

use super::*;
use notification::Notification;

const OPERATIONS: &str = include_str!("../../../../docs/OPERATIONS.md");
const PERFORMANCE: &str = include_str!("../../../../docs/PERFORMANCE.md");

fn plan() -> Plan {
    Plan {
        rate: 1_000.0,
        size: 700.0,
        action: Action::MarkDone,
        stream_mode: StreamMode::Provisioned,
        batch: 1_000.0,
        messages_in_a_call: 1.0,
        done_retention_days: 90.0,
    }
}

fn usd(items: &[Charge<'_>], item: &str) -> f64 {
    items.iter().find(|found| found.item == item).map_or(0.0, |found| found.usd)
}

/// The cells of the row of a table that begins with this text.
fn row<'a>(document: &'a str, start: &str) -> Vec<&'a str> {
    let row = document.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no row {start}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn a_million_notifications_cost_what_the_operations_page_says() {
    let prices = PriceList::read().unwrap();
    let of_ledger = Plan { action: Action::Ledger, ..plan() };
    let bills = [plan(), of_ledger].map(|plan| prices.bill(&[of_notifications(&plan, 1e6)]));
    for (start, item) in [
        ("| [SQS]", "SQS requests"),
        ("| [DynamoDB](https://aws.amazon.com/dynamodb/pricing/on-demand/) writes", "DynamoDB write units"),
        ("| [Kinesis](https://aws.amazon.com/kinesis/data-streams/pricing/) PUT", "Kinesis PUT payload units"),
    ] {
        let cells = row(OPERATIONS, start);
        for (cell, bill) in cells[cells.len() - 2..].iter().zip(&bills) {
            assert_eq!(*cell, format!("{:.2}", usd(bill, item)), "{item}");
        }
    }
    let lambda = |bill: &[Charge<'_>]| usd(bill, "Lambda requests") + usd(bill, "Lambda GB-seconds");
    assert_eq!(row(OPERATIONS, "| [Lambda]")[3..], ["under 0.01"; 2]);
    assert!(bills.iter().all(|bill| lambda(bill) < 0.01));
    let sums: Vec<String> =
        bills.iter().map(|bill| format!("**about {:.1}0**", sum(bill) - usd(bill, "CloudWatch Logs GB"))).collect();
    assert_eq!(row(OPERATIONS, "| **sum** | | | **about 3")[3..], sums);
    let logs = usd(&bills[0], "CloudWatch Logs GB");
    assert!(logs < 0.01, "logs are not in that table: {logs}");
}

#[test]
fn a_month_without_notifications_costs_what_the_operations_page_says_of_development() {
    let prices = PriceList::read().unwrap();
    let items = prices.month(&Plan { rate: 0.0, ..plan() });
    assert_eq!(
        row(OPERATIONS, "| [Kinesis](https://aws.amazon.com/kinesis/data-streams/pricing/): a shard")[2],
        money(usd(&items, "Kinesis shard-hours"))
    );
    let alarms = row(OPERATIONS, &format!("| {} [alarms]", resources("AWS::CloudWatch::Alarm")));
    // The documents count a month of 720 hours for alarms and metrics, as AWS does.
    assert_eq!(alarms[2], money(usd(&items, "CloudWatch alarm-hours") * 720.0 / HOURS));
    let dashboard = row(OPERATIONS, "| a [dashboard]");
    assert_eq!(dashboard[2], money(usd(&items, "CloudWatch dashboard-hours") * 720.0 / HOURS));
    let metrics = row(OPERATIONS, &format!("| {METRICS_OF_THE_SWEEP} metrics that the sweep writes"));
    assert_eq!(metrics[2], money(usd(&items, "CloudWatch metric-hours") * 720.0 / HOURS));
    let sweep = row(OPERATIONS, "| the sweep's reads in");
    assert!(sweep[0].contains(&format!("every minute: {SWEEP_READ_UNITS} read units")), "{sweep:?}");
    assert_eq!(sweep[2], money(usd(&items, "DynamoDB read units")));
    let on_demand = prices.month(&Plan { rate: 0.0, stream_mode: StreamMode::OnDemand, ..plan() });
    assert_eq!(
        row(OPERATIONS, "| Kinesis: an on-demand stream")[3],
        money(usd(&on_demand, "Kinesis on-demand stream-hours"))
    );
}

#[test]
fn the_durations_are_those_of_the_performance_page() {
    let line = PERFORMANCE.lines().find(|line| line.starts_with(" 512 MB")).unwrap();
    let figures: Vec<f64> = line.split_whitespace().skip(2).filter_map(|figure| figure.parse().ok()).collect();
    assert_eq!(figures[..4], [INGEST_MILLIS, PUBLISHER_MILLIS, MARK_DONE_MILLIS, LEDGER_MILLIS]);
    // 100 a batch, with a backend that takes 4 ms: microseconds for a notification.
    for start in [
        " ingest                   100     9.6",
        " publisher                100     6.6",
        " downstream, mark-done    100    10.1",
        " downstream, ledger       100    14.0",
    ] {
        let line = PERFORMANCE.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
        let wall: f64 = line.split_whitespace().rev().nth(2).unwrap().parse().unwrap();
        assert!(wall * 100.0 / 1_000.0 <= BATCH_MILLIS_LEAST, "{line}");
    }
}

#[test]
fn an_item_has_no_more_bytes_besides_its_event_than_are_counted() {
    let event = r#"{"specversion":"1.0","id":"refund-0000000001","source":"urn:example:orders:europe","type":"com.example.refund.requested","data":{}}"#;
    let bytes = Notification::parse(event).unwrap().item_bytes() - event.len();
    assert!(f64::from(u32::try_from(bytes).unwrap()) <= ITEM_BESIDES_EVENT, "{bytes}");
}

#[test]
fn a_larger_event_takes_more_units_at_the_documented_boundaries() {
    let units = |size: f64, item: &str| of_notifications(&Plan { size, ..plan() }, 1.0)[item];
    let (fits, one_kb) = (KB - ITEM_BESIDES_EVENT, "DynamoDB write units");
    assert_eq!([units(fits, one_kb), units(fits + 1.0, one_kb)], [4.0, 6.0]);
    assert_eq!([write_units(Action::Ledger, KB), write_units(Action::Ledger, KB + 1.0)], [8.0, 11.0]);
    assert_eq!(
        [units(25.0 * KB, "Kinesis PUT payload units"), units(25.0 * KB + 1.0, "Kinesis PUT payload units")],
        [1.0, 2.0]
    );
    assert_eq!([units(64.0 * KB, "SQS requests"), units(64.0 * KB + 1.0, "SQS requests")], [3.0, 5.0]);
    assert_eq!([read_units(Action::Webhook, 4.0 * KB), read_units(Action::Webhook, 4.0 * KB + 1.0)], [1.0, 2.0]);
}

#[test]
fn a_provisioned_stream_has_the_shards_that_its_records_and_bytes_need() {
    let shards = |rate, size| shards(&Plan { rate, size, ..plan() });
    assert_eq!([shards(0.0, 700.0), shards(1_000.0, 700.0), shards(1_001.0, 700.0)], [1.0, 1.0, 2.0]);
    assert_eq!(shards(1_000.0, 4.0 * KB), 4.0);
}

#[test]
fn small_batches_cost_more_and_changes_are_ordered_by_their_effect() {
    let prices = PriceList::read().unwrap();
    let changes = changes(&prices, &plan());
    let of = |name: &str| changes.iter().find(|change| change.change == name).map(|change| change.usd);
    assert!(of("10 records in an invocation").is_some_and(|usd| usd > 0.0));
    assert!(of("the action ledger").is_some_and(|usd| usd > 0.0));
    assert!(of("DoneRetentionDays=36").is_some_and(|usd| usd < 0.0));
    assert_eq!(
        [of("the action mark-done"), of("1,000 records in an invocation"), of("a provisioned stream")],
        [None; 3]
    );
    assert!(changes.is_sorted_by(|a, b| a.usd.abs() >= b.usd.abs()));
}

#[test]
fn every_quantity_has_a_price_and_every_price_is_used() {
    let prices = PriceList::read().unwrap();
    let mut counted: Vec<&str> = Vec::new();
    for stream_mode in [StreamMode::Provisioned, StreamMode::OnDemand] {
        let plan = Plan { stream_mode, ..plan() };
        counted.extend(of_notifications(&plan, 1.0).into_keys().chain(of_hours(&plan, 1.0).into_keys()));
    }
    counted.sort_unstable();
    counted.dedup();
    let mut priced: Vec<&str> = prices.prices.iter().map(|price| price.item.as_str()).collect();
    priced.sort_unstable();
    assert_eq!(counted, priced);
}

#[test]
fn numbers_are_for_people() {
    for (usd, text) in [(0.0, "0.00"), (1_234.567, "1,234.57"), (0.999, "1.00")] {
        assert_eq!(money(usd), text);
    }
    assert_eq!([number(0.25), number(100.4), number(2_628_000.0)], ["0.250", "100", "2,628,000"]);
    assert_eq!([signed(-1.0), signed(2.5)], ["−1.00", "+2.50"]);
    assert!(rate("-1").is_err() && rate("many").is_err() && rate("NaN").is_err() && rate("0.5") == Ok(0.5));
}
