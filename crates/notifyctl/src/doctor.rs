//! `notifyctl doctor`: compares the deployed stack with what the template guarantees.
//!
//! | file | concern |
//! |---|---|
//! | `deployed` | what was read, as plain data |
//! | `read` | the calls that read it |
//! | `checks` | every invariant: what is off, why it matters, how to fix it |
//! | `permissions` | what each role needs |

mod checks;
mod deployed;
mod permissions;
mod read;

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use checks::{Check, Outcome};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl doctor
  notifyctl doctor --all                                   what is right, too
  notifyctl doctor --json | jq -r '.findings[].fix'

Exit status: 0 no findings; 1 findings; 2 the stack could not be read; 3 no findings, but not everything could be checked.";

/// Compare the deployed stack with the template's invariants: what is off, why it matters, and how to fix it
///
/// Reads the settings of the queues, the table, the streams, the functions, their event source mappings, roles, logs and alarms.
/// It changes nothing, and reads no notification. What the credentials may not read is reported as not checked.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Show the checks that found nothing, too
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(stack: &Stack, args: &DoctorArgs, json: bool) -> Result<ExitCode, Error> {
    let bar = output::spinner("reading the stack");
    let deployed = read::deployed(stack).await?;
    bar.finish_and_clear();
    let checks = checks::checks(&deployed);
    let count = |wanted: &str| checks.iter().filter(|check| check.kind() == wanted).count();
    let (findings, not_checked) = (count("finding"), count("not checked"));
    if json {
        let of =
            |wanted: &str| checks.iter().filter(|check| check.kind() == wanted).map(Check::json).collect::<Vec<_>>();
        output::json(&json!({"good": of("good"), "findings": of("finding"), "not_checked": of("not checked")}));
    } else {
        print(&checks, args.all, findings, not_checked);
    }
    Ok(ExitCode::from(match (findings, not_checked) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 1,
    }))
}

fn print(checks: &[Check], all: bool, findings: usize, not_checked: usize) {
    for check in checks {
        match &check.outcome {
            Outcome::Good if all => output::line(output::verdict(true, &check.name)),
            Outcome::Good => {}
            Outcome::Finding(finding) => {
                output::line(output::verdict(false, &check.name));
                output::line(format_args!("    is   {}", finding.is));
                output::line(format_args!("    why  {}", finding.why));
                output::line(format_args!("    fix  {}", finding.fix));
            }
            Outcome::NotChecked(reason) => {
                output::line(output::undecided(&format!("{}: not checked: {reason}", check.name)));
            }
        }
    }
    let good = checks.len() - findings - not_checked;
    output::line(output::verdict(
        findings == 0,
        &format!("{good} checks passed, {findings} failed, {not_checked} could not be made"),
    ));
}
