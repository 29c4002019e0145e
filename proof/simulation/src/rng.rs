//! Randomness by name: each question has its own generator, so that leaving one out does not change the answers to the
//! others.

use fastrand::Rng;

/// The generator for a question.
pub(crate) fn of(seed: u64, question: &str) -> Rng {
    Rng::with_seed(mix(question.bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)))))
}

/// The generator for a question that is asked many times.
pub(crate) fn numbered(seed: u64, question: &str, number: u64) -> Rng {
    Rng::with_seed(mix(question.bytes().fold(mix(seed ^ mix(number)), |hash, byte| mix(hash ^ u64::from(byte)))))
}

/// The finisher of SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
