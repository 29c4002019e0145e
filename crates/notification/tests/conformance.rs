//! The rules of CloudEvents 1.0.2 for events in JSON, rule by rule, and its examples.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes>
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use notification::id::InvalidId;
use notification::{Malformed, Notification};

/// The examples of the JSON format (3.2, with those that 1.0.3 adds) and of the core specification, with real base64 in place
/// of "... base64 encoded string ...".
const EXAMPLES: [&str; 7] = [
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "A234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/vnd.apache.thrift.binary",
        "data_base64" : "Zm9vYg=="
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "B234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "unsetextension": null,
        "datacontenttype" : "application/xml",
        "data" : "<much wow=\"xml\"/>"
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "subject": null,
        "id" : "C234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/json",
        "data" : {
            "appinfoA" : "abc",
            "appinfoB" : 123,
            "appinfoC" : true
        }
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "subject": null,
        "id" : "C234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/json",
        "data" : 1.5
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "subject": null,
        "id" : "D234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "data" : "I'm just a string"
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "D234-1234-1234",
        "data_base64" : "eyAieHl6IjogMTIzIH0="
    }"#,
    r#"{
        "specversion" : "1.0",
        "type" : "com.github.pull_request.opened",
        "source" : "https://github.com/cloudevents/spec/pull",
        "subject" : "123",
        "id" : "A234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "text/xml",
        "data" : "<much wow=\"xml\"/>"
    }"#,
];

/// An event with a member of this name and JSON value.
fn with(name: &str, value: &str) -> String {
    let required = [("specversion", "\"1.0\""), ("id", "\"a\""), ("source", "\"s\""), ("type", "\"t\"")];
    let others =
        required.iter().filter(|(other, _)| *other != name).map(|(name, value)| format!(",\"{name}\":{value}"));
    format!("{{\"{name}\":{value}{}}}", others.collect::<String>())
}

fn check(event: &str, expected: &Malformed) {
    assert_eq!(Notification::parse(event).unwrap_err(), *expected, "{event}");
}

#[test]
fn the_examples_of_the_specification_are_accepted() {
    for example in EXAMPLES {
        assert!(Notification::parse(example).is_ok(), "{example}");
    }
}

#[test]
fn a_batch_of_events_is_not_an_event() {
    check(&format!("[{}]", EXAMPLES[0]), &Malformed::NotAnObject);
}

#[test]
fn the_examples_of_each_attribute_are_accepted() {
    for (attribute, value) in [
        ("subject", "larger-context"),
        ("subject", "mynewfile.jpg"),
        ("subject", "partnerid/5:clientid/100"),
        ("datacontenttype", "application/json"),
        ("datacontenttype", "text/xml"),
        ("datacontenttype", "image/png"),
        ("datacontenttype", "multipart/form-data"),
        ("datacontenttype", "TEXT/Plain; CharSet=utf-8"),
        ("dataschema", "https://example.com/schema#v1"),
        ("data_base64", "Zm9vYg=="),
    ] {
        let event = with(attribute, &format!("\"{value}\""));
        assert!(Notification::parse(event.as_str()).is_ok(), "{event}");
    }
    for source in [
        "https://github.com/cloudevents",
        "mailto:cncf-wg-serverless@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "cloudevents/spec/pull/123",
        "/sensors/tn-1234567/alerts",
        "1-555-123-4567",
    ] {
        assert_eq!(Notification::parse(with("source", &format!("\"{source}\""))).unwrap().source(), source);
    }
}

#[test]
fn an_attribute_that_is_null_is_absent() {
    for attribute in ["specversion", "id", "source", "type"] {
        check(&with(attribute, "null"), &Malformed::Missing { attribute });
    }
    for attribute in ["subject", "datacontenttype", "dataschema", "time", "data_base64"] {
        assert!(Notification::parse(with(attribute, "null")).is_ok(), "{attribute}");
    }
    assert!(Notification::parse(with("data_base64", "null,\"data\":1")).is_ok());
    assert_eq!(Notification::parse(with("data", "null")).unwrap().data(), Some("null"));
    check(&with("data_base64", "\"\",\"data\":null"), &Malformed::TwoPayloads);
}

#[test]
fn no_attribute_of_the_specification_may_occur_twice() {
    for attribute in [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "datacontenttype",
        "dataschema",
        "time",
        "data",
        "data_base64",
    ] {
        for value in ["null", "\"x\"", "{}"] {
            check(&format!("{{\"{attribute}\":{value},\"{attribute}\":{value}}}"), &Malformed::AttributeTwice);
        }
    }
}

#[test]
fn an_attribute_is_a_string_that_is_not_empty() {
    for attribute in
        ["specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time", "data_base64"]
    {
        for value in ["1", "true", "{}", r#"["a"]"#, r#""\ud800""#] {
            check(&with(attribute, value), &Malformed::NotAString { attribute });
        }
    }
    for attribute in ["specversion", "source", "type", "subject", "datacontenttype", "dataschema"] {
        check(&with(attribute, "\"\""), &Malformed::Empty { attribute });
    }
    check(&with("id", "\"\""), &Malformed::Id(InvalidId::Empty));
}

#[test]
fn extension_attributes_are_not_read() {
    for (name, value) in
        [("unsetextension", "null"), ("Odd_Name", "1.5"), ("nested", r#"{"a":[]}"#), ("ext", "1,\"ext\":2")]
    {
        assert!(Notification::parse(with(name, value)).is_ok(), "{name}");
    }
}

#[test]
fn time_is_rfc_3339_and_nothing_else() {
    for time in ["2026-11-22T10:00:00.1234567890123Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00-00:00"] {
        assert!(Notification::parse(with("time", &format!("\"{time}\""))).is_ok(), "{time}");
    }
    for time in ["", "2026-11-22", "2026-11-22T10Z", "2026-11-22T10:00:00Z[UTC]", "2026-11-22T10:00:00+25:30"] {
        check(&with("time", &format!("\"{time}\"")), &Malformed::Time);
    }
}

#[test]
fn a_content_type_names_a_type_and_a_subtype() {
    for value in ["json", "application/", "/json", "application/json/x", "application /json", "a b/c", "text/é", ";a=b"]
    {
        check(&with("datacontenttype", &format!("\"{value}\"")), &Malformed::ContentType);
    }
}

#[test]
fn binary_data_is_base64() {
    for value in ["", "AA==", "AAA=", "AAAA", "+\\/+\\/", "+/09azAZ"] {
        assert!(Notification::parse(with("data_base64", &format!("\"{value}\""))).is_ok(), "{value}");
    }
    for value in ["A", "AA", "AAA", "A===", "====", "AA=A", "AA==AAAA", "AA-_", "AAAA\\n", " AAA", "é=="] {
        check(&with("data_base64", &format!("\"{value}\"")), &Malformed::Base64);
    }
}

#[test]
fn control_characters_and_noncharacters_are_refused_and_their_neighbours_are_not() {
    for forbidden in ['\0', '\u{1f}', '\u{7f}', '\u{9f}', '\u{fdd0}', '\u{fdef}', '\u{fffe}', '\u{ffff}', '\u{10ffff}']
    {
        for attribute in ["source", "type", "subject", "datacontenttype", "dataschema"] {
            let value = serde_json::json!(format!("a/b{forbidden}")).to_string();
            check(&with(attribute, &value), &Malformed::ForbiddenCharacter { attribute });
        }
        let id = serde_json::json!(forbidden).to_string();
        check(&with("id", &id), &Malformed::Id(InvalidId::ForbiddenCharacter));
    }
    for allowed in [' ', '~', '\u{a0}', '\u{fdcf}', '\u{fdf0}', '\u{fffd}', '\u{10000}', '\u{10fffd}'] {
        assert!(Notification::parse(with("subject", &format!("\"{allowed}\""))).is_ok(), "{allowed:?}");
    }
}
