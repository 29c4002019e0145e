//! Any environment: nothing panics, and each refusal is one line that names the variable.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "bad_input/check.rs"]
mod check;
#[path = "../../notification/tests/bad_input/generate.rs"]
mod generate;

use aws::Environment;
use aws::config;
use check::NAMES;
use generate::config;
use proptest::prelude::*;

/// Values that are almost valid, and any others.
fn value() -> impl Strategy<Value = String> {
    let near = prop::sample::select(vec![
        "",
        "0",
        "35",
        "36",
        "036",
        "+36",
        "-1",
        "36.0",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        " 90",
        "90\n",
        "９０",
    ]);
    prop_oneof![near.prop_map(str::to_owned), any::<String>(), any::<u64>().prop_map(|number| number.to_string())]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_setting_is_valid_or_refused_with_its_name(
        values in prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), value(), 0..=NAMES.len()),
    ) {
        check::environment(&values.into_iter().collect());
    }
}

#[tokio::test]
async fn the_sdk_accepts_any_region_that_is_not_empty() {
    for region in ["eu-central-1", " ", "\n", "\u{0}", "no such region", "日本"] {
        let environment = Environment::from_iter([("AWS_REGION", region)]);
        assert_eq!(config::sdk(&environment).await.unwrap().region().unwrap().as_ref(), region);
    }
    let empty = Environment::from_iter([("AWS_REGION", "")]);
    assert!(check::named("AWS_REGION", config::sdk(&empty).await).is_none());
}
