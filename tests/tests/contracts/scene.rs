//! Random inputs, and keys.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sosna_host::identity::IdentityKey;
pub(crate) use sosna_tests::chain::{Wallet, chain};

/// Inputs that are the same in every run.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A key by number.
pub(crate) fn key(number: u64) -> IdentityKey {
    let mut bytes = [0x51; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    IdentityKey::from_bytes(bytes).unwrap()
}
