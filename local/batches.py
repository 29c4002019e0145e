"""Batches of records, in the JSON in which Lambda hands them to a function.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
"""

import base64
import json

#: What a function answers when it has processed the whole batch.
NOTHING_FAILED = {"batchItemFailures": []}


def event(notification_id):
    """The event of a notification, in JSON."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": notification_id,
            "source": "urn:example:orders",
            "type": "com.example.refund.requested",
            "time": "2026-11-22T10:00:00Z",
            "data": {"orderId": "42", "amount": "19.99", "currency": "EUR"},
        },
        separators=(",", ":"),
    )


def ids(count):
    return [f"rfd-{number:06}" for number in range(count)]


def sqs(*ids, body=None):
    """A batch of SQS messages, one for each id: its body is the notification's event, or `body`."""
    return {"Records": [_message(notification_id, body or event(notification_id)) for notification_id in ids]}


def table_stream(*ids):
    """A batch of table stream records, one for each id: the notification was inserted with the status INIT."""
    return {"Records": [_change(number, notification_id) for number, notification_id in enumerate(ids)]}


def kinesis(*ids, data=None):
    """A batch of Kinesis records, one for each id: its data is the notification's event, or the bytes `data`."""
    return {
        "Records": [
            _record(number, notification_id, data or event(notification_id).encode())
            for number, notification_id in enumerate(ids)
        ]
    }


#: The batches that each function is invoked with.
OF = {"ingest": sqs, "publisher": table_stream, "downstream": kinesis}


def _message(notification_id, body):
    return {
        "messageId": f"message-{notification_id}",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1763805600000"},
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:notifications",
        "awsRegion": "us-east-1",
    }


def _change(number, notification_id):
    return {
        "eventID": f"{number:032}",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1763805600.0,
            "Keys": {"id": {"S": notification_id}},
            "NewImage": {
                "id": {"S": notification_id},
                "status": {"S": "INIT"},
                "event": {"S": event(notification_id)},
                "source": {"S": "urn:example:orders"},
                "type": {"S": "com.example.refund.requested"},
                "received_at": {"S": "2026-11-22T10:00:01.000Z"},
            },
            "SequenceNumber": _sequence_number(number),
            "SizeBytes": 512,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/notifications/stream/2026-11-22T09:00:00.000",
    }


def _record(number, notification_id, data):
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": notification_id,
            "sequenceNumber": _sequence_number(number),
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": 1763805602.123,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{_sequence_number(number)}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/downstream",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/notifications",
    }


def _sequence_number(number):
    return str(10**20 + number)
