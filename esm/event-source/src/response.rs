//! Partial batch responses: which records of a batch a function reports as failed.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting>

use crate::Answer;
use serde_json::Value;

/// What an answer says about its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All records are done.
    Complete,
    /// The records at these places of the batch failed; in ascending order, never empty.
    Partial(Vec<usize>),
    /// All records failed.
    Failed,
}

/// Reads an answer. `reports` says whether the mapping has `ReportBatchItemFailures`: without it, every response is a
/// complete success. `place` finds an identifier in the batch.
///
/// An absent, null or empty list is a complete success. An identifier that is empty, null, under a wrong name or not in this
/// batch makes the response a complete failure.
pub fn read(answer: Answer<'_>, reports: bool, place: impl Fn(&str) -> Option<usize>) -> Verdict {
    let Answer::Response(response) = answer else { return Verdict::Failed };
    if !reports {
        return Verdict::Complete;
    }
    let Ok(response) = serde_json::from_slice::<Value>(response) else { return Verdict::Failed };
    let failures = match response.get("batchItemFailures") {
        None | Some(Value::Null) => return Verdict::Complete,
        Some(Value::Array(failures)) => failures,
        Some(_) => return Verdict::Failed,
    };
    let identifier = |failure: &Value| failure.get("itemIdentifier")?.as_str().and_then(&place);
    match failures.iter().map(identifier).collect::<Option<Vec<usize>>>() {
        None => Verdict::Failed,
        Some(places) if places.is_empty() => Verdict::Complete,
        Some(mut places) => {
            places.sort_unstable();
            places.dedup();
            Verdict::Partial(places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, expected: &Verdict) {
        let place = |identifier: &str| ["a", "b", "c"].iter().position(|&known| known == identifier);
        assert_eq!(&read(Answer::Response(answer.as_bytes()), true, place), expected, "{answer}");
    }

    #[test]
    fn an_empty_null_or_absent_list_is_a_complete_success() {
        for answer in [r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#, "{}", "null", "\"text\""] {
            check(answer, &Verdict::Complete);
        }
    }

    #[test]
    fn an_empty_null_misnamed_or_unknown_identifier_is_a_complete_failure() {
        for item in
            [r#"{"itemIdentifier":""}"#, r#"{"itemIdentifier":null}"#, r#"{"id":"a"}"#, r#"{"itemIdentifier":"z"}"#]
        {
            check(&format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"a"}},{item}]}}"#), &Verdict::Failed);
        }
        check(r#"{"batchItemFailures":1}"#, &Verdict::Failed);
        check("not JSON", &Verdict::Failed);
    }

    #[test]
    fn failed_identifiers_become_places_of_the_batch() {
        let answer = r#"{"batchItemFailures":[{"itemIdentifier":"c"},{"itemIdentifier":"b"},{"itemIdentifier":"c"}]}"#;
        check(answer, &Verdict::Partial(vec![1, 2]));
    }

    #[test]
    fn a_partial_response_counts_only_if_the_mapping_has_report_batch_item_failures() {
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#;
        assert_eq!(read(Answer::Response(answer), false, |_| Some(0)), Verdict::Complete);
    }
}
