//! What each role needs, as template.yaml grants it.

use super::deployed::{Deployed, Grant, Stage};

/// A resource of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Queue,
    Table,
    TableStream,
    Index(&'static str),
    Stream,
    /// The failure queue of the function's mapping.
    Failures,
    LogGroup,
}

use Resource::{Failures, Index, LogGroup, Queue, Stream, Table, TableStream};

pub(super) const INGEST: &[(&str, Resource)] = &[
    ("sqs:ReceiveMessage", Queue),
    ("sqs:DeleteMessage", Queue),
    ("sqs:GetQueueAttributes", Queue),
    ("sqs:ChangeMessageVisibility", Queue),
    ("dynamodb:PartiQLInsert", Table),
    ("dynamodb:BatchGetItem", Table),
    ("logs:CreateLogStream", LogGroup),
    ("logs:PutLogEvents", LogGroup),
];

pub(super) const PUBLISHER: &[(&str, Resource)] = &[
    ("dynamodb:DescribeStream", TableStream),
    ("dynamodb:GetRecords", TableStream),
    ("dynamodb:GetShardIterator", TableStream),
    ("kinesis:PutRecords", Stream),
    ("dynamodb:Query", Index("pending")),
    ("dynamodb:Query", Index("unresolved")),
    ("dynamodb:BatchGetItem", Table),
    ("dynamodb:UpdateItem", Table),
    ("dynamodb:PutItem", Table),
    ("sqs:SendMessage", Failures),
    ("logs:CreateLogStream", LogGroup),
    ("logs:PutLogEvents", LogGroup),
];

/// Without those that depend on the action and on enhanced fan-out.
pub(super) const DOWNSTREAM: &[(&str, Resource)] = &[
    ("kinesis:DescribeStream", Stream),
    ("kinesis:DescribeStreamSummary", Stream),
    ("kinesis:GetRecords", Stream),
    ("kinesis:GetShardIterator", Stream),
    ("kinesis:ListShards", Stream),
    ("dynamodb:PartiQLUpdate", Table),
    ("dynamodb:BatchGetItem", Table),
    ("dynamodb:PutItem", Table),
    ("sqs:SendMessage", Failures),
    ("logs:CreateLogStream", LogGroup),
    ("logs:PutLogEvents", LogGroup),
];

/// The permissions that a stage needs and its role does not have. `Err`: why that cannot be decided.
pub(super) fn missing(deployed: &Deployed, stage: &Stage) -> Result<Vec<String>, String> {
    let grants = stage.grants.as_ref()?;
    let needed = match stage.name {
        "ingest" => INGEST,
        "publisher" => PUBLISHER,
        _ => DOWNSTREAM,
    };
    let mut missing = Vec::new();
    for (action, resource) in needed {
        let arn = arn(deployed, stage, *resource)?;
        if !grants.iter().any(|grant| grant.allows(action, &arn)) {
            missing.push(format!("{action} on {arn}"));
        }
    }
    Ok(missing)
}

/// The ARN of a resource, as far as it is known: that of a log group lacks the account.
fn arn(deployed: &Deployed, stage: &Stage, resource: Resource) -> Result<String, String> {
    Ok(match resource {
        Queue => deployed.queue.as_ref()?.arn.clone(),
        Table => deployed.table.as_ref()?.arn.clone(),
        TableStream => deployed.table_stream_arn.clone(),
        Index(name) => format!("{}/index/{name}", deployed.table.as_ref()?.arn),
        Stream => deployed.stream.as_ref()?.arn.clone(),
        Failures if stage.name == "publisher" => deployed.publisher_failures.as_ref()?.arn.clone(),
        Failures => deployed.downstream_failures.as_ref()?.arn.clone(),
        LogGroup => format!("log-group:{}:", stage.function.as_ref()?.log_group),
    })
}

impl Grant {
    fn allows(&self, action: &str, arn: &str) -> bool {
        let is_log_group = arn.starts_with("log-group:");
        matches(&self.action, action) && (matches(&self.resource, arn) || (is_log_group && self.resource.contains(arn)))
    }
}

/// Whether a text matches a pattern of IAM, in which `*` stands for any text, and `?` for any character.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let mut parts = pattern.split('*').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let found = match (is_first, is_last) {
            (true, true) => (rest.len() == part.len() && equals(part, rest)).then_some(0),
            (true, false) => starts(part, rest).then_some(0),
            (false, true) => {
                rest.len().checked_sub(part.len()).filter(|&at| rest.is_char_boundary(at) && starts(part, &rest[at..]))
            }
            (false, false) => (0..=rest.len()).find(|&at| rest.is_char_boundary(at) && starts(part, &rest[at..])),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
        is_first = false;
    }
    true
}

fn starts(part: &str, text: &str) -> bool {
    text.len() >= part.len() && text.is_char_boundary(part.len()) && equals(part, &text[..part.len()])
}

fn equals(part: &str, text: &str) -> bool {
    part.bytes().zip(text.bytes()).all(|(p, t)| p == b'?' || p == t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr::{LoadableYamlNode, YamlOwned};
    use std::collections::BTreeSet;

    #[test]
    fn a_pattern_of_iam_matches_as_documented() {
        for (pattern, text, expected) in [
            ("sqs:SendMessage", "sqs:SendMessage", true),
            ("sqs:SendMessage", "sqs:SendMessageBatch", false),
            ("sqs:*", "sqs:SendMessage", true),
            ("*", "anything", true),
            ("arn:aws:dynamodb:*:table/t*", "arn:aws:dynamodb:us-east-1:1:table/t-1", true),
            ("arn:aws:dynamodb:*:table/t", "arn:aws:dynamodb:us-east-1:1:table/t-1", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// The actions that the template grants to a role unconditionally. `dynamodb:ListStreams` is left out: Lambda asks for it,
    /// and works without.
    fn granted(role: &str) -> BTreeSet<String> {
        let template = YamlOwned::load_from_str(include_str!("../../../../template.yaml")).unwrap();
        let get = |yaml: &YamlOwned, name: &str| yaml.as_mapping_get(name).unwrap().clone();
        let policies = get(&get(&get(&template[0], "Resources"), role), "Properties");
        let policy = get(&get(&policies, "Policies").as_sequence().unwrap()[0], "PolicyDocument");
        let mut actions = BTreeSet::new();
        for statement in get(&policy, "Statement").as_sequence().unwrap() {
            // A statement with a condition of the template is a sequence, !If.
            let Some(action) = statement.as_mapping_get("Action") else { continue };
            match action.as_sequence() {
                Some(several) => actions.extend(several.iter().map(|action| action.as_str().unwrap().to_owned())),
                None => _ = actions.insert(action.as_str().unwrap().to_owned()),
            }
        }
        actions.remove("dynamodb:ListStreams");
        actions
    }

    #[test]
    fn the_needed_permissions_are_those_that_the_template_grants() {
        for (role, needed) in [("IngestRole", INGEST), ("PublisherRole", PUBLISHER), ("DownstreamRole", DOWNSTREAM)] {
            let needed: BTreeSet<String> = needed.iter().map(|(action, _)| (*action).to_owned()).collect();
            assert_eq!(needed, granted(role), "{role}");
        }
    }
}
