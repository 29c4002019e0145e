//! The Kinesis stream between publisher and downstream.

use crate::classify;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use notification::ports::{Answers, Publication, Stream};
use notification::{Failure, limits};

/// The stream, by its name.
#[derive(Debug, Clone)]
pub struct KinesisStream {
    client: Client,
    stream_name: String,
}

impl KinesisStream {
    /// The stream of this name.
    #[must_use]
    pub fn new(client: Client, stream_name: String) -> Self {
        Self { client, stream_name }
    }
}

impl Stream for KinesisStream {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        debug_assert!(publications.len() <= limits::PUT_RECORDS_MAX_ENTRIES);
        let entries = publications.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .client
            .put_records()
            .stream_name(&self.stream_name)
            .set_records(Some(entries))
            .send()
            .await
            .map_err(|error| classify::failure("PutRecords", &error))?;
        Ok(answer.records().iter().map(result).collect())
    }
}

fn entry(publication: &Publication<'_>) -> Result<PutRecordsRequestEntry, Failure> {
    PutRecordsRequestEntry::builder()
        .partition_key(publication.id.as_str())
        .data(Blob::new(publication.event))
        .build()
        .map_err(|_| Failure::permanent("PutRecords: an entry lacks its partition key or data"))
}

/// A 200 response may contain failures: an entry with an error code was not put.
fn result(entry: &PutRecordsResultEntry) -> Result<(), Failure> {
    match entry.error_code() {
        Some(code) => Err(classify::entry_failure("PutRecords", code)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
    use aws_smithy_mocks::{mock, mock_client};
    use notification::NotificationId;

    #[tokio::test]
    async fn rule_6_each_entry_of_put_records_has_its_own_result_and_the_id_is_the_partition_key() {
        let rule = mock!(Client::put_records)
            .match_requests(|request| {
                let sent: Vec<_> =
                    request.records().iter().map(|entry| (entry.partition_key(), entry.data().as_ref())).collect();
                request.stream_name() == Some("s")
                    && sent == [(Some("a"), &b"event a"[..]), (Some("b"), &b"event b"[..])]
            })
            .then_output(|| {
                PutRecordsOutput::builder()
                    .records(
                        PutRecordsResultEntry::builder().error_code("ProvisionedThroughputExceededException").build(),
                    )
                    .records(PutRecordsResultEntry::builder().sequence_number("1").shard_id("0").build())
                    .build()
                    .unwrap()
            });
        let stream = KinesisStream::new(mock_client!(aws_sdk_kinesis, [&rule]), "s".to_owned());
        let (a, b) = (NotificationId::parse("a").unwrap(), NotificationId::parse("b").unwrap());
        let publications = [Publication { id: &a, event: "event a" }, Publication { id: &b, event: "event b" }];
        let answers = stream.put(&publications).await.unwrap();
        assert!(answers[0].as_ref().unwrap_err().kind.is_retryable());
        assert_eq!(answers[1], Ok(()));
    }
}
