//! The commands. The options of each are in its module.

use crate::audit::AuditArgs;
use crate::cost::CostArgs;
use crate::decide::{RedriveArgs, ResolveArgs};
use crate::dlq::DlqCommand;
use crate::doctor::DoctorArgs;
use crate::groups::GroupsArgs;
use crate::latency::LatencyArgs;
use crate::list::ListArgs;
use crate::send::SendArgs;
use crate::stage::{PauseArgs, ResumeArgs};
use crate::status::StatusArgs;
use crate::summary::SummaryArgs;
use crate::ui::UiArgs;
use crate::verify::VerifyArgs;
use crate::watch::WatchArgs;
use clap::{Parser, Subcommand};

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
    fn every_command_has_examples_and_says_its_exit_status() {
        fn check(command: &clap::Command) {
            for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
                if command.has_subcommands() {
                    check(command);
                    continue;
                }
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("Examples:\n") && help.contains("Exit status: "), "{help}");
            }
        }
        let mut cli = Cli::command();
        cli.build();
        check(&cli);
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
