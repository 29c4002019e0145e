//! Tables as `template.yaml` defines them: keys, indexes and stream.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, GlobalSecondaryIndex, KeySchemaElement, Projection, StreamSpecification,
};
use saphyr::{LoadableYamlNode, YamlOwned};

/// Creates the table that a resource of the template defines, under another name.
pub(crate) async fn create_table(client: &Client, resource: &str, name: &str) {
    let template = YamlOwned::load_from_str(include_str!("../../../../template.yaml")).unwrap();
    let properties = get(get(get(&template[0], "Resources"), resource), "Properties");
    let attributes = sequence(properties, "AttributeDefinitions").map(attribute).collect();
    let indexes: Vec<_> = sequence(properties, "GlobalSecondaryIndexes").map(index).collect();
    let stream = properties.as_mapping_get("StreamSpecification").map(stream);
    client
        .create_table()
        .table_name(name)
        .billing_mode(text(properties, "BillingMode").into())
        .set_attribute_definitions(Some(attributes))
        .set_key_schema(Some(keys(properties)))
        .set_global_secondary_indexes(Some(indexes).filter(|indexes| !indexes.is_empty()))
        .set_stream_specification(stream)
        .send()
        .await
        .unwrap();
}

fn attribute(yaml: &YamlOwned) -> AttributeDefinition {
    AttributeDefinition::builder()
        .attribute_name(text(yaml, "AttributeName"))
        .attribute_type(text(yaml, "AttributeType").into())
        .build()
        .unwrap()
}

fn keys(yaml: &YamlOwned) -> Vec<KeySchemaElement> {
    sequence(yaml, "KeySchema").map(key).collect()
}

fn key(yaml: &YamlOwned) -> KeySchemaElement {
    KeySchemaElement::builder()
        .attribute_name(text(yaml, "AttributeName"))
        .key_type(text(yaml, "KeyType").into())
        .build()
        .unwrap()
}

fn index(yaml: &YamlOwned) -> GlobalSecondaryIndex {
    let projection = get(yaml, "Projection");
    let attributes: Vec<_> =
        sequence(projection, "NonKeyAttributes").map(|name| name.as_str().unwrap().to_owned()).collect();
    let projection = Projection::builder()
        .projection_type(text(projection, "ProjectionType").into())
        .set_non_key_attributes(Some(attributes).filter(|attributes| !attributes.is_empty()))
        .build();
    GlobalSecondaryIndex::builder()
        .index_name(text(yaml, "IndexName"))
        .set_key_schema(Some(keys(yaml)))
        .projection(projection)
        .build()
        .unwrap()
}

fn stream(yaml: &YamlOwned) -> StreamSpecification {
    let view = text(yaml, "StreamViewType").into();
    StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build().unwrap()
}

fn get<'a>(yaml: &'a YamlOwned, name: &str) -> &'a YamlOwned {
    yaml.as_mapping_get(name).unwrap_or_else(|| panic!("template.yaml: {name} is missing"))
}

fn text<'a>(yaml: &'a YamlOwned, name: &str) -> &'a str {
    get(yaml, name).as_str().unwrap()
}

/// The elements of a sequence; none if it is missing.
fn sequence<'a>(yaml: &'a YamlOwned, name: &str) -> impl Iterator<Item = &'a YamlOwned> {
    yaml.as_mapping_get(name).and_then(YamlOwned::as_sequence).into_iter().flatten()
}
