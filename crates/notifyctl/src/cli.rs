//! The commands and their options.

use crate::attention::{State, reason_code};
use crate::cost::CostArgs;
use crate::dlq::DlqCommand;
use crate::doctor::DoctorArgs;
use crate::groups::Key;
use crate::stage::{PauseArgs, ResumeArgs};
use crate::time::duration;
use clap::{Args, Parser, Subcommand};
use notification::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// Find what is stuck and why, and fix it; send, watch and audit notifications
///
/// Works with AWS and with the local stack. The outputs of the CloudFormation stack name the queue, the table and the stream.
/// Credentials, region and AWS_ENDPOINT_URL come from the environment or the AWS profile. With SSO or a login of the AWS CLI,
/// run this first: eval "$(aws configure export-credentials --format env)"
#[derive(Debug, Parser)]
#[command(name = "notifyctl", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The CloudFormation stack
    #[arg(long, global = true, env = "NOTIFY_STACK", default_value = "notifications-dev", value_name = "NAME")]
    pub(crate) stack: String,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  notifyctl summary                                        is anything stuck?
  notifyctl groups                                         what needs attention, by reason
  notifyctl list --status FAILED                           the ids, the oldest first
  notifyctl status rfd-000001
  notifyctl redrive rfd-000007                             FAILED, and the cause is fixed: run it again
  notifyctl redrive --group FAILED/rejected/com.example.refund.requested --yes
  notifyctl resolve rfd-000008 --done                      IN_DOUBT, but the effect has happened
  notifyctl dlq list                                       which messages were refused, and why
  notifyctl dlq redrive                                    list the dead letters that can go back to the queue
  notifyctl pause downstream                               what would it mean to stop this stage?
  notifyctl doctor                                         is the stack as the template deploys it?
  notifyctl ui                                             a web page for operators
  notifyctl send refunds.jsonl                             send the events of a file, one per line
  notifyctl send --count 1000 --duplicates 10 --save sent.jsonl
  notifyctl watch                                          until every notification is settled
  notifyctl audit sent.jsonl                               was anything lost or doubled?
  notifyctl verify                                         does every item obey the rules?
  notifyctl latency --count 500 --rate 50                  how long does each stage take?
  notifyctl cost --rate 100 --size 700                     what does a month cost?

docs/RUNBOOK.md has a section for each alarm.

Exit status:
  0    success
  1    negative result: not found, not settled, not changed, failed again; problems, findings or violations
  2    error: the command could not be carried out
  3    no problem was found, but not everything could be checked: audit, doctor, verify --follow
  130  interrupted";

const STATUS_EXAMPLES: &str = "\
Examples:
  notifyctl status rfd-000001
  notifyctl status rfd-000001 --dead-letters               was a message with this id refused?
  notifyctl status rfd-000001 --since 2h                   search only the last two hours of the logs
  notifyctl status rfd-000001 --json | jq -r '.timeline[] | [.at, .from, .what] | @tsv'

Exit status: 0, even if logs or dead letters could not be read; 1 if the table does not have it; 2 if the table could not be read.";

const GROUPS_EXAMPLES: &str = "\
Examples:
  notifyctl groups
  notifyctl groups --status FAILED --json | jq -r '.groups[].group'

Exit status: 0, whether or not anything needs attention.";

const LIST_EXAMPLES: &str = "\
Examples:
  notifyctl list --status FAILED --older-than 1h
  notifyctl list --group FAILED/rejected/com.example.refund.requested --limit 10
  notifyctl list --status IN_DOUBT --ids --limit 10000                 ask the receiver about each

Exit status: 0, whether or not a notification matches.";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  notifyctl redrive rfd-000007
  notifyctl redrive --group FAILED/rejected/com.example.refund.requested          count them
  notifyctl redrive --group FAILED/rejected/com.example.refund.requested --yes --wait
  notifyctl list --status FAILED --older-than 1d --ids --limit 10000 | notifyctl redrive - --yes --rate 10
  notifyctl redrive --resume notifyctl-20261130T031500Z.plan.jsonl

Exit status: 0 all changed, or only counted; 1 there were none, some were not as expected or failed again, some are still
pending after --wait, or it stopped by itself; 2 some could not be changed; 130 interrupted.";

const RESOLVE_EXAMPLES: &str = "\
Examples:
  notifyctl resolve rfd-000008 --done --seen 2026-11-30T03:10:00.123Z
  notifyctl resolve --group IN_DOUBT/outcome_unknown/com.example.refund.requested --retry --plan doubt.jsonl
  notifyctl resolve --retry --resume doubt.jsonl                       the receiver has none of these

Exit status: as for `notifyctl redrive`.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  notifyctl verify
  notifyctl verify --state verify.json --read-units 100     slowly; run it again after an interruption
  notifyctl verify --follow --for 1h --json
  notifyctl verify --follow --publish-metrics               a monitor, until Ctrl-C or SIGTERM

Exit status: 0 no violation; 1 violations; 2 the table could not be read, or the first metrics not published; 3 some
changes may not be checked; 130 interrupted. With --follow, Ctrl-C and SIGTERM end it normally, and do not count as an interruption.";

const AUDIT_EXAMPLES: &str = "\
Examples:
  notifyctl audit sent.jsonl
  notifyctl audit sent.jsonl --json | jq .verdict           good, bad or cannot_be_shown
  notifyctl audit sent.jsonl --json | jq -r '.problems[], .cannot_be_shown[]'

Exit status: 0 good, 1 bad, 2 the audit could not be carried out, 3 cannot be shown.";

const LATENCY_EXAMPLES: &str = "\
Examples:
  notifyctl latency                                        500 notifications, 50 per second
  notifyctl latency --count 6000 --rate 200                more load, for half a minute
  notifyctl latency --json | jq .milliseconds.sent_to_done.p99

Exit status: 1 if some are not DONE; the figures then include only the others.";

const UI_EXAMPLES: &str = "\
Examples:
  notifyctl ui                                             read-only, except for a local stack
  notifyctl ui --allow-changes --port 8734

Exit status: 130, when Ctrl-C ends it; 2 if it cannot start.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Summary(SummaryArgs),
    Groups(GroupsArgs),
    List(ListArgs),
    Status(StatusArgs),
    Redrive(RedriveArgs),
    Resolve(ResolveArgs),
    /// Look at, redrive or discard the messages of the dead-letter queue
    #[command(subcommand)]
    Dlq(DlqCommand),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Doctor(DoctorArgs),
    Ui(UiArgs),
    Send(SendArgs),
    Watch(WatchArgs),
    Audit(AuditArgs),
    Verify(VerifyArgs),
    Latency(LatencyArgs),
    Cost(CostArgs),
}

/// Send notifications to the queue: from a file or standard input, or generated ones
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "count"]))]
pub(crate) struct SendArgs {
    /// CloudEvents JSON, one event per line (or one event over several lines); - is standard input
    pub(crate) file: Option<PathBuf>,

    /// Generate this many notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: Option<u32>,

    /// Send this percentage of the generated ones twice
    #[arg(long, value_name = "PCT", default_value_t = 0, requires = "count", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) duplicates: u32,

    /// Prefix of the generated ids [default: made-<seed>]
    #[arg(long, value_name = "TEXT", requires = "count")]
    pub(crate) prefix: Option<String>,

    /// Seed for the amounts and the order; the same count, prefix and seed generate the same notifications [default: random, and printed]
    #[arg(long, value_name = "N", requires = "count")]
    pub(crate) seed: Option<u64>,

    /// Send malformed events, too
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Append the sent events to this file, one per line, for `notifyctl audit`
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

/// Show one notification, and what happened to it
///
/// The timeline is made of the times in the table and of the lines of the three functions' logs that name the notification. At
/// the log level INFO, a step that succeeds has no line. The table has the last failure, and the last 11 times at which an
/// operator put the notification back; earlier failures are in the logs, as long as these are kept.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// The notification id
    pub(crate) id: String,

    /// Show the event, the action's outcome and the lines that your own action logged, too: they may contain personal data
    #[arg(long)]
    pub(crate) event: bool,

    /// Search the logs this far back, e.g. 90s, 5m, 2h or 1d
    ///
    /// The default is from two hours before it was received or, if it is not in the table, a day.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,

    /// Do not search the logs
    #[arg(long, conflicts_with = "since")]
    pub(crate) no_logs: bool,

    /// Look for its dead letters, too
    ///
    /// Reads the whole dead-letter queue. Its messages are hidden meanwhile, and their receive counts rise.
    #[arg(long)]
    pub(crate) dead_letters: bool,
}

/// Count the notifications that are not DONE, and the messages in the queues
///
/// The counts are from the table's indexes, which lag a little behind the table. Their cost is in proportion to what is counted.
#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// Count every status, DONE too: reads the whole table
    #[arg(long)]
    pub(crate) all: bool,
}

/// Show what needs attention, grouped by status, reason code and type
///
/// These are the notifications that are FAILED or IN_DOUBT, and those that have been INIT or CLAIMED for long (PENDING). The
/// first column after the count is the value of --group for `list`, `redrive` and `resolve`. The cost is in proportion to what
/// needs attention, whatever else the table holds.
#[derive(Debug, Args)]
#[command(after_help = GROUPS_EXAMPLES)]
pub(crate) struct GroupsArgs {
    /// Only this status; can be repeated
    #[arg(long, value_enum, value_name = "STATUS")]
    pub(crate) status: Vec<State>,

    /// Show INIT and CLAIMED notifications only once they are this old, e.g. 90s, 5m, 2h or 1d
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) pending_for: Duration,
}

/// List the notifications that need attention, the oldest first
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    /// Only this status; can be repeated
    #[arg(long, value_enum, value_name = "STATUS", conflicts_with = "group")]
    pub(crate) status: Vec<State>,

    /// Only this group, as `notifyctl groups` prints it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Key>,

    /// Only this reason code
    #[arg(long, value_name = "CODE", value_parser = reason_code)]
    pub(crate) reason_code: Option<String>,

    /// Only this CloudEvents type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,

    /// Only this CloudEvents source
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,

    /// Only those that have had their status for this long, e.g. 90s, 5m, 2h or 1d
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = duration)]
    pub(crate) older_than: Duration,

    /// Show INIT and CLAIMED notifications only once they are this old
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) pending_for: Duration,

    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,

    /// Continue after this entry: the value that the page before printed
    #[arg(long, value_name = "TIME,ID")]
    pub(crate) after: Option<String>,

    /// Print only the ids, one per line, for a pipe
    #[arg(long, conflicts_with = "json")]
    pub(crate) ids: bool,
}

/// The notifications that a decision is about, and how it is carried out.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "group", "resume"]))]
pub(crate) struct SetArgs {
    /// Notification ids; - reads them from standard input, one per line
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    /// All of this group, as `notifyctl groups` prints it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Key>,

    /// Make the changes. Without it, they are only counted; a single ID needs no --yes, except with --plan
    #[arg(long)]
    pub(crate) yes: bool,

    /// Change at most this many per second: one in the first second, then twice as many in each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,

    /// Stop when this percentage of the last 100 results (at least 20) are failures: FAILED or IN_DOUBT again, or pending with
    /// a failure
    #[arg(long, value_name = "PCT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) stop_at: u8,

    /// Wait until those that run again are settled, for up to 10 minutes, and say what became of each
    #[arg(long)]
    pub(crate) wait: bool,

    /// Write the plan to this new file: the ids, then the results [default: notifyctl-<time>.plan.jsonl]. Without --yes, only
    /// the ids are written, and --resume changes exactly these
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) plan: Option<PathBuf>,

    /// Change what is left of the ids in this file: after --plan without --yes, an interruption, or a stop
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
}

/// Run failed notifications again: FAILED → INIT
///
/// More than one notification is changed only with --yes; without it, they are counted. The ids are written to a file
/// first, with which an interrupted command can be resumed; later arrivals are not included. To run the command twice changes
/// nothing twice.
#[derive(Debug, Args)]
#[command(after_help = REDRIVE_EXAMPLES)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    pub(crate) set: SetArgs,
}

/// Say whether the effect of IN_DOUBT notifications has happened: → DONE, or → INIT to run them again
///
/// A notification that is CLAIMED by a worker that is gone counts as IN_DOUBT.
///
/// Many at once are changed as by `notifyctl redrive`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("decision").required(true).args(["done", "retry"]), after_help = RESOLVE_EXAMPLES)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) set: SetArgs,

    /// Its effect has happened: DONE
    #[arg(long)]
    pub(crate) done: bool,

    /// Its effect has not happened: INIT, to run it again
    #[arg(long)]
    pub(crate) retry: bool,

    /// The time that `notifyctl status` showed when you asked the receiver: in_doubt_at, or lease_until of a claim
    ///
    /// If the notification has changed since, another call may have been made, and nothing is changed.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["group", "resume"])]
    pub(crate) seen: Option<Timestamp>,
}

/// Follow the counts until every notification is settled (with --expect, reads the whole table each time)
///
/// Settled means that nothing is left to do: the queue is empty, and every notification is DONE, FAILED or IN_DOUBT.
///
/// SQS counts are approximate, and can miss a message for a minute after it was sent. So without --expect, the counts must not
/// change for 75 seconds, and --timeout must be longer than that. With --expect N, the table must have N notifications, all of
/// them settled; two identical readings in a row are then enough. N includes notifications from before, but not duplicates or
/// refused messages, which may still be on their way.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WatchArgs {
    /// Give up after this many seconds; more than 75 without --expect
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// Read the counts every this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) interval: u64,

    /// Wait until the table has at least this many notifications, including those from before; without it, until nothing has
    /// changed for 75 seconds
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) expect: usize,
}

/// Compare the sent events with the table, its stream and the dead-letter queue: was anything lost or doubled?
///
/// The audit calls no function and writes nothing. But reading the dead-letter queue means receiving its messages: dead
/// letters are hidden for up to 5 minutes, and their receive count rises. A notification counts as DONE once only if the
/// table's stream shows its one change to DONE, and its one insert unless that is more than 24 hours old. The stream keeps
/// records for 24 hours, so run the audit within 24 hours of sending. With the action `ledger`, the audit also compares its
/// entries, one by one and in sum.
///
/// Run `notifyctl watch` first, without --expect if some messages should be refused: the audit reports anything still in flight
/// as a problem, and cannot show that a message is lost while the queue has any.
///
/// The verdict:
///   good             nothing lost, nothing doubled, as the evidence shows
///   bad              something is lost, doubled or not settled; each problem has its id
///   cannot_be_shown  no problem was found, but the evidence has gaps: a notification is IN_DOUBT, became DONE more than 24
///                    hours ago, or is missing from what could be read of the stream or the dead-letter queue; or a message was
///                    not found, and the queue is not empty
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = AUDIT_EXAMPLES)]
pub(crate) struct AuditArgs {
    /// The sent events, one per line (written by `notifyctl send --save`)
    pub(crate) file: PathBuf,
}

/// Check every item in the table, or every change from now on (--follow), against the rules
///
/// Each item must have exactly the attributes that its status implies, an event that is its notification's, and valid
/// times (docs/SEMANTICS.md#attributes). Reads the whole table, at a limited rate. Each violation is printed when it is
/// found.
///
/// With --follow, each change that the table's stream shows must be one of the allowed transitions, must set and remove
/// the attributes of that transition and no others, and must leave a valid item; only DONE items may be removed, and only
/// by their time to live. Run one such monitor for a stack: two readers can share a shard of the stream, and publisher's
/// event source mapping is one of them.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// Read at most this many capacity units per second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) read_units: u32,

    /// Save the progress in this file, and continue with it if it exists; a finished run deletes it
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    pub(crate) state: Option<PathBuf>,

    /// Follow the table's stream until this is interrupted
    #[arg(long)]
    pub(crate) follow: bool,

    /// Publish what --follow counts in CloudWatch, once a minute; without this, nothing is written anywhere (needs
    /// cloudwatch:PutMetricData in the namespace AtomicNotification)
    #[arg(long, requires = "follow")]
    pub(crate) publish_metrics: bool,

    /// Follow for this long, e.g. 90s, 5m, 2h or 1d
    #[arg(long = "for", value_name = "DURATION", requires = "follow", value_parser = duration)]
    pub(crate) for_: Option<Duration>,
}

/// Measure how long notifications take, by stage and from end to end (sends real ones)
///
/// Sends generated notifications at an even rate, waits until they are DONE, and prints the percentiles of each stage in
/// milliseconds, by nearest rank: each figure is the time of one notification.
///
///   sent → received       wait in the queue, and ingest's start
///   received → published  table write, the table stream's polling, publisher
///   published → done      Kinesis polling, downstream and its action
///   sent → done           all of it
///
/// These are real notifications: the deployed action runs for each, and they stay in the table like any other.
///
/// The times come from different clocks: sent from this machine's, received and done from Lambda's (each taken just before its
/// write), published from Kinesis'. A stage that is shorter than the difference of the clocks means nothing, and may be negative.
///
/// Kinesis is read after all are DONE, so that this does not slow down downstream's reads.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = LATENCY_EXAMPLES)]
pub(crate) struct LatencyArgs {
    /// Send this many notifications
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,

    /// Send this many per second, unless the queue answers too slowly
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,

    /// Give up this many seconds after the last is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

/// Serve a web page for operators, on this machine only: the flow, what needs attention, and each notification
///
/// Prints the address of the page, which has a secret: whoever has the address can do what the page can do. The page shows no
/// event unless asked to. It reads while it is visible, on AWS every 10 seconds: 224 queries of the indexes, whose cost grows only
/// with what is not DONE, and four calls to SQS.
///
/// Changes (redrive, resolve) are made as by the commands: the set is fixed and counted first, then carried out at a rate that
/// grows, with a plan's file in the working directory, until too many fail again.
#[derive(Debug, Args)]
#[command(after_help = UI_EXAMPLES)]
pub(crate) struct UiArgs {
    /// Listen on this port [default: any free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,

    /// Let the page redrive and resolve; a local stack needs no such permission
    #[arg(long)]
    pub(crate) allow_changes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use notification::limits;

    fn help(command: &str) -> String {
        let mut cli = Cli::command();
        let mut found = &mut cli;
        for name in command.split(' ') {
            found = found.find_subcommand_mut(name).unwrap();
        }
        found.render_long_help().to_string()
    }

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_watch_has_its_limit() {
        let quiet = limits::WATCH_QUIET.as_secs();
        let help = help("watch");
        assert!(help.contains(&format!("change for {quiet} seconds")), "{help}");
        assert!(help.contains(&format!("more than {quiet} without --expect")), "{help}");
    }

    #[test]
    fn the_help_of_audit_says_how_long_dead_letters_are_hidden() {
        let minutes = limits::DEAD_LETTER_HIDDEN.as_secs() / 60;
        assert!(help("audit").contains(&format!("letters are hidden for up to {minutes} minutes")));
    }

    #[test]
    fn the_help_of_dlq_redrive_has_its_limits() {
        let minutes = limits::DEAD_LETTER_HIDDEN.as_secs() / 60;
        let help = help("dlq redrive");
        assert!(help.contains(&format!("for up to {minutes} minutes")), "{help}");
        let days = 90 - limits::redrive_days(90);
        assert!(help.contains(&format!("less {days}\ndays")));
        assert!(help.contains(&format!("for {} more days", limits::SQS_RETENTION_DAYS)));
    }

    #[test]
    fn the_help_of_status_says_how_often_put_back_is_kept() {
        let times = limits::EARLIER_PUT_BACKS_MAX + 1;
        assert!(help("status").contains(&format!("the last {times} times")));
    }

    #[test]
    fn the_help_of_resolve_names_both_statuses_that_it_settles() {
        let help = help("resolve");
        assert!(help.contains("IN_DOUBT") && help.contains("CLAIMED by a worker that is gone"), "{help}");
    }

    #[test]
    fn the_help_lists_the_exit_status_of_an_interrupted_command() {
        assert!(EXAMPLES.contains("  130  interrupted"));
    }

    #[test]
    fn send_needs_a_file_or_a_count_and_not_both() {
        assert!(Cli::try_parse_from(["notifyctl", "send"]).is_err());
        assert!(Cli::try_parse_from(["notifyctl", "send", "f", "--count", "1"]).is_err());
        assert!(Cli::try_parse_from(["notifyctl", "send", "-"]).is_ok());
        assert!(Cli::try_parse_from(["notifyctl", "send", "--count", "1", "--stack", "s", "--json"]).is_ok());
    }
}
