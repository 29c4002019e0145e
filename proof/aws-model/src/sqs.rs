//! SQS: `ChangeMessageVisibilityBatch`.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html>

use crate::error::{Error, Members};
use crate::{EntryFaults, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Entries of one call.
const ENTRIES_MAX: usize = 10;

/// The longest visibility timeout, in seconds: 12 hours.
const TIMEOUT_MAX_SECONDS: u64 = 43_200;

/// Why the visibility of a message is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// The message is visible or deleted.
    NotInFlight,
    /// It would be invisible for more than 12 hours after its receive.
    TooLong,
}

/// Answers a request. `change` changes the visibility of one message, by its receipt handle.
pub fn handle(
    request: Request<'_>,
    faults: EntryFaults<'_>,
    change: impl FnMut(&str, Duration) -> Result<(), Unchanged>,
) -> Response {
    if request.target != "AmazonSQS.ChangeMessageVisibilityBatch" {
        return Error::unknown_operation(request.target).response();
    }
    let Ok(body) = serde_json::from_slice(request.body) else {
        return Response::error(400, "SerializationException", "the body is not JSON");
    };
    change_message_visibility_batch(&body, faults, change).into()
}

fn change_message_visibility_batch(
    body: &Value,
    faults: EntryFaults<'_>,
    mut change: impl FnMut(&str, Duration) -> Result<(), Unchanged>,
) -> Result<Value, Error> {
    let request = Members::of(body, &["QueueUrl", "Entries"])?;
    request.text("QueueUrl")?;
    let entries = request.list("Entries")?;
    if entries.is_empty() {
        return Err(Error::new("AWS.SimpleQueueService.EmptyBatchRequest", "the batch has no entries"));
    }
    if entries.len() > ENTRIES_MAX {
        return Err(Error::new("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "more than ten entries"));
    }
    let mut ids = BTreeSet::new();
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (place, entry) in entries.iter().enumerate() {
        let entry = Members::of(entry, &["Id", "ReceiptHandle", "VisibilityTimeout"])?;
        let id = entry.text("Id")?;
        if !ids.insert(id) {
            return Err(Error::new("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "an id is there twice"));
        }
        let seconds = entry.required("VisibilityTimeout")?.as_u64();
        let Some(seconds) = seconds.filter(|seconds| *seconds <= TIMEOUT_MAX_SECONDS) else {
            return Err(Error::new("InvalidParameterValue", "the visibility timeout is not 0 to 43200 seconds"));
        };
        if faults(place).is_some() {
            failed.push(json!({"Id": id, "SenderFault": false, "Code": "InternalError"}));
            continue;
        }
        match change(entry.text("ReceiptHandle")?, Duration::from_secs(seconds)) {
            Ok(()) => successful.push(json!({"Id": id})),
            Err(unchanged) => {
                let code = match unchanged {
                    Unchanged::NotInFlight => "MessageNotInflight",
                    Unchanged::TooLong => "InvalidParameterValue",
                };
                failed.push(json!({"Id": id, "SenderFault": true, "Code": code}));
            }
        }
    }
    Ok(json!({"Successful": successful, "Failed": failed}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryFault;

    #[test]
    fn each_entry_has_its_own_result_under_its_own_id() {
        let entry = |id: &str, handle: &str| json!({"Id": id, "ReceiptHandle": handle, "VisibilityTimeout": 15});
        let body = json!({"QueueUrl": "q", "Entries": [entry("0", "a"), entry("1", "gone"), entry("2", "c")]});
        let mut hidden = Vec::new();
        let answer = change_message_visibility_batch(
            &body,
            &|place| (place == 2).then_some(EntryFault::Internal),
            |handle, wait| {
                hidden.push((handle.to_owned(), wait));
                if handle == "gone" { Err(Unchanged::NotInFlight) } else { Ok(()) }
            },
        );
        let answer = answer.unwrap();
        let wait = Duration::from_secs(15);
        assert_eq!(hidden, [("a".to_owned(), wait), ("gone".to_owned(), wait)]);
        assert_eq!(answer["Successful"], json!([{"Id": "0"}]));
        let failed: Vec<_> =
            answer["Failed"].as_array().unwrap().iter().map(|failed| (&failed["Id"], &failed["SenderFault"])).collect();
        assert_eq!(failed, [(&json!("1"), &json!(true)), (&json!("2"), &json!(false))]);
    }

    #[test]
    fn a_batch_that_breaks_a_limit_is_refused() {
        let entry =
            |id: usize, seconds: u64| json!({"Id": id.to_string(), "ReceiptHandle": "a", "VisibilityTimeout": seconds});
        let refused = [
            vec![],
            (0..=ENTRIES_MAX).map(|id| entry(id, 1)).collect(),
            vec![entry(0, 1), entry(0, 1)],
            vec![entry(0, TIMEOUT_MAX_SECONDS + 1)],
        ];
        for entries in refused {
            let body = json!({"QueueUrl": "q", "Entries": entries});
            assert!(change_message_visibility_batch(&body, &|_| None, |_, _| Ok(())).is_err(), "{body}");
        }
    }
}
