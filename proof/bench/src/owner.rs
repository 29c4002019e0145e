//! The owners of the work in a profile, by the crate of a source file or a symbol.

const ALLOCATOR: &str = "allocator";

/// The owner of what has no other owner.
pub(crate) const REST: &str = "rest (standard library, C library)";

/// The owners, and how the names of their crates begin (with `_` for `-`). The longest beginning decides.
pub(crate) const OWNERS: [(&str, &[&str]); 11] = [
    ("this project", &["notification", "ingest", "publisher", "downstream", "actions", "aws"]),
    ("reading JSON (serde_json)", &["serde"]),
    ("AWS SDK", &["aws_"]),
    ("signing (SigV4, SHA-256)", &["aws_sigv4", "sha2", "hmac", "digest", "block_buffer", "crypto_common"]),
    ("TLS", &["aws_lc", "rustls", "webpki", "tokio_rustls"]),
    ("HTTP (hyper)", &["hyper", "http", "tower", "h2"]),
    ("Lambda runtime", &["lambda_runtime"]),
    ("tokio, futures", &["tokio", "futures", "mio"]),
    ("logs, metrics", &["tracing", "metrics"]),
    (ALLOCATOR, &["mimalloc", "libmimalloc"]),
    (REST, &[]),
];

/// The functions of the C library's allocator.
const ALLOCATING: [&str; 9] = [
    "malloc",
    "_int_malloc",
    "free",
    "cfree",
    "_int_free",
    "realloc",
    "_int_realloc",
    "malloc_consolidate",
    "unlink_chunk",
];

/// The owner of a crate. `None` for the standard library and for utility crates, whose work belongs to their caller.
fn of_crate(name: &str) -> Option<&'static str> {
    let name = name.replace('-', "_");
    let beginnings = OWNERS.iter().flat_map(|(owner, beginnings)| beginnings.iter().map(move |b| (b, *owner)));
    let matching = beginnings.filter(|(beginning, _)| name.starts_with(**beginning));
    matching.max_by_key(|(beginning, _)| beginning.len()).map(|(_, owner)| owner)
}

/// The owner of a source file, by its path: in cargo's registry, or in this workspace.
pub(crate) fn of_file(path: &str) -> Option<&'static str> {
    if let Some((_, registry)) = path.split_once("/registry/src/") {
        let directory = registry.split('/').nth(1)?;
        let name = directory.rsplit_once('-').map_or(directory, |(name, _)| name);
        return of_crate(name);
    }
    let (_, here) = path.split_once("crates/")?;
    of_crate(here.split('/').next()?)
}

/// The owner of a symbol: the first crate in it that has an owner, such as the SDK in
/// `core::ptr::drop_in_place<aws_sdk_kinesis::…>`.
pub(crate) fn of_symbol(symbol: &str) -> Option<&'static str> {
    let plain = symbol.split(['.', '@']).next().unwrap_or(symbol);
    if ALLOCATING.contains(&plain) || plain.starts_with("mi_") || plain.starts_with("_mi_") {
        return Some(ALLOCATOR);
    }
    let paths = symbol.split("::").map(|part| part.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next());
    // The part after the last "::" is not a crate.
    let crates = symbol.matches("::").count();
    paths.take(crates).flatten().find_map(of_crate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_its_crate() {
        let registry = "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        let of = |path: &str| of_file(&format!("{registry}/{path}"));
        assert_eq!(of("aws-sdk-dynamodb-1.136.0/src/a.rs"), Some("AWS SDK"));
        assert_eq!(of("aws-sigv4-1.6.4/src/a.rs"), Some("signing (SigV4, SHA-256)"));
        assert_eq!(of("aws-lc-sys-0.47.0/aws-lc/crypto/a.c"), Some("TLS"));
        assert_eq!(of("itoa-1.0.19/src/lib.rs"), None);
        assert_eq!(of_file("/x/y/crates/publisher/src/record.rs"), Some("this project"));
        assert_eq!(of_file("/rustc/abc/library/core/src/str/mod.rs"), None);
    }

    #[test]
    fn a_symbol_belongs_to_the_first_crate_in_it_that_has_an_owner() {
        let of = of_symbol;
        assert_eq!(
            of("<serde_json::read::SliceRead as serde_json::read::Read>::ignore_str"),
            Some("reading JSON (serde_json)")
        );
        assert_eq!(of("core::ptr::drop_in_place<aws_sdk_kinesis::types::Record>"), Some("AWS SDK"));
        assert_eq!(of("<alloc::vec::Vec<T> as core::iter::FromIterator>::from_iter"), None);
        assert_eq!(of("_int_free"), Some("allocator"));
        assert_eq!(of("unlink_chunk.constprop.0"), Some("allocator"));
        assert_eq!(of("cfree@GLIBC_2.2.5"), Some("allocator"));
        assert_eq!(of("_mi_page_malloc"), Some("allocator"));
        assert_eq!(of("notification"), None, "a symbol that is not a path");
    }
}
