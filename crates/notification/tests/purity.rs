//! The domain crate depends on no AWS crate, no Lambda crate and no async runtime, as `cargo metadata` resolves it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeSet, HashMap};

#[test]
fn the_domain_crate_depends_on_no_aws_no_lambda_and_no_async_runtime() {
    let rustc = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let host =
        String::from_utf8(rustc.stdout).unwrap().lines().find_map(|l| l.strip_prefix("host: ").map(String::from));
    // Only this host's dependencies are downloaded, and they are enough for this check.
    let options = vec!["--offline".into(), "--locked".into(), "--filter-platform".into(), host.unwrap()];
    let metadata = MetadataCommand::new().other_options(options).exec().unwrap();
    let resolve = metadata.resolve.as_ref().unwrap();
    let names: HashMap<_, _> = metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();

    let start = metadata.packages.iter().find(|package| package.name.as_str() == "notification").unwrap();
    let mut seen = BTreeSet::new();
    let mut todo = vec![&start.id];
    while let Some(id) = todo.pop() {
        for dependency in &nodes[id].deps {
            let shipped = dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
            if shipped && seen.insert(names[&dependency.pkg]) {
                todo.push(&dependency.pkg);
            }
        }
    }

    assert!(seen.contains("serde_json"), "the walk found nothing: {seen:?}");
    let forbidden = ["aws", "lambda", "tokio", "async-std", "smol", "futures-executor", "hyper", "reqwest"];
    let found: Vec<_> = seen.iter().filter(|name| forbidden.iter().any(|word| name.contains(word))).collect();
    assert!(found.is_empty(), "the domain crate must stay pure, but it depends on {found:?}");
}
