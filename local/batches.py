"""Batches of records as each event source sends them."""

import base64
import json


def event(notification_id):
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


def sqs(count):
    return {"Records": [message(notification_id) for notification_id in ids(count)]}


def message(notification_id):
    """One message, with the event of one notification."""
    return {
        "messageId": f"message-{notification_id}",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": event(notification_id),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1763805600000"},
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:notifications",
        "awsRegion": "us-east-1",
    }


def table_stream(count):
    return {"Records": [_change(number, notification_id) for number, notification_id in enumerate(ids(count))]}


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
            "SequenceNumber": str(10**20 + number),
            "SizeBytes": 512,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/notifications/stream/2026-11-22T09:00:00.000",
    }


def kinesis(count):
    return {"Records": [_record(number, notification_id) for number, notification_id in enumerate(ids(count))]}


def _record(number, notification_id):
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": notification_id,
            "sequenceNumber": str(10**20 + number),
            "data": base64.b64encode(event(notification_id).encode()).decode(),
            "approximateArrivalTimestamp": 1763805602.123,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{10**20 + number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/downstream",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/notifications",
    }


#: What each function is invoked with.
OF = {"ingest": sqs, "publisher": table_stream, "downstream": kinesis}


def kinesis_of(notification_id):
    """One record, with the event of one notification."""
    return {"Records": [_record(0, notification_id)]}


def sqs_of(notification_id):
    """One message, with the event of one notification."""
    return {"Records": [_message(notification_id)]}


def table_stream_of(notification_id):
    """One change: a notification became INIT."""
    return {"Records": [_change(0, notification_id)]}
