//! What Lambda gives a function, and its price.

/// Open files and sockets of a function.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#function-configuration-deployment-and-execution>
pub(crate) const FILE_DESCRIPTORS: u64 = 1_024;

/// Memory setting, in megabytes, that comes with one whole CPU.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
pub(crate) const MEGABYTES_OF_A_CPU: u64 = 1_769;

/// US dollars per gigabyte-second, on x86 in us-east-1. On arm64 it is a fifth less.
/// <https://aws.amazon.com/lambda/pricing/>
pub(crate) const DOLLARS_PER_GIGABYTE_SECOND: f64 = 0.000_016_666_7;
