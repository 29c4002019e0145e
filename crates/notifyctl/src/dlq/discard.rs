//! `notifyctl dlq discard`: deletes dead letters, after it has appended them to a file.
//!
//! A message is deleted only when its copy is on disk. If the command ends in between, the message is still in the queue, and
//! a later run appends it again.

use super::chosen::{Act, Choice, Fate, carry_out};
use super::letter::{FIRST_SENT_AT, Letter, Reason};
use super::max;
use super::results::Results;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, MessageAttributeValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use futures_util::stream::{self, StreamExt};
use notification::{Clock, limits};
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl dlq discard --reason duplicate --copy discarded.jsonl          list the messages that would be deleted
  notifyctl dlq discard --reason duplicate --copy discarded.jsonl --yes
  jq -r '.message_id + \" \" + .reason' discarded.jsonl                      what was deleted

Exit status: 0 all were discarded or listed; 1 some were not found, beyond --max, or hidden by another reader; 2 some
could not be deleted, or the copy could not be written.";

/// Delete messages, after they were copied to a file (without --yes, list them, unless you name one and no other)
///
/// Each message is appended to the file as one line of JSON, with its body and its attributes, and is on disk before it
/// is deleted. The file contains payloads, so only its owner may read it, even if others could before. If the command
/// is interrupted, what was not deleted is still in the queue, perhaps hidden for up to 5 minutes, and a later run
/// appends it again.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["message_ids", "reason"]))]
pub(crate) struct DlqDiscardArgs {
    /// SQS message ids, as in `notifyctl dlq list` and ingest's log
    #[arg(value_name = "MESSAGE_ID")]
    message_ids: Vec<String>,

    /// Discard messages with this reason
    #[arg(long, value_name = "REASON")]
    reason: Vec<Reason>,

    /// Append each message to this file before it is deleted
    #[arg(long, value_name = "FILE", required = true)]
    copy: PathBuf,

    /// Discard at most this many messages
    #[arg(long, value_name = "N", default_value_t = limits::DEAD_LETTERS_MAX, value_parser = max())]
    max: u32,

    /// Discard the messages, instead of listing them
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(stack: &Stack, args: &DlqDiscardArgs, json: bool) -> Result<ExitCode, Error> {
    let choice = Choice { message_ids: &args.message_ids, reasons: &args.reason, max: args.max as usize };
    let mut discard = Discard { copy: Copy { path: &args.copy, file: None } };
    let results = carry_out(stack, &choice, args.yes, &mut discard).await;
    let warning = warning(&results);
    results.report::<Discard<'_>>(&choice, warning, json)
}

fn warning(results: &Results) -> Option<&'static str> {
    results.has(Reason::Good).then_some(
        "the table does not have the ids of good messages: what is discarded will never happen, unless it is sent again",
    )
}

struct Discard<'a> {
    copy: Copy<'a>,
}

impl Act for Discard<'_> {
    const DONE: &'static str = "discarded";

    fn judge(&self, _: &Letter) -> Fate {
        Fate::Possible("would be discarded".to_owned())
    }

    fn is_back(&self, _: &Letter) -> bool {
        false
    }

    async fn act(&mut self, stack: &Stack, letters: &[Letter]) -> Result<Vec<Fate>, Error> {
        self.copy.append(letters)?;
        let bar = output::progress(letters.len(), "discarding");
        let calls = letters.chunks(limits::SQS_BATCH_MAX).map(async |batch| {
            let fates = delete(stack, batch).await;
            bar.inc(batch.len() as u64);
            fates
        });
        let fates: Vec<Vec<Fate>> = stream::iter(calls).buffered(limits::CALLS_IN_FLIGHT).collect().await;
        bar.finish_and_clear();
        Ok(fates.concat())
    }
}

/// Deletes messages, and returns the fate of each in order.
async fn delete(stack: &Stack, letters: &[Letter]) -> Vec<Fate> {
    let mut call = stack.sqs.delete_message_batch().queue_url(&stack.dead_letter_queue_url);
    for (place, letter) in letters.iter().enumerate() {
        let receipt = letter.message.receipt_handle().unwrap_or_default();
        let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string()).receipt_handle(receipt).build();
        match entry {
            Ok(entry) => call = call.entries(entry),
            Err(error) => return vec![Fate::Failed(error.to_string()); letters.len()],
        }
    }
    match call.send().await.map_err(Error::aws("DeleteMessageBatch")) {
        Ok(answer) => {
            let mut fates = vec![Fate::Done; letters.len()];
            for failed in answer.failed {
                if let Some(fate) = failed.id.parse().ok().and_then(|place: usize| fates.get_mut(place)) {
                    *fate = Fate::Failed(format!("DeleteMessageBatch: {}; run the command again", failed.code));
                }
            }
            fates
        }
        Err(error) => vec![Fate::Failed(error.to_string()); letters.len()],
    }
}

/// The file of copies.
struct Copy<'a> {
    path: &'a Path,
    /// Opened for the first message, so that nothing is created if nothing is discarded.
    file: Option<File>,
}

impl Copy<'_> {
    /// Appends letters, and returns when they are on disk.
    fn append(&mut self, letters: &[Letter]) -> Result<(), Error> {
        let copied = self.write(letters);
        copied.map_err(|cause| {
            let path = self.path.display();
            Error::Failed(format!("{path}: {cause}; the messages that were not copied were not deleted"))
        })
    }

    fn write(&mut self, letters: &[Letter]) -> std::io::Result<()> {
        let lines: String = letters.iter().map(|letter| copy(letter).to_string() + "\n").collect();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open(self.path)?),
        };
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    }
}

/// What the file's owner may do: read and write. Others may do nothing.
const OWNER_ONLY: u32 = 0o600;

/// Opens a file to append to it. It is for its owner only, even if it was there before, and is on disk by name.
fn open(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new().read(true).create(true).append(true).mode(OWNER_ONLY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
        output::note(&format!("{}: only its owner may read it from now on", path.display()));
    }
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        // An earlier command could not finish its last line.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Everything that is known of a message.
fn copy(letter: &Letter) -> Value {
    let attributes = letter.message.message_attributes().into_iter().flatten();
    let attributes: Map<String, Value> = attributes.map(|(name, value)| (name.clone(), attribute(value))).collect();
    json!({
        "message_id": letter.message_id(),
        "id": letter.id.as_ref().map(ToString::to_string),
        "reason": letter.reason,
        "why": letter.why,
        FIRST_SENT_AT: letter.first_sent_at().map(|time| format!("{time:.3}")),
        "discarded_at": format!("{:.3}", SystemClock.now()),
        "receives": letter.receives(),
        "attributes": attributes,
        "body": letter.body(),
    })
}

/// A message attribute in JSON; bytes are base64.
pub(super) fn attribute(value: &MessageAttributeValue) -> Value {
    let bytes = value.binary_value().map(|bytes| STANDARD.encode(bytes.as_ref()));
    json!({"type": value.data_type(), "value": value.string_value().map(str::to_owned).or(bytes)})
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{EVENT, letter_of, message};
    use super::*;
    use aws_sdk_sqs::primitives::Blob;

    #[test]
    fn a_copy_has_the_body_byte_for_byte_and_all_attributes() {
        let mut message = message(0, Some("5000"));
        let bytes = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([255, 0]));
        let attributes = message.message_attributes.get_or_insert_default();
        attributes.insert("bytes".to_owned(), bytes.build().unwrap());
        let copy = copy(&letter_of(message));
        assert_eq!(copy["body"], EVENT);
        assert_eq!(copy["attributes"]["first_sent_at"], json!({"type": "Number", "value": "5000"}));
        assert_eq!(copy["attributes"]["bytes"], json!({"type": "Binary", "value": "/wA="}));
        assert_eq!((&copy["first_sent_at"], &copy["reason"]), (&json!("1970-01-01T00:00:00.000Z"), &json!("good")));
    }

    #[test]
    fn a_copy_after_a_line_that_was_cut_off_has_a_line_of_its_own() {
        let path = std::env::temp_dir().join(format!("notifyctl-torn-{}.jsonl", std::process::id()));
        std::fs::write(&path, r#"{"message_id":"#).unwrap();
        Copy { path: &path, file: None }.append(&[letter_of(message(0, None))]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["message_id"], "m");
    }

    #[test]
    fn copies_are_appended_to_a_file_that_only_its_owner_may_read() {
        let path = std::env::temp_dir().join(format!("notifyctl-copy-{}.jsonl", std::process::id()));
        for _ in 0..2 {
            Copy { path: &path, file: None }.append(&[letter_of(message(0, None))]).unwrap();
        }
        let (text, mode) = (std::fs::read_to_string(&path).unwrap(), path.metadata().unwrap().permissions().mode());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["message_id"] == "m"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_is_for_its_owner_only_before_a_copy_is_appended() {
        let path = std::env::temp_dir().join(format!("notifyctl-shared-{}.jsonl", std::process::id()));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = open(&path).unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mode & 0o777, OWNER_ONLY);
    }

    #[test]
    fn a_copy_goes_to_a_regular_file_only() {
        let before = Path::new("/dev/null").metadata().unwrap().permissions();
        assert_eq!(open(Path::new("/dev/null")).unwrap_err().to_string(), "not a regular file");
        assert_eq!(Path::new("/dev/null").metadata().unwrap().permissions(), before);
    }

    #[test]
    fn a_copy_that_cannot_be_written_is_an_error_that_names_the_file() {
        let path = Path::new("/no/such/folder/copy.jsonl");
        let error = Copy { path, file: None }.append(&[letter_of(message(0, None))]).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder/copy.jsonl") && error.contains("not deleted"), "{error}");
    }
}
