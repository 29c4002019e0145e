//! What the functions emit: log lines and counters, recorded around each poll of a function.

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Subscriber, dispatcher};

/// A log line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) message: String,
    /// All its fields but the message, and those of the spans around it, as text.
    pub(crate) fields: String,
    /// The notification that it names.
    pub(crate) id: Option<String>,
}

/// What one poll emitted.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) lines: Vec<Line>,
    pub(crate) counters: Vec<(String, u64)>,
}

impl Emitted {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.counters.is_empty()
    }
}

thread_local! {
    /// A run is polled by one thread.
    static EMITTED: RefCell<Emitted> = RefCell::default();
    static SPANS: RefCell<Spans> = RefCell::default();
    static LEVEL: Cell<Level> = const { Cell::new(Level::INFO) };
}

/// One subscriber for all runs: making one is slow.
static DISPATCH: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Lines));

/// Runs `work`, and returns what it emits up to this level.
pub(crate) fn recorded<R>(level: Level, work: impl FnOnce() -> R) -> (R, Emitted) {
    LEVEL.set(level);
    let result = dispatcher::with_default(&DISPATCH, || metrics::with_local_recorder(&Counters, work));
    (result, EMITTED.take())
}

/// The spans of a run.
#[derive(Default)]
struct Spans {
    created: u64,
    open: BTreeMap<u64, Fields>,
    entered: Vec<u64>,
}

struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() || *metadata.level() <= LEVEL.get()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        SPANS.with_borrow_mut(|spans| {
            spans.created += 1;
            spans.open.insert(spans.created, fields);
            Id::from_u64(spans.created)
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        SPANS.with_borrow_mut(|spans| {
            if let Some(fields) = spans.open.get_mut(&span.into_u64()) {
                values.record(fields);
            }
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        SPANS.with_borrow(|spans| {
            for span in spans.entered.iter().filter_map(|span| spans.open.get(span)) {
                fields.text.push_str(&span.text);
                fields.id = fields.id.take().or_else(|| span.id.clone());
            }
        });
        let Fields { message, text, id } = fields;
        let line = Line { level: *event.metadata().level(), message, fields: text, id };
        EMITTED.with_borrow_mut(|emitted| emitted.lines.push(line));
    }

    fn enter(&self, span: &Id) {
        SPANS.with_borrow_mut(|spans| spans.entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        SPANS.with_borrow_mut(|spans| spans.entered.retain(|entered| *entered != span.into_u64()));
    }

    fn try_close(&self, span: Id) -> bool {
        SPANS.with_borrow_mut(|spans| spans.open.remove(&span.into_u64())).is_some()
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    text: String,
    id: Option<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => {
                self.text.extend([" ", name, "=", &value]);
                if name == "id" {
                    self.id = Some(value);
                }
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Records counters. Gauges and histograms show the state of the table, which the checks read themselves.
struct Counters;

struct Named(String);

impl CounterFn for Named {
    fn increment(&self, value: u64) {
        EMITTED.with_borrow_mut(|emitted| emitted.counters.push((self.0.clone(), value)));
    }

    fn absolute(&self, _: u64) {}
}

impl metrics::Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Named(key.name().to_owned())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_its_fields_and_the_id_of_its_span_and_counters_are_recorded() {
        let ((), emitted) = recorded(Level::INFO, || {
            tracing::error_span!("record", id = "n1").in_scope(|| tracing::warn!(reason = "no", "failed"));
            tracing::debug!("not recorded");
            metrics::counter!("Failed").increment(2);
        });
        let line = &emitted.lines[0];
        assert_eq!((line.level, line.message.as_str(), line.id.as_deref()), (Level::WARN, "failed", Some("n1")));
        assert_eq!(line.fields, " reason=no id=n1");
        assert_eq!(emitted.lines.len(), 1);
        assert_eq!(emitted.counters, [("Failed".to_owned(), 2)]);
        let ((), emitted) = recorded(Level::DEBUG, || tracing::debug!("recorded"));
        assert_eq!(emitted.lines[0].message, "recorded");
    }
}
