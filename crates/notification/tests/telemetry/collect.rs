//! What a test logs and counts, as an operator reads it. The tests of the functions share it.

#![allow(dead_code, reason = "each test uses a part of it")]

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use std::io;
use std::sync::{Arc, Mutex};
use tracing::Level;

/// The log lines and metrics of one test.
#[derive(Default)]
pub(crate) struct Telemetry {
    recorder: DebuggingRecorder,
    lines: Lines,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Telemetry {
    /// Collects what this thread logs and counts, until the guards are dropped.
    #[must_use]
    pub(crate) fn collect(&self) -> (tracing::subscriber::DefaultGuard, metrics::LocalRecorderGuard<'_>) {
        let lines = self.lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_writer(move || lines.clone());
        (tracing::subscriber::set_default(subscriber.finish()), metrics::set_default_local_recorder(&self.recorder))
    }

    /// The lines so far: the level, the span with its identifiers, the message, and the other fields.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
        lines.lines().map(|line| line.trim_start().to_owned()).collect()
    }

    /// The metrics since the last call, by name: the value of each counter, and each value of a histogram.
    pub(crate) fn metrics(&self) -> Vec<(String, u64)> {
        let mut metrics = Vec::new();
        for (key, _, _, value) in self.recorder.snapshotter().snapshot().into_vec() {
            let name = key.key().name().to_owned();
            match value {
                DebugValue::Counter(count) => metrics.push((name, count)),
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "all are whole numbers")]
                DebugValue::Histogram(values) => {
                    metrics.extend(values.into_iter().map(|value| (name.clone(), value.into_inner() as u64)));
                }
                DebugValue::Gauge(value) => panic!("{name} = {value}: a gauge is written again with every later batch"),
            }
        }
        metrics.sort();
        metrics
    }

    /// Checks the metrics since the last call.
    #[track_caller]
    pub(crate) fn check_metrics(&self, expected: &[(&str, u64)]) {
        let metrics = self.metrics();
        assert_eq!(metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(), expected);
    }
}
