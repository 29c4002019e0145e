//! What happened, for people: as text, and as a sequence diagram.

use crate::faults::Fault;
use crate::scenario::START;
use jiff::Timestamp;

/// The steps of a run.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    steps: Vec<(Timestamp, Step)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// One calls another.
    Call {
        from: String,
        to: String,
        text: String,
        /// What goes wrong with it.
        trouble: Option<String>,
    },
    /// Something happens in one place, or to the world.
    Note { over: Option<String>, text: String },
}

impl Step {
    pub(crate) fn call(from: impl Into<String>, to: impl Into<String>, text: String, fault: Option<Fault>) -> Self {
        Self::Call { from: from.into(), to: to.into(), text, trouble: fault.map(|fault| fault.to_string()) }
    }

    /// A function does not take records from a source.
    pub(crate) fn refused(from: &str, to: &str, ids: &[String], trouble: &str) -> Self {
        Self::Call { from: from.into(), to: to.into(), text: ids.join(", "), trouble: Some(trouble.into()) }
    }

    /// Something happens to the world.
    pub(crate) fn note(text: impl Into<String>) -> Self {
        Self::Note { over: None, text: text.into() }
    }

    /// Something happens in one place.
    pub(crate) fn note_over(over: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Note { over: Some(over.into()), text: text.into() }
    }
}

impl Trace {
    /// Adds a step.
    pub(crate) fn push(&mut self, at: Timestamp, step: Step) {
        self.steps.push((at, step));
    }

    /// How many steps it has.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// As text, one step a line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, step) in &self.steps {
            let since = at.duration_since(START).as_millis();
            let time = format!("{:>9}.{:03} s", since / 1000, since % 1000);
            let line = match step {
                Step::Call { from, to, text, trouble } => {
                    let trouble = trouble.as_ref().map(|trouble| format!("   ✗ {trouble}")).unwrap_or_default();
                    format!("{time}  {from} → {to}: {text}{trouble}")
                }
                Step::Note { over: Some(over), text } => format!("{time}  · {over} {text}"),
                Step::Note { over: None, text } => format!("{time}  · {text}"),
            };
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }

    /// As a Mermaid sequence diagram.
    #[must_use]
    pub fn diagram(&self) -> String {
        let mut participants: Vec<&str> = Vec::new();
        for (_, step) in &self.steps {
            if let Step::Call { from, to, .. } = step {
                for participant in [from.as_str(), to.as_str()] {
                    if !participants.contains(&participant) {
                        participants.push(participant);
                    }
                }
            }
        }
        let first = participants.first().map_or_else(|| "world".to_owned(), |name| alias(name));
        let last = participants.last().map_or_else(|| "world".to_owned(), |name| alias(name));
        let mut diagram = String::from("sequenceDiagram\n");
        for participant in participants {
            diagram.extend(["    participant ", &alias(participant), " as ", participant, "\n"]);
        }
        for (_, step) in &self.steps {
            let line = match step {
                Step::Call { from, to, text, trouble: None } => format!("{}->>{}: {text}", alias(from), alias(to)),
                Step::Call { from, to, text, trouble: Some(trouble) } => {
                    format!("{}-x{}: {text} ({trouble})", alias(from), alias(to))
                }
                Step::Note { over: Some(over), text } => format!("Note over {}: {text}", alias(over)),
                Step::Note { over: None, text } => format!("Note over {first},{last}: {text}"),
            };
            diagram.extend(["    ", line.trim_end(), "\n"]);
        }
        diagram
    }
}

/// The name of a participant in Mermaid.
fn alias(name: &str) -> String {
    name.replace(' ', "_")
}
