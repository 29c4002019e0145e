//! Time and CPU by the number of calls in flight, on which `limits::CALLS_IN_FLIGHT` is based.
//!
//! Inserts 1,000 notifications with the real adapter, 25 per call.

use crate::backend::Behaviour;
use crate::error::Error;
use crate::events;
use crate::in_process::InProcess;
use crate::measure::{Effort, Figure};
use crate::output;
use aws::{DynamoTable, SystemClock};
use futures_util::stream::{self, StreamExt};
use nix::time::ClockId;
use notification::ports::Table;
use notification::{Change, Clock, Notification, limits};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

const NOTIFICATIONS: usize = 1_000;
const IN_FLIGHT: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Latencies of the backend in milliseconds, in the range of DynamoDB and Kinesis.
const LATENCIES: [u64; 3] = [2, 4, 10];

/// The figures for 1,000 notifications.
#[derive(Debug, Serialize)]
struct Row {
    in_flight: usize,
    latency_ms: u64,
    wall_ms: Figure,
    cpu_ms: Figure,
    connections: u64,
}

pub(crate) fn run(effort: Effort, json: bool) -> Result<(), Error> {
    let notifications = (0..NOTIFICATIONS)
        .map(|number| Notification::parse(events::event(number)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Handler(error.to_string()))?;
    let inserts: Vec<Change<'_>> = notifications.iter().map(Change::insert).collect();

    let mut turns = Vec::new();
    for in_flight in IN_FLIGHT {
        for latency_ms in LATENCIES {
            let process = InProcess::start(Behaviour { latency_ms, ..Behaviour::default() })?;
            let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(&process.sdk), "notifications".to_owned());
            turns.push((in_flight, latency_ms, process, table, Vec::new()));
        }
    }
    let bar = output::progress(effort.rounds * turns.len());
    for _ in 0..effort.rounds {
        for (in_flight, _, process, table, samples) in &mut turns {
            // The first call makes the connections.
            process.runtime.block_on(insert_all(table, &inserts, *in_flight))?;
            samples.push(turn(process, table, &inserts, *in_flight, effort)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let rows: Vec<Row> = turns
        .iter()
        .map(|(in_flight, latency_ms, process, _, samples)| Row {
            in_flight: *in_flight,
            latency_ms: *latency_ms,
            wall_ms: Figure::of(samples.iter().map(|(wall, _)| *wall)),
            cpu_ms: Figure::of(samples.iter().map(|(_, cpu)| *cpu)),
            connections: process.backend.counts().connections,
        })
        .collect();
    if json {
        output::json(&rows);
        return Ok(());
    }
    let headers = ["calls in flight", "latency at least", "wall ms", "CPU ms", "connections"];
    output::table("For 1,000 inserted notifications", &headers, rows.iter().map(Row::cells));
    Ok(())
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let note = if self.in_flight == limits::CALLS_IN_FLIGHT { " (as deployed)" } else { "" };
        vec![
            format!("{}{note}", self.in_flight),
            format!("{} ms", self.latency_ms),
            format!("{:.1}", self.wall_ms.median),
            format!("{:.1}", self.cpu_ms.median),
            self.connections.to_string(),
        ]
    }
}

/// Wall time and CPU for 1,000 notifications, in milliseconds.
fn turn(
    process: &InProcess,
    table: &DynamoTable,
    inserts: &[Change<'_>],
    in_flight: usize,
    effort: Effort,
) -> Result<(f64, f64), Error> {
    let (started, cpu_started) = (Instant::now(), cpu()?);
    let mut times = 0.0;
    while started.elapsed() < effort.cpu {
        process.runtime.block_on(insert_all(table, inserts, in_flight))?;
        times += 1.0;
    }
    let (wall, cpu) = (started.elapsed(), cpu()?.saturating_sub(cpu_started));
    Ok((wall.as_secs_f64() * 1e3 / times, cpu.as_secs_f64() * 1e3 / times))
}

async fn insert_all(table: &DynamoTable, inserts: &[Change<'_>], in_flight: usize) -> Result<(), Error> {
    let received_at = SystemClock.now();
    let batches = inserts.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX);
    let calls: Vec<_> = batches.map(|batch| table.write(batch, received_at)).collect();
    let answers: Vec<_> = stream::iter(calls).buffer_unordered(in_flight).collect().await;
    match answers.into_iter().find_map(Result::err) {
        Some(failure) => Err(Error::Handler(failure.to_string())),
        None => Ok(()),
    }
}

/// CPU of this thread, which runs the adapters and the SDK.
fn cpu() -> Result<Duration, Error> {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    time.map(Duration::from).map_err(|error| Error::Unmeasurable(error.to_string()))
}
